//! Why a member does not start.
//!
//! Owns: the list of causes, and which of them the settings are to blame for. Must not know: how a
//! member starts. A newcomer's trap: what is printed is one line, so each cause says all by itself.

use kijabi_disk::lock::DataDirError;
use kijabi_disk::wal::WalError;
use kijabi_machine::state::StateError;

use crate::access::BadTokenOptions;
use crate::cluster::departure;
use crate::consensus::ConsensusError;
use crate::error::Error;
use crate::fatal::MemberError;
use crate::identity::IdentityError;
use crate::ports::PortError;

/// Why a member did not start: one clear line, exit code 1.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] pub(super) Cause);

impl StartError {
    /// Whether somebody must change the settings before another try: exit code 2.
    // Differs from etcd: its exit code is 1, too, for what its flags could have told.
    pub fn is_usage(&self) -> bool {
        matches!(self.0, Cause::Port(_) | Cause::Identity(IdentityError::Config(_)))
    }
}

/// One of them.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("failed to mlock: {0}")]
    Memory(std::io::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    #[error(transparent)]
    Tokens(#[from] BadTokenOptions),
    #[error("{}; data-dir used by this member must be removed", departure::REMOVED)]
    Removed,
    #[error(transparent)]
    Stopped(MemberError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the member did not become ready: {0}")]
    NotReady(Error),
}

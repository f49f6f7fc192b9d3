//! Why a command or a read was refused.
//!
//! Owns: the decisions a caller can take. Must not know: gRPC codes or texts; the server's
//! `status.rs` maps each variant to etcd's own. A newcomer's trap: an error in an applied command
//! is an answer like any other, deterministic on every member, and changes nothing; only
//! [`StateError`](crate::state::StateError) means this member cannot go on.

use crate::auth::AuthError;
use crate::state::StateError;

/// Why a command or a read was refused; each variant is one of etcd's errors.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No key given.
    #[error("key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that is not there, or an empty operation.
    #[error("key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// A transaction beyond the limit of operations or of nesting.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// A transaction that changes one key twice.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// An unknown sort order or target.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// The revision asked for has been compacted.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision asked for does not exist yet.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// The alarm NOSPACE is on.
    #[error("database space exceeded")]
    NoSpace,
    /// The alarm CORRUPT is on.
    #[error("corrupt cluster")]
    Corrupt,
    /// No such lease.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The lease id is taken.
    #[error("lease already exists")]
    LeaseExists,
    /// The time to live is beyond etcd's maximum.
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// This member does not keep the leases' time (it is not the leader, or not yet).
    #[error("not a primary lessor")]
    NotPrimaryLessor,
    /// The answer to a command would hold more than [`ANSWER_BYTES_MAX`] of values.
    ///
    /// [`ANSWER_BYTES_MAX`]: kijabi_base::limits::ANSWER_BYTES_MAX
    #[error("answer is too large")]
    AnswerTooLarge,
    /// Users, roles, permissions.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A command that this version does not know.
    #[error("unknown command")]
    UnknownCommand,
    /// The durable state could not be read: the member must stop.
    #[error(transparent)]
    State(#[from] StateError),
}

//! Backups: etcd's snapshot files made from a member's state, and new members made from them.
//!
//! Owns: what the commands `kijabi backup`, `import` and `export` do, and the file that the RPC
//! `Snapshot` sends. Must not know: command lines. A newcomer's trap: a snapshot file *is* an etcd
//! database with a SHA-256 behind it, so whatever is restored here can be restored by etcd's own
//! tools, and the other way round; Raft's own state is never in it.

mod client;
mod export;
mod import;
mod offline;
mod replay;
mod replay_auth;
mod restore;
mod snapshot_file;
mod status;

use std::io;
use std::path::{Path, PathBuf};

use kijabi_disk::bbolt::BboltError;
use kijabi_disk::etcd_wal::EtcdWalError;
use kijabi_disk::lock::DataDirError;
use kijabi_disk::wal::WalError;
use kijabi_machine::exchange::ExchangeError;
use kijabi_machine::state::StateError;

pub use client::{Endpoint, EndpointHash, Saved, hash_of_endpoint, save};
pub(crate) use export::write_database;
pub use import::{Import, Source};
pub use offline::export;
pub use restore::{NewMember, Restored};
pub use snapshot_file::{HashCheck, SnapshotFile};
pub use status::{FileHash, FileStatus};

/// Why a backup was not made, not read, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system's answer about a file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// A file is no bbolt database, or a damaged one.
    #[error("{}: {source}", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: BboltError,
    },
    /// A database holds something else than etcd's tables.
    #[error("{}: {source}", path.display())]
    Rows {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: ExchangeError,
    },
    /// A snapshot without its hash; the text is etcd's.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoHash,
    /// A snapshot with another hash than it should have; the text is etcd's.
    #[error("expected sha256 {expected}, got {found}")]
    WrongHash {
        /// What is written at its end.
        expected: String,
        /// What it has.
        found: String,
    },
    /// The place where the new member should be made is taken; the text is etcd's.
    #[error("data-dir {0:?} not empty or could not be read")]
    DataDirTaken(PathBuf),
    /// The folder given for the log exists; the text is etcd's.
    #[error("wal-dir {0:?} exists")]
    WalDirTaken(PathBuf),
    /// There is no member in the folder.
    #[error("{} is not the data folder of a member", .0.display())]
    NoMember(PathBuf),
    /// Settings that do not go together.
    #[error("{0}")]
    Settings(String),
    /// The new or the old data folder.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The Raft log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The log of an etcd member.
    #[error("etcd's log: {0}")]
    EtcdWal(#[from] EtcdWalError),
    /// A member could not be asked, or refused.
    #[error("{endpoint}: {why}")]
    Endpoint {
        /// Which.
        endpoint: String,
        /// Why.
        why: String,
    },
}

impl BackupError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    fn database(path: &Path) -> impl FnOnce(BboltError) -> Self + '_ {
        move |source| Self::Database { path: path.to_owned(), source }
    }

    fn rows(path: &Path) -> impl FnOnce(ExchangeError) -> Self + '_ {
        move |source| Self::Rows { path: path.to_owned(), source }
    }
}

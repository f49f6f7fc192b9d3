//! What can go wrong with the Raft log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the Raft log cannot be opened, read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// The operating system refused.
    #[error("raft log: {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        source: Arc<io::Error>,
    },
    /// A file holds something that was never written. What follows it was acknowledged, so it is
    /// not cut off: restore the member from the others or from a backup.
    #[error("raft log: {} is corrupt at offset {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The caller broke the log's order (a hole, or an index that is taken).
    #[error("raft log: {0}")]
    Order(String),
    /// A record is longer than a frame may be; nothing was written.
    #[error("raft log: entry {index} is too large: {bytes} bytes, at most {bytes_max} fit a frame")]
    TooLarge {
        /// The entry; 0 for a vote.
        index: u64,
        /// Its size in a frame.
        bytes: usize,
        /// What a frame holds.
        bytes_max: usize,
    },
    /// An earlier write failed; nothing can be written until the member is restarted, because
    /// nobody knows what of it reached the disk.
    #[error("raft log: stopped after a failed write: {0}")]
    Failed(Arc<str>),
    /// The log was closed.
    #[error("raft log: closed")]
    Closed,
}

impl WalError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source: Arc::new(source) }
    }

    pub(crate) fn corrupt(path: impl Into<PathBuf>, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), offset, what: what.into() }
    }
}

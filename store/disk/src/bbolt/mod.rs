//! bbolt files, the format of etcd's database and of its snapshots: read, and written in bulk.
//!
//! Owns: pages, trees and checksums of that format. Must not know: what etcd keeps in them. A
//! newcomer's trap: only the two meta pages carry a checksum, so a file that opens may still be
//! damaged; a reader therefore checks each page and the order of all keys as it goes, which also
//! ends every cycle. The crates that read bbolt map the file into memory and trust its pages.

mod page;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::io;

pub use reader::{Bucket, Reader, VisitPair};
pub use writer::Writer;

/// Why a bbolt file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BboltError {
    /// The operating system's answer.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Neither meta page is one.
    #[error("not a bbolt database: {0}")]
    NotBbolt(&'static str),
    /// A page is not what the format allows.
    #[error("page {page} is corrupt: {what}")]
    Corrupt {
        /// The page's number.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Something that the format cannot hold was to be written.
    #[error("cannot be written: {0}")]
    Unwritable(&'static str),
}

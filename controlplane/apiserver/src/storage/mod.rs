//! The only place that talks to the store, by the etcd v3 API and nothing else.
//!
//! Owns: keys, the compare-and-swap writes, pages of reads, watches, leases and compaction. Must
//! not know: what an object means; a value is bytes with a revision. A newcomer's trap: a write
//! whose answer got lost may have happened, so no write here is ever sent twice.

mod client;
mod compactor;
mod error;
mod key;
mod lease;
mod record;
#[cfg(test)]
mod tests;
mod watch;

pub use client::{Cas, Client, Page};
pub use compactor::run_compactor;
pub use error::StoreError;
pub use key::{Key, KeyRange};
pub use lease::LeasePool;
pub use record::{Record, decode, encode};
pub use watch::{Change, Feed, FeedItem};

/// A revision of the store; an object's resourceVersion is the revision of its last write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

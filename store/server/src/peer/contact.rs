//! When this member last heard from a leader.
//!
//! Owns: that one moment. Must not know: who ought to lead. A newcomer's trap: Raft goes on naming
//! a leader until it knows of another one; a client wants to know whether there is one *now*.

use std::sync::Arc;
use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use parking_lot::Mutex;

/// The last sign of life of a leader. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact(Arc<Mutex<Option<(u64, Instant)>>>);

// === impl Contact ===

impl Contact {
    /// Raft has accepted something of this leader.
    pub(crate) fn heard(&self, leader: u64) {
        *self.0.lock() = Some((leader, clock::now()));
    }

    /// Whether this leader was heard of within `limit`.
    pub(crate) fn is_recent(&self, leader: u64, limit: Duration) -> bool {
        self.0.lock().is_some_and(|(heard, at)| heard == leader && at.elapsed() < limit)
    }
}

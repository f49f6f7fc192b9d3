//! When this member last heard from a leader.
//!
//! Owns: that one moment. Must not know: who ought to lead. A newcomer's trap: Raft goes on naming
//! a leader until it knows of another one; a client wants to know whether there is one *now*.

use std::sync::Arc;
use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use parking_lot::Mutex;
use tokio::sync::watch;

/// The last sign of life of a leader. Cloning shares.
#[derive(Clone, Debug)]
pub(crate) struct Contact(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    last: Mutex<Option<(u64, Instant)>>,
    /// Whose it was.
    leader: watch::Sender<u64>,
}

// === impl Contact ===

impl Default for Contact {
    fn default() -> Self {
        Self(Arc::new(Inner { last: Mutex::default(), leader: watch::Sender::new(0) }))
    }
}

impl Contact {
    /// Raft has accepted something of this leader.
    pub(crate) fn heard(&self, leader: u64) {
        let before = self.0.last.lock().replace((leader, clock::now()));
        if before.is_none_or(|(other, _)| other != leader) {
            self.0.leader.send_replace(leader);
        }
    }

    /// Changes when another leader is heard of than the one before.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.0.leader.subscribe()
    }

    /// Whether this leader was heard of within `limit`.
    pub(crate) fn is_recent(&self, leader: u64, limit: Duration) -> bool {
        self.0.last.lock().is_some_and(|(heard, at)| heard == leader && at.elapsed() < limit)
    }
}

//! Which commits somebody at another member waits for.
//!
//! Owns: what the other members have asked this one for. Must not know: connections, or what is in
//! the log. A newcomer's trap: it is a hint. A commit that is not known to be waited for comes to
//! the member all the same, only not at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// By member; no more of them than have asked, which only members can. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Awaited(Arc<Mutex<BTreeMap<u64, Arc<Waiting>>>>);

/// What is waited for at one member.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Batches of its that are not applied here yet.
    proposals: AtomicUsize,
    /// The entry that has to be known there as committed.
    index: AtomicU64,
    raised: Notify,
}

/// A batch that a member has proposed.
pub(crate) struct Proposed(Arc<Waiting>);

// === impl Awaited ===

impl Awaited {
    pub(super) fn at(&self, member: u64) -> Arc<Waiting> {
        Arc::clone(self.0.lock().entry(member).or_default())
    }

    /// A member has proposed a batch.
    pub(crate) fn proposed(&self, member: u64) -> Proposed {
        let waiting = self.at(member);
        waiting.proposals.fetch_add(1, Ordering::AcqRel);
        Proposed(waiting)
    }

    /// A member waits until it has applied what was committed up to `index`.
    pub(crate) fn reads(&self, member: u64, index: u64) {
        self.at(member).raise(index);
    }
}

// === impl Waiting ===

impl Waiting {
    /// Whether somebody waits there for more than that what is committed up to `told` is so.
    pub(super) fn for_more_than(&self, told: u64) -> bool {
        self.proposals.load(Ordering::Acquire) > 0 || self.index.load(Ordering::Acquire) > told
    }

    /// Somebody waits for another entry.
    pub(super) async fn raised(&self) {
        self.raised.notified().await;
    }

    fn raise(&self, index: u64) {
        if self.index.fetch_max(index, Ordering::AcqRel) < index {
            self.raised.notify_one();
        }
    }
}

// === impl Proposed ===

impl Proposed {
    /// It is committed at `index`.
    pub(crate) fn committed(&self, index: u64) {
        self.0.raise(index);
    }
}

impl Drop for Proposed {
    fn drop(&mut self) {
        self.0.proposals.fetch_sub(1, Ordering::AcqRel);
    }
}

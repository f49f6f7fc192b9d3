//! How many watch streams and watches there are.
//!
//! Owns: the sums over all streams. Must not know: what is watched. A newcomer's trap: each stream has
//! its share, which goes with it, so that a stream that ends in whatever way is counted out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The sums.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    streams: AtomicI64,
    watches: AtomicI64,
    behind: AtomicI64,
    previous: AtomicI64,
}

/// What one stream adds.
#[derive(Debug)]
pub(super) struct Share {
    tally: Arc<Tally>,
    watches: i64,
    behind: i64,
    previous: i64,
}

// === impl Tally ===

impl Tally {
    /// Open streams.
    pub(crate) fn streams(&self) -> i64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Watches on them.
    pub(crate) fn watches(&self) -> i64 {
        self.watches.load(Ordering::Relaxed)
    }

    /// Those of them that are not up to date.
    pub(crate) fn behind(&self) -> i64 {
        self.behind.load(Ordering::Relaxed)
    }

    /// Whether somebody wants previous values.
    pub(crate) fn wants_previous(&self) -> bool {
        self.previous.load(Ordering::Relaxed) > 0
    }
}

// === impl Share ===

impl Share {
    /// Of a stream that begins.
    pub(super) fn new(tally: &Arc<Tally>) -> Self {
        tally.streams.fetch_add(1, Ordering::Relaxed);
        Self { tally: Arc::clone(tally), watches: 0, behind: 0, previous: 0 }
    }

    /// The stream has so many watches now.
    pub(super) fn set(&mut self, watches: usize, behind: usize) {
        let (watches, behind) = (watches as i64, behind as i64);
        self.tally.watches.fetch_add(watches - self.watches, Ordering::Relaxed);
        self.tally.behind.fetch_add(behind - self.behind, Ordering::Relaxed);
        (self.watches, self.behind) = (watches, behind);
    }

    /// A watch wants previous values, or one that did has left.
    pub(super) fn previous(&mut self, change: i64) {
        self.previous += change;
        self.tally.previous.fetch_add(change, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0, 0);
        self.previous(-self.previous);
        self.tally.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_ends_is_counted_out() {
        let tally = Arc::new(Tally::default());
        let mut one = Share::new(&tally);
        let mut other = Share::new(&tally);
        one.set(3, 1);
        other.set(2, 0);
        one.set(4, 0);
        one.previous(1);
        assert_eq!((tally.streams(), tally.watches(), tally.behind()), (2, 6, 0));
        assert!(tally.wants_previous());
        drop(one);
        assert_eq!((tally.streams(), tally.watches(), tally.behind()), (1, 2, 0));
        assert!(!tally.wants_previous());
    }
}

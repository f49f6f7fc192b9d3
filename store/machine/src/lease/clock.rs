//! How late it is for leases: milliseconds that a cluster was able to write while it had leases.
//!
//! Owns: that clock. Must not know: leases. A newcomer's trap: each member has its own estimate. It
//! may be behind the others' but never runs faster than time itself, so no lease ends early by it.
//! It stands still while nothing about leases comes through the log: without a quorum, with a disk
//! that hangs, or while the whole cluster is down, leases lose no time (LEASE-1).

/// How far the clock goes without news from the log. More than [`STAMP_INTERVAL_MS`], so that it
/// runs evenly while there is a leader.
pub(super) const UNSTAMPED_MS_MAX: i64 = 1_500;
/// How old the newest stamp in the log may become while there are leases.
pub(super) const STAMP_INTERVAL_MS: i64 = 1_000;

/// The clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseClock {
    /// The newest stamp in the log; the same on every member at the same entry.
    logged_ms: i64,
    /// What it was at `since`.
    base_ms: i64,
    /// The member's own clock then, in milliseconds; none before the first entry.
    since: Option<u64>,
}

// === impl LeaseClock ===

impl LeaseClock {
    pub(super) fn new(logged_ms: i64) -> Self {
        Self { logged_ms, base_ms: logged_ms, since: None }
    }

    /// The newest stamp in the log.
    pub(super) fn logged_ms(&self) -> i64 {
        self.logged_ms
    }

    /// How late it is, when the member's own clock shows `now_ms`.
    pub(super) fn at(&self, now_ms: u64) -> i64 {
        let since = self.since.map_or(0, |since| now_ms.saturating_sub(since));
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        self.base_ms.saturating_add(since.min(UNSTAMPED_MS_MAX))
    }

    /// A stamp has come through the log; whether it is a new one.
    pub(super) fn stamp(&mut self, now_ms: u64, stamp_ms: i64) -> bool {
        let is_new = stamp_ms > self.logged_ms;
        self.base_ms = self.at(now_ms).max(stamp_ms);
        self.since = Some(now_ms);
        self.logged_ms = self.logged_ms.max(stamp_ms);
        is_new
    }

    /// The first lease begins, or the member begins to watch: until now, time did not count.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.since = Some(now_ms);
    }

    /// The same for a member that has just opened its state.
    pub(super) fn begin_if_new(&mut self, now_ms: u64) {
        self.since.get_or_insert(now_ms);
    }

    /// Whether the log should be told how late it is.
    pub(super) fn is_stamp_due(&self, now_ms: u64) -> bool {
        self.at(now_ms).saturating_sub(self.logged_ms) >= STAMP_INTERVAL_MS
    }
}

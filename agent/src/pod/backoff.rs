//! Growing waits before a crashed container or a failed pull is tried again. Pure.
//!
//! A newcomer's trap: the first retry is immediate. Only when it is made does the wait of ten
//! seconds begin to apply, counted from the *next* failure, as the kubelet counts.

use std::time::Duration;

use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX, BACKOFF_RESET_AFTER};

/// Milliseconds since the epoch, as the wall clock shows them.
pub type Millis = i64;

/// One growing wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// The present wait and when it was set; none: nothing failed yet.
    current: Option<(Duration, Millis)>,
}

impl Backoff {
    /// How much longer to wait after a failure at `failed_at`; none: not at all.
    pub fn remaining(&self, failed_at: Millis, now: Millis) -> Option<Duration> {
        let (wait, _) = self.current.filter(|(_, set)| !expired(*set, failed_at))?;
        let end = failed_at + wait.as_millis() as i64;
        (now < end).then(|| Duration::from_millis((end - now) as u64))
    }

    /// The whole present wait, for messages.
    pub fn wait(&self) -> Duration {
        self.current.map_or(BACKOFF_FIRST, |(wait, _)| wait)
    }

    /// Notes that another try is made now, after a failure at `failed_at`.
    pub fn tried(&mut self, failed_at: Millis, now: Millis) {
        let wait = match self.current.filter(|(_, set)| !expired(*set, failed_at)) {
            Some((wait, _)) => (wait * 2).min(BACKOFF_MAX),
            None => BACKOFF_FIRST,
        };
        self.current = Some((wait, now));
    }
}

/// Whether what was tried at `set` held long enough to start over.
fn expired(set: Millis, failed_at: Millis) -> bool {
    failed_at - set > BACKOFF_RESET_AFTER.as_millis() as i64
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_ten_seconds_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = 0;
        assert_eq!(backoff.remaining(now, now), None, "the first retry is immediate");
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.tried(now, now);
            assert_eq!(backoff.wait(), Duration::from_secs(expected));
            now += 1_000;
            assert_eq!(
                backoff.remaining(now, now + 1_000),
                Some(Duration::from_secs(expected - 1)),
                "counted from the failure"
            );
            now += expected as i64 * 1_000;
        }
    }

    #[test]
    fn ten_good_minutes_start_it_over() {
        let mut backoff = Backoff::default();
        backoff.tried(0, 0);
        backoff.tried(1_000, 11_000);
        assert_eq!(backoff.wait(), Duration::from_secs(20));
        let much_later = 11_000 + 600_001;
        assert_eq!(backoff.remaining(much_later, much_later), None);
        backoff.tried(much_later, much_later);
        assert_eq!(backoff.wait(), Duration::from_secs(10));
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3_600, "1h0m0s")] {
            assert_eq!(go_duration(Duration::from_secs(seconds)), text);
        }
    }
}

//! Compaction that nobody asks for: by age, or by the number of revisions kept.
//!
//! Owns: etcd's rules for when and up to which revision. Must not know: how a compaction is carried
//! out. A newcomer's trap: every member takes samples all the time, but only the leader compacts;
//! so whoever becomes the leader knows the past already.

use std::collections::VecDeque;
use std::time::Duration;

use kijabi_base::clock;
use kijabi_machine::Error as MachineError;
use kijabi_proto::command::command::Request;
use kijabi_proto::etcdserverpb as pb;

use crate::config::AutoCompaction;
use crate::error::Error;
use crate::store::Store;

/// Between two looks when revisions are counted.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// A longer period is still compacted this often.
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// Samples taken in one period.
const SAMPLES: u32 = 10;
/// Shorter intervals would be nothing but load.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// When to compact next, and up to where. Time is what the caller says it is.
#[derive(Debug)]
enum Schedule {
    Age(ByAge),
    Count { kept: i64, last: i64 },
}

/// What is older than a period goes.
#[derive(Debug)]
struct ByAge {
    period: Duration,
    /// Revisions seen, one an interval; the first is the one of a period ago.
    samples: VecDeque<i64>,
    /// The revision of the last compaction, and when it was.
    last: i64,
    last_at: Duration,
    /// Time from the last compaction to the next: at first one whole period.
    wait: Duration,
}

// === impl ByAge ===

impl ByAge {
    fn new(period: Duration, now: Duration) -> Self {
        Self { period, samples: VecDeque::new(), last: 0, last_at: now, wait: period }
    }

    fn interval(&self) -> Duration {
        (self.period.min(PERIOD_MAX) / SAMPLES).max(INTERVAL_MIN)
    }

    fn sample(&mut self, revision: i64) {
        let kept = self.period.as_nanos() / self.interval().as_nanos() + 1;
        self.samples.push_back(revision);
        while self.samples.len() as u128 > kept {
            self.samples.pop_front();
        }
    }

    fn due(&mut self, now: Duration) -> Option<i64> {
        let revision = *self.samples.front()?;
        if now.saturating_sub(self.last_at) < self.wait || revision == self.last {
            return None;
        }
        self.wait = self.period.min(PERIOD_MAX);
        Some(revision)
    }
}

// === impl Schedule ===

impl Schedule {
    fn of(settings: AutoCompaction, now: Duration) -> Option<Self> {
        match settings {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(period) if period.is_zero() => None,
            AutoCompaction::Periodic(period) => Some(Self::Age(ByAge::new(period, now))),
            AutoCompaction::Revision(kept) => Some(Self::Count { kept, last: 0 }),
        }
    }

    /// Between two looks.
    fn interval(&self) -> Duration {
        match self {
            Self::Age(age) => age.interval(),
            Self::Count { .. } => REVISION_INTERVAL,
        }
    }

    /// Takes a sample, before each interval.
    fn sample(&mut self, revision: i64) {
        if let Self::Age(age) = self {
            age.sample(revision);
        }
    }

    /// The revision to compact to now, after an interval, if any.
    fn due(&mut self, revision: i64, now: Duration) -> Option<i64> {
        match self {
            Self::Age(age) => age.due(now),
            Self::Count { kept, last } => {
                let due = revision - *kept;
                (due > 0 && due != *last).then_some(due)
            }
        }
    }

    /// The compaction to `revision` succeeded.
    fn done(&mut self, revision: i64, now: Duration) {
        match self {
            Self::Age(age) => {
                age.last = revision;
                age.last_at = now;
            }
            Self::Count { last, .. } => *last = revision,
        }
    }
}

/// Compacts as configured, while this member leads.
pub(crate) async fn run(store: Store) {
    let started = clock::now();
    let Some(mut schedule) = Schedule::of(store.config().auto_compaction, Duration::ZERO) else {
        return;
    };
    let revision = || store.machine().read().revision();
    loop {
        schedule.sample(revision());
        tokio::time::sleep(schedule.interval()).await;
        if !store.is_leader() {
            continue;
        }
        let Some(due) = schedule.due(revision(), started.elapsed()) else { continue };
        let request = pb::CompactionRequest { revision: due, physical: false };
        tracing::info!(revision = due, "starting auto compaction");
        match store.propose_own(Request::Compaction(request)).await {
            // Somebody else may have done it.
            Ok(_) | Err(Error::Machine(MachineError::Compacted)) => {
                schedule.done(due, started.elapsed());
            }
            Err(error) => tracing::warn!(revision = due, %error, "failed auto compaction"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Runs `intervals` intervals in which one revision a second is written; gives the times, in
    /// units of `unit`, and revisions of the compactions. `leads` and `works` say when this member
    /// leads and when a compaction succeeds.
    fn run(
        settings: AutoCompaction,
        intervals: u32,
        unit: Duration,
        leads: impl Fn(u32) -> bool,
        works: impl Fn(u32) -> bool,
    ) -> Vec<(u64, i64)> {
        let mut schedule = Schedule::of(settings, Duration::ZERO).unwrap();
        let mut compactions = Vec::new();
        let revision = |now: Duration| 1 + now.as_secs() as i64;
        let mut now = Duration::ZERO;
        for interval in 0..intervals {
            schedule.sample(revision(now));
            now += schedule.interval();
            if !leads(interval) {
                continue;
            }
            if let Some(due) = schedule.due(revision(now), now) {
                compactions.push(((now.as_millis() / unit.as_millis()) as u64, due));
                if works(interval) {
                    schedule.done(due, now);
                }
            }
        }
        compactions
    }

    fn always(_: u32) -> bool {
        true
    }

    #[test]
    fn nothing_runs_when_it_is_off() {
        for settings in [AutoCompaction::Off, AutoCompaction::Periodic(Duration::ZERO)] {
            assert!(Schedule::of(settings, Duration::ZERO).is_none());
        }
    }

    #[test]
    fn a_short_period_is_compacted_once_a_period_after_a_first_whole_one() {
        let found = run(AutoCompaction::Periodic(10 * MINUTE), 31, MINUTE, always, always);
        // The oldest sample is one interval older than the period: etcd keeps eleven.
        assert_eq!(found, [(10, 1), (20, 541), (30, 1141)]);
    }

    #[test]
    fn a_long_period_is_sampled_every_six_minutes_and_compacted_every_hour() {
        let day = 24 * 60 * MINUTE;
        let found = run(AutoCompaction::Periodic(day), 265, 60 * MINUTE, always, always);
        let revision_of_minute = |minute: i64| 1 + 60 * minute;
        assert_eq!(
            found,
            [(24, 1), (25, revision_of_minute(54)), (26, revision_of_minute(60 + 54))]
        );
    }

    #[test]
    fn a_failure_is_tried_again_after_a_tenth_of_the_period() {
        let works = |interval| interval >= 11;
        let found = run(AutoCompaction::Periodic(10 * MINUTE), 24, MINUTE, always, works);
        assert_eq!(found, [(10, 1), (11, 1), (12, 61), (22, 661)]);
    }

    #[test]
    fn a_member_that_begins_to_lead_knows_the_past() {
        let leads = |interval| interval >= 14;
        let found = run(AutoCompaction::Periodic(10 * MINUTE), 16, MINUTE, leads, always);
        assert_eq!(found, [(15, 241)]);
    }

    #[test]
    fn an_idle_store_is_compacted_once() {
        let mut schedule =
            Schedule::of(AutoCompaction::Periodic(10 * MINUTE), Duration::ZERO).unwrap();
        let mut compactions = 0;
        for minute in 1..=60 {
            schedule.sample(7);
            if let Some(due) = schedule.due(7, minute * MINUTE) {
                compactions += 1;
                schedule.done(due, minute * MINUTE);
            }
        }
        assert_eq!(compactions, 1);
    }

    #[test]
    fn a_number_of_revisions_is_kept_looking_every_five_minutes() {
        let found = run(AutoCompaction::Revision(1000), 5, MINUTE, always, always);
        assert_eq!(found, [(20, 201), (25, 501)]);
        let works = |interval| interval > 3;
        let found = run(AutoCompaction::Revision(1000), 5, MINUTE, always, works);
        assert_eq!(found, [(20, 201), (25, 501)]);
    }
}

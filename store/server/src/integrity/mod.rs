//! Whether this member's data is what the others have: compared again and again while it runs.
//!
//! Owns: the comparison, and what follows from it: a member whose data most others do not have stops
//! serving, fetches the state of one that is right, and serves again. Must not know: how a digest is
//! made. A newcomer's trap: digests are compared at one log index that all have applied, so a
//! member that is behind is never taken for one that differs.
// Differs from etcd: it compares hashes of the key space now and then, and only raises the alarm.

mod refetch;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kijabi_base::tasks::Shutdown;
use kijabi_proto::command::command::Request;
use kijabi_proto::etcdserverpb as pb;
use openraft::type_config::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;

use crate::consensus::Applier;
use crate::peer::Route;
use crate::store::Store;
use verdict::{Verdict, judge};

/// Between two comparisons, unless `--corrupt-check-time` asks for more of them.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long another member may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Whether this member may serve. Cloning shares.
#[derive(Clone, Debug)]
pub(crate) struct Integrity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    corrupt: AtomicBool,
    member: Shutdown,
    /// Ends what is being served when the data is found to be wrong.
    serving: Mutex<Shutdown>,
}

// === impl Integrity ===

impl Integrity {
    /// Of a member that stops with `member`.
    pub(crate) fn new(member: &Shutdown) -> Self {
        let serving = Mutex::new(member.child());
        Self(Arc::new(Inner { corrupt: AtomicBool::new(false), member: member.clone(), serving }))
    }

    /// Whether the data is known to be wrong.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.0.corrupt.load(Ordering::Acquire)
    }

    /// Triggered when the member stops, or stops serving because its data is wrong.
    pub(crate) fn serving(&self) -> Shutdown {
        self.0.serving.lock().clone()
    }

    /// The data is wrong: nothing is served any more.
    fn lost(&self) {
        if !self.0.corrupt.swap(true, Ordering::AcqRel) {
            let next = self.0.member.child();
            std::mem::replace(&mut *self.0.serving.lock(), next).trigger();
        }
    }

    /// The data is right again.
    fn restored(&self) {
        self.0.corrupt.store(false, Ordering::Release);
    }
}

/// What the comparison works with.
pub(crate) struct Comparison {
    pub(crate) store: Store,
    pub(crate) applier: Applier,
    pub(crate) route: Route,
}

// === impl Comparison ===

impl Comparison {
    /// Compares until the member stops.
    pub(crate) async fn run(self) {
        let asked = self.store.config().corrupt_check_interval;
        let interval = if asked.is_zero() { INTERVAL } else { INTERVAL.min(asked) };
        let mut interval = tokio::time::interval(interval.max(INTERVAL_MIN));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let Some(verdict) = self.compare().await else { continue };
            self.follow(verdict).await;
        }
    }

    /// Compares once; `None` if there is nobody to compare with, or nothing yet.
    async fn compare(&self) -> Option<Verdict> {
        let (voters, others) = self.voters();
        if others.is_empty() {
            return None;
        }
        // First how far the others are, then their digests at an index that all have applied.
        let mut index = self.store.machine().read().applied_index();
        for (_, answer) in self.ask(&others, 0).await {
            index = index.min(answer.applied);
        }
        let own = self.store.machine().read().digest_at(index)?;
        let answers = self.ask(&others, index).await;
        let known = answers.iter().filter_map(|(id, answer)| Some((*id, answer.digest?)));
        Some(judge(own, &known.collect::<Vec<_>>(), voters))
    }

    /// How many voters there are, and the ids of the other ones; none if this is no voter.
    fn voters(&self) -> (usize, Vec<u64>) {
        let metrics = self.route.raft().metrics();
        let seen = metrics.borrow_watched();
        let voters: Vec<u64> = seen.membership_config.voter_ids().collect();
        let own = self.store.member_id();
        let others = voters.iter().copied().filter(|id| *id != own).collect();
        if voters.contains(&own) { (voters.len(), others) } else { (voters.len(), Vec::new()) }
    }

    async fn ask(
        &self,
        members: &[u64],
        index: u64,
    ) -> Vec<(u64, kijabi_proto::peer::DigestResponse)> {
        let asking = members.iter().filter_map(|id| {
            let link = self.route.to(*id)?;
            Some(async move { (*id, link.digest(index, ANSWER_LIMIT).await) })
        });
        let answers = futures::future::join_all(asking).await;
        answers.into_iter().filter_map(|(id, answer)| Some((id, answer.ok()?))).collect()
    }

    async fn follow(&self, verdict: Verdict) {
        let integrity = self.store.integrity();
        match verdict {
            Verdict::Agree => {
                if integrity.is_corrupt() {
                    tracing::warn!("this member's data is the same as the others' again");
                    integrity.restored();
                }
            }
            // Each looks after itself.
            Verdict::OthersDiffer(ids) => {
                tracing::error!(?ids, "members have other data than most; they have to recover");
            }
            Verdict::Unclear => {
                tracing::error!("members have different data, and too few can be asked");
            }
            Verdict::Odd(right) => {
                tracing::error!("this member has other data than most members: it stops serving");
                integrity.lost();
                self.recover(&right).await;
            }
            Verdict::NoMajority => {
                tracing::error!("no data is that of most members: the CORRUPT alarm is raised");
                self.raise().await;
            }
        }
    }

    /// Takes the state of a member that is right in place of this one's.
    async fn recover(&self, right: &[u64]) {
        let Some(source) = right.iter().find_map(|id| Some((*id, self.route.to(*id)?))) else {
            return;
        };
        if self.store.is_leader() {
            // What it decides on is wrong, too. It will know of the new leader when it looks again.
            if let Err(error) = self.route.raft().trigger().transfer_leader(source.0).await {
                tracing::warn!(%error, "the leadership could not be handed over");
            }
            return;
        }
        match refetch::fetch(&source.1, &self.applier).await {
            Ok(()) => tracing::warn!("the state of another member has taken this one's place"),
            Err(error) => tracing::error!(%error, "the state could not be fetched; trying again"),
        }
    }

    /// Tells the whole cluster that its data cannot be trusted: nothing is written any more.
    async fn raise(&self) {
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id: self.store.member_id(),
            alarm: pb::AlarmType::Corrupt.into(),
        };
        let raised = self
            .store
            .machine()
            .read()
            .alarms()
            .iter()
            .any(|active| active.member_id == alarm.member_id && active.alarm == alarm.alarm);
        if !raised && let Err(error) = self.store.propose_own(Request::Alarm(alarm)).await {
            tracing::warn!(%error, "the CORRUPT alarm could not be raised; trying again");
        }
    }
}

/// A shorter interval would be nothing but load.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

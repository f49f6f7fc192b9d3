//! From the proposal queue to the log: one drained queue is one Raft entry.
//!
//! Owns: batching, bringing a batch to the leader wherever it is, and handing outcomes back. Must
//! not know: gRPC, or what a command means. A newcomer's trap: outcomes come from this member's own
//! apply loop, also when another member leads, so a client finds its write here at once. A batch is
//! proposed again only when it is certain that no log has it ([`Fate::Lost`], or a refusal).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kijabi_base::limits::{
    BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, PROPOSAL_BATCHES_IN_FLIGHT_MAX, PROPOSAL_QUEUE_MAX,
};
use kijabi_base::{clock, rng};
use kijabi_machine::Outcome;
use kijabi_proto::command::{Batch, Command};
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::vote::leader_id_std::CommittedLeaderId;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::consensus::{Payload, Raft, TypeConfig};
use crate::crew::Spawner;
use crate::error::Error;
use crate::limits::UNRESOLVED_BATCHES_MAX;
use crate::metrics::Metrics;
use crate::outcomes::{Fate, Outcomes};
use crate::peer::Route;
use crate::peer::forward::Verdict;
use crate::store::{Proposal, Standing};

type Waiter = oneshot::Sender<Result<Outcome, Error>>;
type Answers = Result<Vec<Result<Outcome, kijabi_machine::Error>>, Error>;

/// Between two tries to reach a leader that did not take a batch.
const RETRY: Duration = Duration::from_millis(20);

/// The queue's two ends.
pub(crate) fn queue() -> (mpsc::Sender<Proposal>, mpsc::Receiver<Proposal>) {
    mpsc::channel(PROPOSAL_QUEUE_MAX)
}

/// What brings batches to the leader. Cloning shares.
#[derive(Clone)]
pub(crate) struct Carrier {
    pub(crate) member_id: u64,
    pub(crate) route: Route,
    pub(crate) outcomes: Outcomes,
    pub(crate) standing: watch::Receiver<Standing>,
    /// How long a batch is carried before nobody waits for it any more.
    pub(crate) patience: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

/// What is known of a batch after an attempt to put it into the leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// It is certain that it was not appended.
    Refused,
    /// It was appended, at this index if that is known; whether it counts is for the apply loop to
    /// say.
    Appended(Option<u64>),
    /// Nobody knows.
    Unknown,
}

/// Runs until the queue closes.
pub(crate) async fn run(mut queue: mpsc::Receiver<Proposal>, carrier: Carrier, crew: Spawner) {
    let in_flight = Arc::new(Semaphore::new(PROPOSAL_BATCHES_IN_FLIGHT_MAX));
    let unresolved = Arc::new(Semaphore::new(UNRESOLVED_BATCHES_MAX));
    // Begins anywhere, so that no entry of an earlier life of this member has the same number.
    let mut number = rng::positive_i64().cast_unsigned();
    let (mut drained, mut last): (Vec<Proposal>, _) = (Vec::new(), None);
    loop {
        // First a slot, then the queue: what arrives while all slots are taken goes together.
        let Ok(place) = Arc::clone(&unresolved).acquire_owned().await else { return };
        let Ok(slot) = Arc::clone(&in_flight).acquire_owned().await else { return };
        if drained.is_empty() && queue.recv_many(&mut drained, BATCH_COMMANDS_MAX).await == 0 {
            return;
        }
        gather(&mut queue, &mut drained, &mut last).await;
        let rest = drained.split_off(fitting(&drained));
        let batch = std::mem::replace(&mut drained, rest);
        carrier.metrics.proposals_pending.set(queue.len() as i64 + drained.len() as i64);
        number = number.wrapping_add(1);
        let (batch, waiters) = encode(batch, carrier.member_id, number);
        let carrier = carrier.clone();
        crew.spawn(async move {
            let answers = carrier.carry(number, batch, slot).await;
            drop(place);
            carrier.answer(waiters, answers);
        });
    }
}

/// Takes what others propose who are about to: a few requests in one entry cost little more than
/// one. Each connection that is ready has its turn first; a client that is alone never waits.
async fn gather(
    queue: &mut mpsc::Receiver<Proposal>,
    drained: &mut Vec<Proposal>,
    last: &mut Option<tokio::task::Id>,
) {
    let alone = drained.iter().all(|proposal| proposal.from == *last);
    *last = drained.last().and_then(|proposal| proposal.from);
    if alone || drained.len() >= BATCH_COMMANDS_MAX {
        return;
    }
    tokio::task::yield_now().await;
    while drained.len() < BATCH_COMMANDS_MAX
        && let Ok(proposal) = queue.try_recv()
    {
        drained.push(proposal);
    }
}

/// How many of the proposals fit in one entry; at least one.
fn fitting(proposals: &[Proposal]) -> usize {
    let mut bytes = 0;
    let over = proposals.iter().position(|proposal| {
        bytes += proposal.bytes;
        bytes > BATCH_BYTES_MAX
    });
    over.map_or(proposals.len(), |over| over.max(1))
}

fn encode(proposals: Vec<Proposal>, origin: u64, id: u64) -> (Bytes, Vec<Waiter>) {
    let time_ms = clock::wall_ms();
    let mut commands = Vec::with_capacity(proposals.len());
    let mut waiters: Vec<Waiter> = Vec::with_capacity(proposals.len());
    for Proposal { caller, request, answer, room, .. } in proposals {
        // It has left the queue; in the log, other bounds count.
        drop(room);
        let command = Command { time_ms, request: Some(request), ..Command::default() };
        commands.push(caller.mark(command));
        waiters.push(answer);
    }
    (Batch { commands, origin, id }.encode_to_vec().into(), waiters)
}

/// Puts a batch into this member's log, if it leads in `term`.
pub(crate) async fn submit_here(raft: &Raft, term: u64, batch: Payload) -> Submitted {
    let (responder, answer) = ProgressResponder::<TypeConfig, _>::complete_only();
    let leader = CommittedLeaderId::new(term);
    let write = raft.write(batch).with_leader(leader).responder(responder);
    if let Err(error) = write.await {
        tracing::error!(%error, "raft has stopped");
        return Submitted::Unknown;
    }
    match answer.await {
        Ok(Ok(written)) => Submitted::Appended(Some(written.log_id.index)),
        // Raft says so only before it appends.
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Submitted::Refused,
        // Cut off here, but other logs may have it.
        Ok(Err(_)) => Submitted::Appended(None),
        Err(_stopped) => Submitted::Unknown,
    }
}

// === impl Carrier ===

impl Carrier {
    /// Brings a batch to the leader, again if need be and if it is safe, and returns its outcomes.
    // Differs from etcd: a batch that is known to be lost is proposed again.
    async fn carry(&self, id: u64, batch: Bytes, slot: OwnedSemaphorePermit) -> Answers {
        let deadline = clock::now() + self.patience;
        let mut slot = Some(slot);
        let carrying = async {
            loop {
                let at = self.leader().await?;
                let mut fate = self.outcomes.register(id, at.term);
                let submitted = tokio::select! {
                    biased;
                    fate = &mut fate => match resolve(fate) {
                        Some(answers) => return answers,
                        None => {
                            self.pause(at).await;
                            continue;
                        }
                    },
                    submitted = self.submit(at, batch.clone()) => submitted,
                };
                if submitted == Submitted::Refused {
                    self.outcomes.forget(id);
                    self.pause(at).await;
                    continue;
                }
                if submitted == Submitted::Unknown {
                    // Others need not wait until it is known.
                    slot.take();
                }
                if let Some(answers) = self.wait(fate, at, &mut slot).await {
                    return answers;
                }
            }
        };
        let answers = tokio::time::timeout_at(deadline, carrying).await;
        self.outcomes.forget(id);
        answers.unwrap_or(Err(Error::Timeout))
    }

    /// Waits before another try: as soon as there is another leader, it is worth one.
    async fn pause(&self, at: Standing) {
        let mut standing = self.standing.clone();
        let other = |now: &Standing| now.leader != 0 && !at.is_of_same_leader(now);
        let _ = tokio::time::timeout(RETRY, standing.wait_for(other)).await;
    }

    /// Waits for a leader.
    async fn leader(&self) -> Result<Standing, Error> {
        let mut standing = self.standing.clone();
        let known = standing.wait_for(|standing| standing.leader != 0).await;
        known.map(|standing| *standing).map_err(|_closed| Error::Stopped)
    }

    /// Waits for a batch that may be in the log. `None` if it is lost.
    async fn wait(
        &self,
        mut fate: oneshot::Receiver<Fate>,
        at: Standing,
        slot: &mut Option<OwnedSemaphorePermit>,
    ) -> Option<Answers> {
        let mut standing = self.standing.clone();
        tokio::select! {
            fate = &mut fate => return resolve(fate),
            _ = standing.wait_for(|now| !at.is_of_same_leader(now)) => {}
        }
        // Whether the leader has brought it to others is open; new batches do not wait for that.
        slot.take();
        resolve(fate.await)
    }

    /// Puts a batch into the leader's log. What another member has taken is not reported: the
    /// batch's fate shows here.
    async fn submit(&self, at: Standing, batch: Bytes) -> Submitted {
        if at.leader == self.member_id {
            return submit_here(self.route.raft(), at.term, Payload(batch)).await;
        }
        let Some(link) = self.route.to(at.leader) else { return Submitted::Refused };
        let Some(forwarded) = link.batches.send(at.term, batch) else { return Submitted::Refused };
        let mut standing = self.standing.clone();
        tokio::select! {
            // A refusal that comes with the news of another leader is still one.
            biased;
            verdict = forwarded.verdict() => match verdict {
                Verdict::Refused => Submitted::Refused,
                Verdict::Unknown => Submitted::Unknown,
            },
            // Whether the leader has brought it to others is open.
            _ = standing.wait_for(|now| !at.is_of_same_leader(now)) => Submitted::Unknown,
        }
    }

    fn answer(&self, waiters: Vec<Waiter>, answers: Answers) {
        match answers {
            Ok(outcomes) => {
                debug_assert_eq!(outcomes.len(), waiters.len(), "one outcome for each command");
                for (waiter, outcome) in waiters.into_iter().zip(outcomes) {
                    // The one who asked may have gone; the outcome stands.
                    let _ = waiter.send(outcome.map_err(Error::Machine));
                }
            }
            Err(error) => {
                self.metrics.proposals_failed.inc_by(waiters.len() as u64);
                for waiter in waiters {
                    let _ = waiter.send(Err(error.clone()));
                }
            }
        }
    }

    /// Proposes one command in `term` or not at all, however often the leader changes: for what is
    /// only right while the member leads in that very term.
    pub(crate) async fn propose_in(&self, term: u64, command: Command) -> Result<Outcome, Error> {
        let id = rng::positive_i64().cast_unsigned();
        let batch = Batch { commands: vec![command], origin: self.member_id, id };
        let payload = Payload(batch.encode_to_vec().into());
        let fate = self.outcomes.register(id, term);
        let proposing = async {
            if submit_here(self.route.raft(), term, payload).await == Submitted::Refused {
                return Err(Error::NotLeader);
            }
            resolve(fate.await).unwrap_or(Err(Error::LeaderChanged))
        };
        let answers = tokio::time::timeout(self.patience, proposing).await;
        self.outcomes.forget(id);
        let outcome = answers.unwrap_or(Err(Error::Timeout))?.pop();
        outcome.ok_or(Error::Stopped)?.map_err(Error::Machine)
    }
}

/// What etcd says of a request that took too long, from what was known at its beginning and what
/// is known now, and whether the connections it needs were there all the time.
pub(crate) fn why_late(began: Standing, now: Standing, connected: bool) -> Error {
    let replaced = now.term != began.term || now.leader != began.leader;
    match (now.leader, replaced, connected) {
        (0, _, _) | (_, false, true) => Error::Timeout,
        (_, true, _) => Error::LeaderFailed,
        (_, false, false) => Error::ConnectionLost,
    }
}

/// `None` if the batch is lost and may be proposed again.
fn resolve(fate: Result<Fate, oneshot::error::RecvError>) -> Option<Answers> {
    match fate {
        Ok(Fate::Applied(outcomes)) => Some(Ok(outcomes)),
        Ok(Fate::Lost) => None,
        Ok(Fate::Unknown) => Some(Err(Error::Timeout)),
        Err(_forgotten) => Some(Err(Error::Stopped)),
    }
}

#[cfg(test)]
mod tests {
    use kijabi_machine::Caller;
    use kijabi_proto::command::command::Request;
    use kijabi_proto::etcdserverpb::PutRequest;

    use super::*;

    fn proposals(sizes: &[usize]) -> Vec<Proposal> {
        let queue = Arc::new(Semaphore::new(sizes.len()));
        let proposal = |bytes: &usize| {
            let request = Request::Put(PutRequest::default());
            let room = Arc::clone(&queue).try_acquire_owned().unwrap();
            let (caller, answer) = (Caller::Member, oneshot::channel().0);
            Proposal { caller, request, from: None, bytes: *bytes, room, answer }
        };
        sizes.iter().map(proposal).collect()
    }

    #[test]
    fn who_waits_in_vain_is_told_what_happened_meanwhile() {
        let at = |leader, term| Standing { leader, term, ..Standing::default() };
        for (began, now, connected, text) in [
            (at(1, 1), at(1, 1), true, "request timed out"),
            (at(1, 1), at(0, 2), false, "request timed out"),
            (at(0, 1), at(0, 1), false, "request timed out"),
            (
                at(1, 1),
                at(2, 2),
                false,
                "request timed out, possibly due to previous leader failure",
            ),
            (
                at(0, 1),
                at(1, 2),
                true,
                "request timed out, possibly due to previous leader failure",
            ),
            (at(1, 1), at(1, 1), false, "request timed out, possibly due to connection lost"),
        ] {
            assert_eq!(why_late(began, now, connected).to_string(), text, "{began:?} {now:?}");
        }
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_takes_at_least_one() {
        for (sizes, expected) in [
            (&[1, 2, 3][..], 3),
            (&[BATCH_BYTES_MAX, 1][..], 1),
            (&[BATCH_BYTES_MAX + 1, 1][..], 1),
            (&[1, BATCH_BYTES_MAX, 1][..], 1),
            (&[1, BATCH_BYTES_MAX - 1, 1][..], 2),
        ] {
            assert_eq!(fitting(&proposals(sizes)), expected, "{sizes:?}");
        }
    }
}

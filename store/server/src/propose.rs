//! From the proposal queue to the log: one drained queue is one Raft entry.
//!
//! Owns: batching, and handing outcomes back. Must not know: gRPC, or what a command means. A
//! newcomer's trap: there is no timer. A batch is whatever waited when the one before went on its
//! way; under load the batches grow by themselves, and an idle queue is never waited for.

use std::sync::Arc;

use kijabi_base::limits::{
    BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, PROPOSAL_BATCHES_IN_FLIGHT_MAX, PROPOSAL_QUEUE_MAX,
};
use kijabi_base::{clock, tasks};
use kijabi_machine::Outcome;
use kijabi_proto::command::{Batch, Command};
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::consensus::{Payload, Raft, TypeConfig};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::store::Proposal;

type Waiter = oneshot::Sender<Result<Outcome, Error>>;

/// The queue's two ends.
pub(crate) fn queue() -> (mpsc::Sender<Proposal>, mpsc::Receiver<Proposal>) {
    mpsc::channel(PROPOSAL_QUEUE_MAX)
}

/// Runs until the queue closes.
pub(crate) async fn run(mut queue: mpsc::Receiver<Proposal>, raft: Raft, metrics: Arc<Metrics>) {
    let in_flight = Arc::new(Semaphore::new(PROPOSAL_BATCHES_IN_FLIGHT_MAX));
    let mut drained: Vec<Proposal> = Vec::new();
    loop {
        // First a slot, then the queue: what arrives while all slots are taken goes together.
        let Ok(slot) = Arc::clone(&in_flight).acquire_owned().await else { return };
        if drained.is_empty() && queue.recv_many(&mut drained, BATCH_COMMANDS_MAX).await == 0 {
            return;
        }
        let rest = drained.split_off(fitting(&drained));
        let batch = std::mem::replace(&mut drained, rest);
        metrics.proposals_pending.set(queue.len() as i64 + drained.len() as i64);
        submit(batch, &raft, slot, &metrics).await;
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

async fn submit(
    proposals: Vec<Proposal>,
    raft: &Raft,
    slot: OwnedSemaphorePermit,
    metrics: &Arc<Metrics>,
) {
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
    let payload = Payload(Batch { commands }.encode_to_vec().into());
    let (responder, answer) = ProgressResponder::<TypeConfig, _>::complete_only();
    if let Err(error) = raft.client_write_ff(payload, Some(responder)).await {
        tracing::error!(%error, "raft has stopped");
        refuse(waiters, &Error::Stopped);
        return;
    }
    let metrics = Arc::clone(metrics);
    tasks::spawn("proposal", async move {
        let answer = answer.await;
        drop(slot);
        answer_all(waiters, answer.ok(), &metrics);
    });
}

fn answer_all(
    waiters: Vec<Waiter>,
    answer: Option<ClientWriteResult<TypeConfig>>,
    metrics: &Metrics,
) {
    match answer {
        Some(Ok(response)) => {
            let outcomes = response.data.outcomes;
            debug_assert_eq!(outcomes.len(), waiters.len(), "one outcome for each command");
            for (waiter, outcome) in waiters.into_iter().zip(outcomes) {
                // The one who asked may have gone; the outcome stands.
                let _ = waiter.send(outcome.map_err(Error::Machine));
            }
        }
        Some(Err(error)) => {
            metrics.proposals_failed.inc_by(waiters.len() as u64);
            let error = match error {
                ClientWriteError::ForwardToLeader(to) if to.leader_id.is_none() => Error::NoLeader,
                // Whether it took effect is unknown, as after a change of leader.
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => {
                    Error::LeaderChanged
                }
                ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_) => Error::Stopped,
            };
            refuse(waiters, &error);
        }
        None => {
            metrics.proposals_failed.inc_by(waiters.len() as u64);
            refuse(waiters, &Error::Stopped);
        }
    }
}

fn refuse(waiters: Vec<Waiter>, error: &Error) {
    for waiter in waiters {
        let _ = waiter.send(Err(error.clone()));
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
            Proposal { caller, request, bytes: *bytes, room, answer }
        };
        sizes.iter().map(proposal).collect()
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

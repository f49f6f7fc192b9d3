//! The read barrier: everybody who waits shares one ReadIndex round.
//!
//! Owns: READ-1. Must not know: what is read. A newcomer's trap: a read that arrives while a round
//! is on its way must wait for the next one, because the round under way may have begun before a
//! write that the reader knows of. On a follower the round is one question to the leader.

use std::sync::Arc;
use std::time::Duration;

use kijabi_base::limits::READ_BARRIER_WAITERS_MAX;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, watch};

use crate::error::Error;
use crate::metrics::Metrics;
use crate::peer::Route;
use crate::store::{BarrierWaiter, Standing};

/// Between two tries while there is no leader; an election takes longer than this.
const RETRY: Duration = Duration::from_millis(50);

/// What a round needs.
pub(crate) struct Barrier {
    pub(crate) member_id: u64,
    pub(crate) route: Route,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) applied: watch::Receiver<u64>,
    /// How long one try may take.
    pub(crate) patience: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

/// The queue's two ends.
pub(crate) fn queue() -> (mpsc::Sender<BarrierWaiter>, mpsc::Receiver<BarrierWaiter>) {
    mpsc::channel(READ_BARRIER_WAITERS_MAX)
}

/// Runs until the queue closes. Who waits too long goes away by itself.
pub(crate) async fn run(mut queue: mpsc::Receiver<BarrierWaiter>, mut barrier: Barrier) {
    let mut waiters: Vec<BarrierWaiter> = Vec::new();
    loop {
        if waiters.is_empty() && queue.recv_many(&mut waiters, READ_BARRIER_WAITERS_MAX).await == 0
        {
            return;
        }
        // Each try is a round of its own, so whoever came during the last one takes part.
        while waiters.len() < READ_BARRIER_WAITERS_MAX
            && let Ok(waiter) = queue.try_recv()
        {
            waiters.push(waiter);
        }
        match barrier.round().await {
            Ok(true) => waiters.drain(..).for_each(|waiter| drop(waiter.send(Ok(())))),
            Ok(false) => {
                tokio::time::sleep(RETRY).await;
                let before = waiters.len();
                waiters.retain(|waiter| !waiter.is_closed());
                let given_up = (before - waiters.len()) as u64;
                barrier.metrics.read_indexes_failed.inc_by(given_up);
                barrier.metrics.slow_read_indexes.inc_by(given_up);
            }
            Err(error) => {
                waiters.drain(..).for_each(|waiter| drop(waiter.send(Err(error.clone()))));
            }
        }
    }
}

// === impl Barrier ===

impl Barrier {
    /// One round. `false` if it should be tried again.
    async fn round(&mut self) -> Result<bool, Error> {
        let Some(index) = self.read_index().await? else { return Ok(false) };
        let reached = self.applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout(self.patience, reached).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_closed)) => Err(Error::Stopped),
            Err(_elapsed) => Ok(false),
        }
    }

    /// The index that a reader must have seen, confirmed by a quorum; `None` if nobody can tell
    /// right now.
    async fn read_index(&mut self) -> Result<Option<u64>, Error> {
        let leader = self.standing.borrow_and_update().leader;
        if leader != 0 && leader != self.member_id {
            let Some(link) = self.route.to(leader) else { return Ok(None) };
            return tokio::select! {
                index = link.read_index(self.patience) => Ok(index.ok()),
                // A leader that is gone would be waited for.
                _ = self.standing.wait_for(|now| now.leader != leader) => Ok(None),
            };
        }
        match self.route.raft().get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(Some(read.read_log_id().index())),
            Err(RaftError::Fatal(_)) => Err(Error::Stopped),
            Err(RaftError::APIError(
                LinearizableReadError::ForwardToLeader(_)
                | LinearizableReadError::QuorumNotEnough(_),
            )) => Ok(None),
        }
    }
}

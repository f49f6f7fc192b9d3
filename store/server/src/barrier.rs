//! The read barrier: everybody who waits shares one ReadIndex round.
//!
//! Owns: READ-1. Must not know: what is read. A newcomer's trap: a read that arrives while a round
//! is on its way must wait for the next one, because the round under way may have begun before a
//! write that the reader knows of.

use std::sync::Arc;
use std::time::Duration;

use kijabi_base::clock;
use kijabi_base::limits::READ_BARRIER_WAITERS_MAX;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, watch};

use crate::consensus::Raft;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::store::BarrierWaiter;

/// The queue's two ends.
pub(crate) fn queue() -> (mpsc::Sender<BarrierWaiter>, mpsc::Receiver<BarrierWaiter>) {
    mpsc::channel(READ_BARRIER_WAITERS_MAX)
}

/// Runs until the queue closes. `patience` is how long a round is tried again before its readers
/// are told that it failed.
pub(crate) async fn run(
    mut queue: mpsc::Receiver<BarrierWaiter>,
    raft: Raft,
    mut applied: watch::Receiver<u64>,
    patience: Duration,
    metrics: Arc<Metrics>,
) {
    let mut waiters = Vec::new();
    while queue.recv_many(&mut waiters, READ_BARRIER_WAITERS_MAX).await > 0 {
        let result = round(&raft, &mut applied, patience).await;
        if result.is_err() {
            metrics.read_indexes_failed.inc();
        }
        for waiter in waiters.drain(..) {
            let _ = waiter.send(result.clone());
        }
    }
}

async fn round(
    raft: &Raft,
    applied: &mut watch::Receiver<u64>,
    patience: Duration,
) -> Result<(), Error> {
    let started = clock::now();
    loop {
        match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(read) => {
                let index = read.read_log_id().index();
                let left = patience.saturating_sub(started.elapsed());
                let reached = applied.wait_for(|applied| *applied >= index);
                return match tokio::time::timeout(left, reached).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(_closed)) => Err(Error::Stopped),
                    Err(_elapsed) => Err(Error::Timeout),
                };
            }
            Err(RaftError::Fatal(_)) => return Err(Error::Stopped),
            Err(RaftError::APIError(error)) => {
                if started.elapsed() >= patience {
                    return Err(match error {
                        LinearizableReadError::ForwardToLeader(to) if to.leader_id.is_none() => {
                            Error::NoLeader
                        }
                        _ => Error::Timeout,
                    });
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Between two tries while there is no leader; an election takes longer than this.
const RETRY: Duration = Duration::from_millis(50);

//! What the leader does for leases: it puts renewals into the log, ends the leases that have run
//! out, and tells the log how late it is for them.
//!
//! Owns: when these are proposed. Must not know: deadlines. A newcomer's trap: leases end only
//! through the log, so that every member loses their keys at the same revision, and one that was
//! renewed before its end comes through the log stays.
// Differs from etcd: a renewal goes through the log, many of them in one entry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::limits::{
    LEASE_RENEW_BATCH_MAX, LEASE_RENEW_BATCHES_IN_FLIGHT_MAX, LEASE_RENEWALS_WAITING_MAX,
    LEASE_REVOKE_BATCH_MAX,
};
use kijabi_base::tasks;
use kijabi_machine::{Error as MachineError, LeaseId, Outcome};
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{LeaseRenewMany, LeaseRevokeMany};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::error::Error;
use crate::store::Store;

/// How often the leader looks for expired leases, as etcd does.
const INTERVAL: Duration = Duration::from_millis(500);

/// A renewal on its way to the log.
pub(crate) struct Renewal {
    pub(crate) id: LeaseId,
    pub(crate) answer: oneshot::Sender<Result<i64, Error>>,
}

/// The queue's two ends.
pub(crate) fn queue() -> (mpsc::Sender<Renewal>, mpsc::Receiver<Renewal>) {
    mpsc::channel(LEASE_RENEWALS_WAITING_MAX)
}

/// Puts renewals into the log until the queue closes: what arrives while others are on their way
/// goes together.
pub(crate) async fn renew(mut queue: mpsc::Receiver<Renewal>, store: Store) {
    let in_flight = Arc::new(Semaphore::new(LEASE_RENEW_BATCHES_IN_FLIGHT_MAX));
    let mut drained: Vec<Renewal> = Vec::new();
    loop {
        let Ok(place) = Arc::clone(&in_flight).acquire_owned().await else { return };
        if queue.recv_many(&mut drained, LEASE_RENEW_BATCH_MAX).await == 0 {
            return;
        }
        let mut by_id: BTreeMap<LeaseId, Vec<oneshot::Sender<_>>> = BTreeMap::new();
        for Renewal { id, answer } in drained.drain(..) {
            by_id.entry(id).or_default().push(answer);
        }
        let store = store.clone();
        tasks::spawn("lease renewals", async move {
            let answers = renew_all(&store, by_id.keys().map(|id| id.0).collect()).await;
            drop(place);
            for (number, waiters) in by_id.into_values().enumerate() {
                let answer = match &answers {
                    Ok(ttls) => match ttls.get(number).copied().flatten() {
                        Some(ttl) => Ok(ttl),
                        None => Err(MachineError::LeaseNotFound.into()),
                    },
                    Err(error) => Err(error.clone()),
                };
                // Who asked may have gone.
                for waiter in waiters {
                    let _ = waiter.send(answer.clone());
                }
            }
        });
    }
}

/// The TTL of each lease, in the same order.
async fn renew_all(store: &Store, ids: Vec<i64>) -> Result<Vec<Option<i64>>, Error> {
    let term = store.standing().term;
    let lease_ms = store.machine().read().lease_time_ms(store.now_ms());
    let request = Request::LeaseRenewMany(LeaseRenewMany { ids, lease_ms });
    match store.propose_in(term, request).await? {
        Outcome::LeaseRenewMany(ttls) => Ok(ttls),
        _ => Err(Error::Stopped),
    }
}

/// What is due about leases.
enum Due {
    Nothing,
    Stamp(i64),
    Expired(Vec<i64>, i64),
}

fn due(store: &Store) -> Due {
    let machine = store.machine().read();
    let now_ms = store.now_ms();
    if !machine.leases_primary() {
        return Due::Nothing;
    }
    let ids = machine.leases_expired(now_ms, LEASE_REVOKE_BATCH_MAX);
    let lease_ms = machine.lease_time_ms(now_ms);
    if !ids.is_empty() {
        return Due::Expired(ids.into_iter().map(|id| id.0).collect(), lease_ms);
    }
    if machine.is_lease_stamp_due(now_ms) { Due::Stamp(lease_ms) } else { Due::Nothing }
}

/// Proposes the end of expired leases while this member leads, and how late it is.
pub(crate) async fn expire(store: Store) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // Many may have run out at once: the rest goes without waiting.
        while step(&store).await {}
    }
}

/// Proposes what is due; whether there may be more.
async fn step(store: &Store) -> bool {
    // What is seen now is right in this term; a later leader may know better (LEASE-1).
    let term = store.standing().term;
    let (request, asked) = match due(store) {
        Due::Nothing => return false,
        Due::Stamp(lease_ms) => {
            (Request::LeaseRenewMany(LeaseRenewMany { ids: Vec::new(), lease_ms }), 0)
        }
        Due::Expired(ids, lease_ms) => {
            let asked = ids.len();
            (Request::LeaseRevokeMany(LeaseRevokeMany { ids, lease_ms }), asked)
        }
    };
    match store.propose_in(term, request).await {
        Ok(Outcome::LeaseRevokeMany(revoked)) => {
            store.metrics().lease.expired(revoked);
            asked == LEASE_REVOKE_BATCH_MAX && revoked > 0
        }
        Ok(_) => false,
        Err(error) => {
            tracing::warn!(%error, "expired leases could not be revoked; trying again");
            false
        }
    }
}

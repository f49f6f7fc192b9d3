//! Changing who the members are, on any member and on the leader.
//!
//! Owns: the way of a change to the leader, one change after the other there, and its outcome.
//! Must not know: gRPC's services for clients. The one truth about the members is the machine's
//! table, which follows Raft's membership entry by entry (`consensus/applier.rs`); here only that
//! membership is changed. A newcomer's trap: a new member is a learner of Raft's at first, whatever
//! was asked for, and `voters.rs` makes a voter of it when it has caught up. So adding a member
//! never endangers the quorum, and never waits for the member to be there.
// Differs from etcd: there a voter counts from the start, and the second member of two can block
// the first one.

mod change;
mod check;
pub(crate) mod departure;
pub(crate) mod downgrade;
pub(crate) mod force;
pub(crate) mod join;
mod links;
pub(crate) mod remote;
mod voters;

use std::sync::Arc;
use std::time::Duration;

use kijabi_base::clock;
use kijabi_base::tasks::{Shutdown, spawn_until};
use kijabi_proto::command::MemberAttributes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::Status;

pub(crate) use change::Change;
pub(crate) use check::peer_urls;
use links::Links;
use remote::Remote;

use crate::consensus::Raft;
use crate::fatal::Fatal;
use crate::limits::MEMBER_CHANGES_WAITING_MAX;
use crate::peer::Peers;
use crate::status::EtcdError;
use crate::store::Store;

/// Changes the members. Cloning shares.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    store: Store,
    raft: Raft,
    remote: Remote,
    peers: Peers,
    /// Held while one change is made.
    turn: tokio::sync::Mutex<()>,
    /// Changes that wait for their turn.
    waiting: Semaphore,
    links: Mutex<Links>,
}

/// What a change led to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    /// The members after it.
    pub(crate) members: Vec<MemberAttributes>,
    /// The id of the one that was added; else 0.
    pub(crate) added: u64,
    /// Where in the log it is.
    pub(crate) index: u64,
}

/// Between two looks for a leader, or at what a change waits for.
const RETRY: Duration = Duration::from_millis(20);

// === impl Cluster ===

impl Cluster {
    pub(crate) fn new(store: Store, raft: Raft, remote: Remote, peers: Peers) -> Self {
        Self(Arc::new(Inner {
            store,
            raft,
            remote,
            peers,
            turn: tokio::sync::Mutex::new(()),
            waiting: Semaphore::new(MEMBER_CHANGES_WAITING_MAX),
            links: Mutex::default(),
        }))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn remote(&self) -> &Remote {
        &self.0.remote
    }

    /// Makes a change, here or by the leader, and returns once it is applied here, too.
    pub(crate) async fn change(&self, change: Change) -> Result<Changed, Status> {
        let started = clock::now();
        let limit = self.0.store.config().request_timeout();
        loop {
            let left = limit.saturating_sub(started.elapsed());
            match self.attempt(&change, left).await {
                Attempt::Done(changed) => {
                    self.await_applied(changed.index, limit).await;
                    return Ok(changed);
                }
                Attempt::Failed(status) => return Err(status),
                Attempt::NoLeader if left.is_zero() => return Err(EtcdError::NoLeader.into()),
                Attempt::NoLeader => tokio::time::sleep(RETRY).await,
            }
        }
    }

    async fn attempt(&self, change: &Change, left: Duration) -> Attempt {
        let store = &self.0.store;
        let leader = store.standing().leader;
        if leader == store.member_id() {
            return match self.change_here(change).await {
                Ok(changed) => Attempt::Done(changed),
                Err(EtcdError::NotLeader) => Attempt::NoLeader,
                Err(error) => Attempt::Failed(error.into()),
            };
        }
        let urls = store.machine().read().member(leader).map(|row| row.peer_urls.clone());
        match urls {
            Some(urls) => self.0.remote.change(&urls, change, left).await,
            None => Attempt::NoLeader,
        }
    }

    /// A client may look for what it was just told on this member.
    async fn await_applied(&self, index: u64, limit: Duration) {
        let mut applied = self.0.store.watch_applied();
        let applied = applied.wait_for(|applied| *applied >= index);
        let _ = tokio::time::timeout(limit, applied).await;
    }
}

/// Starts what goes on without being asked; it ends with `halt`.
pub(crate) fn run(cluster: &Cluster, halt: &Shutdown, fatal: &Fatal) {
    spawn_until("voters", halt.clone(), voters::run(cluster.clone()));
    let departure = departure::watch(cluster.clone(), fatal.clone());
    spawn_until("departure", halt.clone(), departure);
    spawn_until("cluster-version", halt.clone(), downgrade::run(cluster.0.store.clone()));
}

/// How trying to reach the leader went.
pub(crate) enum Attempt {
    Done(Changed),
    /// The leader refuses, or the outcome is unknown.
    Failed(Status),
    /// Nothing was done, because whoever was asked does not lead.
    NoLeader,
}

//! The handle that every service works through: propose a change, wait for a read barrier, look at
//! the machine.
//!
//! Owns: the way from a request to the log and back. Must not know: gRPC. A newcomer's trap: the
//! machine behind [`Store::machine`] may lag behind what a client has seen acknowledged elsewhere;
//! a linearizable read calls [`Store::read_barrier`] first (READ-1).

use std::sync::Arc;

use kijabi_base::clock::{self, Instant};
use kijabi_base::limits::APPLY_GAP_MAX;
use kijabi_base::tasks::Shutdown;
use kijabi_machine::{Caller, LeaseId, Machine, Outcome, RevisionEvents};
use kijabi_proto::command::Command;
use kijabi_proto::command::command::Request;
use kijabi_proto::etcdserverpb as pb;
use parking_lot::RwLock;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::access::Access;
use crate::config::Config;
use crate::error::Error;
use crate::integrity::Integrity;
use crate::leases::Renewal;
use crate::limits::{ANSWER_ROOM_BYTES, PROPOSAL_QUEUE_BYTES_MAX};
use crate::metrics::Metrics;
use crate::peer::Route;
use crate::propose::{Carrier, why_late};
use crate::quota;

/// Where the apply loop publishes events: the watch hub.
pub(crate) trait EventSink: Send + Sync + 'static {
    /// Takes the events of consecutive revisions, in order, after their state is written and
    /// visible. Called on the apply thread, so it must not wait for a socket.
    fn publish(&self, events: &[Arc<RevisionEvents>]);
}

/// What this member knows of the cluster right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The leader's member id; 0 for none.
    pub leader: u64,
    /// The current term.
    pub term: u64,
    /// The last index known to be committed.
    pub committed_index: u64,
    /// The last index applied here.
    pub applied_index: u64,
    /// Whether this member only learns.
    pub is_learner: bool,
}

impl Standing {
    /// Whether the same member leads in the same term.
    pub(crate) fn is_of_same_leader(&self, other: &Self) -> bool {
        (self.leader, self.term) == (other.leader, other.term)
    }
}

/// A change on its way to the log, and who waits for its outcome.
pub(crate) struct Proposal {
    pub(crate) caller: Caller,
    pub(crate) request: Request,
    /// The task that proposes it, which is its connection's.
    pub(crate) from: Option<tokio::task::Id>,
    pub(crate) bytes: usize,
    /// Its part of the queue's bytes, given back when it leaves the queue.
    pub(crate) room: OwnedSemaphorePermit,
    pub(crate) answer: oneshot::Sender<Result<Outcome, Error>>,
}

/// A read that waits for the next round of the read barrier.
pub(crate) type BarrierWaiter = oneshot::Sender<Result<(), Error>>;

/// The handle. Cloning shares.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    cluster_id: u64,
    member_id: u64,
    machine: Arc<RwLock<Machine>>,
    proposals: mpsc::Sender<Proposal>,
    proposal_room: Arc<Semaphore>,
    barriers: mpsc::Sender<BarrierWaiter>,
    renewals: mpsc::Sender<Renewal>,
    standing: watch::Receiver<Standing>,
    applied: watch::Receiver<u64>,
    compacted: watch::Receiver<i64>,
    started: Instant,
    carrier: Carrier,
    metrics: Arc<Metrics>,
    access: Arc<Access>,
    shutdown: Shutdown,
    integrity: Integrity,
}

/// What [`Store::new`] is made of: the receiving ends belong to the batcher, the barrier and the
/// consensus observer.
pub(crate) struct StoreParts {
    pub(crate) config: Arc<Config>,
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) machine: Arc<RwLock<Machine>>,
    pub(crate) proposals: mpsc::Sender<Proposal>,
    pub(crate) barriers: mpsc::Sender<BarrierWaiter>,
    pub(crate) renewals: mpsc::Sender<Renewal>,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) compacted: watch::Receiver<i64>,
    pub(crate) started: Instant,
    pub(crate) carrier: Carrier,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access: Arc<Access>,
    pub(crate) shutdown: Shutdown,
}

// === impl Store ===

impl Store {
    pub(crate) fn new(parts: StoreParts) -> Self {
        let StoreParts {
            config,
            cluster_id,
            member_id,
            machine,
            proposals,
            barriers,
            renewals,
            standing,
            applied,
            compacted,
            started,
            carrier,
            metrics,
            access,
            shutdown,
        } = parts;
        let integrity = Integrity::new(&shutdown);
        Self(Arc::new(Inner {
            config,
            cluster_id,
            member_id,
            machine,
            proposals,
            proposal_room: Arc::new(Semaphore::new(PROPOSAL_QUEUE_BYTES_MAX)),
            barriers,
            renewals,
            standing,
            applied,
            compacted,
            started,
            carrier,
            metrics,
            access,
            shutdown,
            integrity,
        }))
    }

    /// Puts a change through the log for `caller` and returns its outcome once it is durable and
    /// applied here. What the caller may do is decided when it is applied (AUTH-1).
    /// After [`Error::Timeout`], [`Error::LeaderChanged`] and [`Error::Stopped`] the outcome is
    /// unknown.
    pub(crate) async fn propose(
        &self,
        caller: &Caller,
        request: Request,
    ) -> Result<Outcome, Error> {
        if request_bytes(&request) > self.0.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        quota::check(self, &request).await?;
        self.submit(caller.clone(), request).await
    }

    /// Like [`Store::propose`] for a change of the member itself, whatever its size and the quota.
    pub(crate) async fn propose_own(&self, request: Request) -> Result<Outcome, Error> {
        self.submit(Caller::Member, request).await
    }

    async fn submit(&self, caller: Caller, request: Request) -> Result<Outcome, Error> {
        let standing = self.standing();
        if standing.committed_index.saturating_sub(standing.applied_index) > APPLY_GAP_MAX {
            return Err(Error::TooManyRequests);
        }
        let bytes = request_bytes(&request) + answer_room(&request);
        // A request above the queue's size has been refused above: the limit is far below it.
        let claim = u32::try_from(bytes.min(PROPOSAL_QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0.proposal_room)
            .try_acquire_many_owned(claim)
            .map_err(|_full| Error::TooManyRequests)?;
        let (answer, outcome) = oneshot::channel();
        let from = tokio::task::try_id();
        self.0
            .proposals
            .try_send(Proposal { caller, request, from, bytes, room, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
                mpsc::error::TrySendError::Closed(_) => Error::Stopped,
            })?;
        let begun = clock::now();
        match tokio::time::timeout(self.0.config.request_timeout(), outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(Error::Stopped),
            Err(_elapsed) => Err(self.why_late(standing, begun)),
        }
    }

    /// What is said of a request that began at `begun`, when `standing` was known, and took too long.
    fn why_late(&self, standing: Standing, begun: Instant) -> Error {
        let (now, own) = (self.standing(), self.0.member_id);
        let connected = match now.leader {
            // That there is no leader is no matter of one connection.
            0 => true,
            leader if leader == own => self.route().was_quorum_connected(own, begun),
            leader => self.route().was_connected(leader, begun),
        };
        why_late(standing, now, connected)
    }

    /// Returns once this member's machine holds every write acknowledged before the call (READ-1).
    /// Everybody who waits shares one round.
    pub(crate) async fn read_barrier(&self) -> Result<(), Error> {
        let (waiter, done) = oneshot::channel();
        self.0.barriers.try_send(waiter).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        match tokio::time::timeout(self.0.config.request_timeout(), done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped)) => Err(Error::Stopped),
            Err(_elapsed) => Err(Error::Timeout),
        }
    }

    /// Proposes a change that is only right while this member leads in `term`: in that term or
    /// not at all.
    pub(crate) async fn propose_in(&self, term: u64, request: Request) -> Result<Outcome, Error> {
        let time_ms = clock::wall_ms();
        let command = Command { time_ms, request: Some(request), ..Command::default() };
        self.0.carrier.propose_in(term, Caller::Member.mark(command)).await
    }

    /// Renews a lease while this member leads; returns its TTL. Whoever asks at the same time shares
    /// one entry of the log.
    pub(crate) async fn renew(&self, id: LeaseId) -> Result<i64, Error> {
        let (answer, renewed) = oneshot::channel();
        self.0.renewals.try_send(Renewal { id, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        renewed.await.unwrap_or(Err(Error::Stopped))
    }

    /// The way to the other members.
    pub(crate) fn route(&self) -> &Route {
        &self.0.carrier.route
    }

    /// The state machine. Readers hold the lock only while they plan a read.
    pub(crate) fn machine(&self) -> &Arc<RwLock<Machine>> {
        &self.0.machine
    }

    /// A response header at `revision` (0 where etcd leaves it out).
    pub(crate) fn header(&self, revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.0.cluster_id,
            member_id: self.0.member_id,
            revision,
            raft_term: self.standing().term,
        }
    }

    /// A response header at the machine's current revision. Takes the machine's read lock.
    pub(crate) fn header_now(&self) -> pb::ResponseHeader {
        let revision = self.0.machine.read().revision();
        self.header(revision)
    }

    /// What this member knows of the cluster right now.
    pub(crate) fn standing(&self) -> Standing {
        *self.0.standing.borrow()
    }

    /// Follows [`Store::standing`]: changes of leader and term, not of the indexes.
    pub(crate) fn watch_standing(&self) -> watch::Receiver<Standing> {
        self.0.standing.clone()
    }

    /// The last index applied here of which all is known that follows from it, such as logins.
    pub(crate) fn applied_index(&self) -> u64 {
        *self.0.applied.borrow()
    }

    /// Follows the last index applied here.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<u64> {
        self.0.applied.clone()
    }

    /// Whether this member leads as far as it knows; [`Store::read_barrier`] confirms it.
    pub(crate) fn is_leader(&self) -> bool {
        self.standing().leader == self.0.member_id
    }

    /// Milliseconds on this member's monotonic clock, as the machine's leases count them.
    pub(crate) fn now_ms(&self) -> u64 {
        self.0.started.elapsed().as_millis() as u64
    }

    /// Returns once everything before `revision` is physically gone (`CompactionRequest.physical`).
    pub(crate) async fn compaction_finished(&self, revision: i64) -> Result<(), Error> {
        let mut compacted = self.0.compacted.clone();
        compacted.wait_for(|done| *done >= revision).await.map_err(|_| Error::Stopped)?;
        Ok(())
    }

    /// Who has logged in, and how names are proven.
    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    /// The configuration the member runs with.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// This member's id.
    pub(crate) fn member_id(&self) -> u64 {
        self.0.member_id
    }

    /// What it counts.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Whether this member's data is what the others have.
    pub(crate) fn integrity(&self) -> &Integrity {
        &self.0.integrity
    }

    /// The alarms of the cluster, and this member's own if its data is wrong.
    pub(crate) fn alarms(&self) -> Vec<pb::AlarmMember> {
        let mut alarms = self.0.machine.read().alarms();
        let own =
            pb::AlarmMember { member_id: self.0.member_id, alarm: pb::AlarmType::Corrupt.into() };
        if self.0.integrity.is_corrupt() && !alarms.contains(&own) {
            alarms.push(own);
        }
        alarms
    }

    /// Triggered when the member stops; open streams end then.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }
}

/// What the answer to a request may take besides the request: so many answers are made at once as
/// there are requests in a batch, and each is there until its client has taken it.
fn answer_room(request: &Request) -> usize {
    let reads = match request {
        Request::Put(put) => put.prev_kv,
        Request::DeleteRange(delete) => delete.prev_kv,
        Request::Txn(_) => true,
        _ => false,
    };
    if reads { ANSWER_ROOM_BYTES } else { 0 }
}

/// The encoded size of a client's request.
fn request_bytes(request: &Request) -> usize {
    match request {
        Request::Put(m) => m.encoded_len(),
        Request::DeleteRange(m) => m.encoded_len(),
        Request::Txn(m) => m.encoded_len(),
        Request::Compaction(m) => m.encoded_len(),
        Request::LeaseGrant(m) => m.encoded_len(),
        Request::LeaseRevoke(m) => m.encoded_len(),
        Request::LeaseRevokeMany(m) => m.encoded_len(),
        Request::LeaseRenewMany(m) => m.encoded_len(),
        Request::Alarm(m) => m.encoded_len(),
        Request::MemberAttributes(m) => m.encoded_len(),
        Request::ClusterVersionSet(m) => m.encoded_len(),
        Request::DowngradeInfoSet(m) => m.encoded_len(),
        Request::Auth(m) => m.encoded_len(),
    }
}

//! The Lease service: grant, revoke, keep alive, time to live, list.
//!
//! Owns: which of them need the log and which the leader's clock. Must not know: deadlines. A
//! newcomer's trap: an unknown lease is an error to revoke, but an answer to keep alive (TTL 0)
//! and to time to live (TTL -1).

use std::time::Duration;

use futures::StreamExt as _;
use kijabi_base::{limits, rng, tasks};
use kijabi_machine::{Error as MachineError, LeaseId, Outcome};
use kijabi_proto::command::command::Request as Command;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::lease_server::Lease;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::guard::{Learner, admit};
use super::stamp;
use crate::access::{self, Credentials, Rpc};
use crate::error::Error;
use crate::peer::Link;
use crate::serve::reword;
use crate::store::Store;

/// How long a keep-alive waits between two looks whether this member has become the leader's own
/// keeper of time.
const PROMOTION_POLL: Duration = Duration::from_millis(20);
/// Between two tries to ask the leader, etcd's.
const LEADER_POLL: Duration = Duration::from_millis(50);

/// The path of the call that is a stream.
const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// The service.
pub(crate) struct LeaseService {
    store: Store,
}

impl LeaseService {
    /// The service on `store`.
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        let caller = access::caller(&self.store, &request, Rpc::LeaseGrant).await?;
        let mut request = request.into_inner();
        if request.id == LeaseId::NONE.0 {
            request.id = rng::positive_i64();
        }
        match self.store.propose(&caller, Command::LeaseGrant(request)).await? {
            Outcome::LeaseGrant(mut response) => {
                stamp(&self.store, &mut response.header);
                Ok(Response::new(response))
            }
            other => Err(super::mismatch(&other)),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        let caller = access::caller(&self.store, &request, Rpc::LeaseRevoke).await?;
        match self.store.propose(&caller, Command::LeaseRevoke(request.into_inner())).await? {
            Outcome::LeaseRevoke(mut response) => {
                stamp(&self.store, &mut response.header);
                Ok(Response::new(response))
            }
            other => Err(super::mismatch(&other)),
        }
    }

    type LeaseKeepAliveStream = ReceiverStream<Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        let credentials = Credentials::of(&self.store, &request);
        let (responses, receiver) = mpsc::channel(limits::KEEP_ALIVE_HANDED_MAX);
        let stop = self.store.shutdown().clone();
        tasks::spawn_until("lease keep-alive", stop, {
            keep_alive(self.store.clone(), credentials, request.into_inner(), responses)
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        let caller = access::caller(&self.store, &request, Rpc::LeaseTimeToLive).await?;
        let request = request.into_inner();
        let header = Some(self.store.header_now());
        let response = time_to_live(&self.store, &request).await?;
        let keys = response.keys.iter().map(|key| &key[..]);
        let permitted = self.store.machine().read().auth().permit_keys(&caller, keys);
        permitted.map_err(Error::from)?;
        Ok(Response::new(pb::LeaseTimeToLiveResponse { header, ..response }))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        let caller = access::caller(&self.store, &request, Rpc::LeaseLeases).await?;
        let (ids, revision) = {
            let machine = self.store.machine().read();
            machine.permit_lease_ids(&caller).map_err(Error::from)?;
            (machine.lease_ids(), machine.revision())
        };
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect();
        let header = Some(self.store.header(revision));
        Ok(Response::new(pb::LeaseLeasesResponse { header, leases }))
    }
}

/// Answers keep-alives one by one until the client ends.
async fn keep_alive(
    store: Store,
    credentials: Credentials,
    mut requests: Streaming<pb::LeaseKeepAliveRequest>,
    responses: mpsc::Sender<Result<pb::LeaseKeepAliveResponse, Status>>,
) {
    while let Some(request) = requests.next().await {
        let request = match request {
            Ok(request) => request,
            Err(status) => {
                // If the client has gone, nobody is told.
                let _ = responses.send(Err(reword(LEASE_KEEP_ALIVE, status))).await;
                return;
            }
        };
        // The header is made before the renewal: its revision must not be one at which the lease
        // might be gone already.
        let header = Some(store.header_now());
        let id = LeaseId(request.id);
        let renewed = match permit_renew(&store, &credentials, id).await {
            Ok(()) => renew(&store, id).await,
            Err(error) => Err(error),
        };
        let response = match renewed {
            Ok(ttl) => Ok(pb::LeaseKeepAliveResponse { header, id: request.id, ttl }),
            Err(Error::Machine(MachineError::LeaseNotFound)) => {
                Ok(pb::LeaseKeepAliveResponse { header, id: request.id, ttl: 0 })
            }
            Err(error) => Err(error.into()),
        };
        let failed = response.is_err();
        if responses.send(response).await.is_err() || failed {
            return;
        }
    }
}

/// Whether the client may keep a lease alive: it must be able to write all keys on it. The
/// credentials are looked at anew each time, because tokens run out.
async fn permit_renew(store: &Store, credentials: &Credentials, id: LeaseId) -> Result<(), Error> {
    if !store.access().enabled() {
        return Ok(());
    }
    // This member must know all the keys that hang on it.
    store.read_barrier().await?;
    let caller = credentials.caller(store, Rpc::LeaseKeepAlive).await?;
    Ok(store.machine().read().permit_lease_renew(&caller, id)?)
}

/// Who keeps the leases' time right now.
enum Keeper {
    Here,
    There(Box<Link>),
}

fn keeper(store: &Store) -> Option<Keeper> {
    let leader = store.standing().leader;
    if leader == store.member_id() {
        return Some(Keeper::Here);
    }
    store.route().to(leader).map(|link| Keeper::There(Box::new(link)))
}

/// Renews a lease, here or with the leader's help. Asking twice does no harm,
/// so it is asked for as long as a request may take.
async fn renew(store: &Store, id: LeaseId) -> Result<i64, Error> {
    let limit = store.config().request_timeout();
    let asking = async {
        loop {
            match keeper(store) {
                Some(Keeper::Here) => match renew_here(store, id).await {
                    Err(Error::NotLeader) => {}
                    answer => return answer,
                },
                Some(Keeper::There(link)) => match link.lease_renew(id.0, limit).await {
                    Ok(0) => return Err(MachineError::LeaseNotFound.into()),
                    Ok(ttl) => return Ok(ttl),
                    Err(status) => tracing::debug!(%status, "the leader did not renew a lease"),
                },
                None => {}
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    };
    tokio::time::timeout(limit, asking).await.unwrap_or(Err(Error::Timeout))
}

/// Remaining and granted time, asked in the same way.
async fn time_to_live(
    store: &Store,
    request: &pb::LeaseTimeToLiveRequest,
) -> Result<pb::LeaseTimeToLiveResponse, Error> {
    let limit = store.config().request_timeout();
    let asking = async {
        loop {
            match keeper(store) {
                Some(Keeper::Here) => match time_to_live_here(store, request).await {
                    Err(Error::NotLeader) => {}
                    answer => return answer,
                },
                Some(Keeper::There(link)) => match link.lease_time_to_live(*request, limit).await {
                    Ok(answer) => return Ok(answer),
                    Err(status) => tracing::debug!(%status, "the leader did not answer"),
                },
                None => {}
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    };
    tokio::time::timeout(limit, asking).await.unwrap_or(Err(Error::Timeout))
}

/// Renews a lease on the leader, through the log: a renewal that only a deposed leader knew of
/// would be worth nothing (LEASE-1).
pub(crate) async fn renew_here(store: &Store, id: LeaseId) -> Result<i64, Error> {
    if !store.is_leader() {
        return Err(Error::NotLeader);
    }
    as_leader(store, || store.machine().read().may_renew_lease(store.now_ms(), id)).await?;
    match store.renew(id).await {
        Ok(ttl) => {
            store.metrics().lease.renewed();
            Ok(ttl)
        }
        // Renewing twice does no harm, so whoever leads now may be asked.
        Err(Error::LeaderChanged) => Err(Error::NotLeader),
        Err(error) => Err(error),
    }
}

/// The leader's answer to time to live; a TTL below zero if there is no such lease.
pub(crate) async fn time_to_live_here(
    store: &Store,
    request: &pb::LeaseTimeToLiveRequest,
) -> Result<pb::LeaseTimeToLiveResponse, Error> {
    let answer = as_leader(store, || {
        let machine = store.machine().read();
        machine.lease_time_to_live(store.now_ms(), request)
    });
    match answer.await {
        Err(Error::Machine(MachineError::LeaseNotFound)) => {
            Ok(pb::LeaseTimeToLiveResponse { id: request.id, ttl: -1, ..Default::default() })
        }
        answer => answer,
    }
}

/// Asks the keeper of the leases' time. A new leader keeps it only from the moment it has applied
/// what was before it, so it is asked again for as long as a request may take.
async fn as_leader<T>(
    store: &Store,
    mut ask: impl FnMut() -> Result<T, MachineError>,
) -> Result<T, Error> {
    let asking = async {
        loop {
            match ask() {
                Err(MachineError::NotPrimaryLessor) if store.is_leader() => {
                    tokio::time::sleep(PROMOTION_POLL).await;
                }
                Err(MachineError::NotPrimaryLessor) => return Err(Error::NotLeader),
                answer => return Ok(answer?),
            }
        }
    };
    tokio::time::timeout(store.config().request_timeout(), asking)
        .await
        .unwrap_or(Err(Error::Timeout))
}

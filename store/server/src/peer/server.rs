//! What other members ask of this one.
//!
//! Owns: answering them. Must not know: who they are (`admit.rs` has checked it), or the meaning
//! of entries. A newcomer's trap: the id in a vote must be the sender's, or else one member could
//! speak for another.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::{Method, Request as HttpRequest, Response as HttpResponse};
use hyper::body::Incoming as Body;
use kijabi_base::tasks::Shutdown;
use kijabi_proto::etcdserverpb as etcd;
use kijabi_proto::peer as pb;
use kijabi_proto::peer::peer_server::{Peer, PeerServer};
use kijabi_proto::peer::snapshot_part::Part;
use openraft::type_config::async_runtime::watch::WatchReceiver as _;
use openraft::{ReadPolicy, Snapshot};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tower::Service as _;

use super::admit::{Refusal, admit};
use super::contact::Contact;
use super::entries::{Entries, check_vote};
use super::forward::Taker;
use super::snapshot::{self, Incoming};
use super::streams::Streams;
use super::wire::{self, Malformed};
use crate::consensus::types::{SnapshotMeta, decode};
use crate::consensus::{Applier, Awaited, LogStore, Raft};
use crate::demise::Demise;
use crate::error::Error;
use crate::identity::Identity;
use crate::limits::PEER_MESSAGE_BYTES_MAX;
use crate::metrics::Metrics;
use crate::serve::Grpc;
use crate::service::lease;
use crate::status::EtcdError;
use crate::store::Store;

/// How long the next part of a snapshot may take.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// The service on the peer URLs. Cloning shares.
#[derive(Clone)]
pub(crate) struct PeerPort(Arc<Inner>);

/// What of the member the service needs.
pub(crate) struct PeerPortParts {
    pub(crate) identity: Identity,
    pub(crate) log: LogStore,
    pub(crate) applier: Applier,
    pub(crate) awaited: Awaited,
    pub(crate) store: Store,
    pub(crate) contact: Contact,
    pub(crate) streams: Streams,
    pub(crate) demise: Demise,
    /// Ends the streams that would never end by themselves.
    pub(crate) stop: Shutdown,
    pub(crate) metrics: Arc<Metrics>,
}

struct Inner {
    parts: PeerPortParts,
    raft: Raft,
    /// Members that this one does not know yet, but others do. No more than there have been.
    vouched: Mutex<BTreeSet<u64>>,
    taker: Taker,
    /// One snapshot comes in at a time.
    receiving: Semaphore,
    /// One state goes out at a time to a member that has lost its own.
    sending: Arc<Semaphore>,
}

/// The sender, as the headers name it.
#[derive(Clone, Copy)]
struct Sender(u64);

// === impl PeerPort ===

impl PeerPort {
    pub(crate) fn new(parts: PeerPortParts) -> Self {
        let raft = parts.store.route().raft().clone();
        let taker = Taker::new(raft.clone(), parts.awaited.clone());
        Self(Arc::new(Inner {
            parts,
            raft,
            vouched: Mutex::default(),
            taker,
            receiving: Semaphore::new(1),
            sending: Arc::new(Semaphore::new(1)),
        }))
    }

    /// Answers a gRPC request.
    pub(crate) async fn answer(
        &self,
        mut request: HttpRequest<Body>,
    ) -> HttpResponse<tonic::body::Body> {
        let path = request.uri().path();
        let brings_entries = matches!(
            path,
            "/kijabi.peer.v1.Peer/Append"
                | "/kijabi.peer.v1.Peer/Heartbeat"
                | "/kijabi.peer.v1.Peer/Snapshot"
        );
        let admitted = admit(request.headers(), self.0.parts.identity, brings_entries, |id| {
            is_member(&self.0.raft, id)
        });
        let admitted = match admitted {
            Ok(sender) if brings_entries && !self.is_known(sender).await => {
                Err(Refusal::NotAMember)
            }
            admitted => admitted,
        };
        match admitted {
            Ok(sender) => {
                request.extensions_mut().insert(Sender(sender));
                let mut server = PeerServer::new(self.clone())
                    .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
                let answered = server.call(request).await;
                answered.unwrap_or_else(|never| match never {})
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "a request on the peer URL was refused");
                refused(refusal).into_http()
            }
        }
    }

    /// Whether a sender of entries is a member as far as this member knows, or else as far as the
    /// members do that it knows: it may lag, and learn of the sender only by those entries.
    async fn is_known(&self, sender: u64) -> bool {
        let known: Vec<u64> = {
            let metrics = self.0.raft.metrics();
            let seen = metrics.borrow_watched();
            seen.membership_config.membership().nodes().map(|(id, _)| *id).collect()
        };
        // One that joins knows nobody yet.
        if known.is_empty() || known.contains(&sender) || self.0.vouched.lock().contains(&sender) {
            return true;
        }
        let limit = self.0.parts.store.config().election_timeout;
        let others = known.into_iter().filter(|id| *id != self.0.parts.identity.member_id);
        let asked =
            others.filter_map(|id| self.0.parts.store.route().to(id)).map(|link| async move {
                let answer = link.members(limit).await;
                answer.is_ok_and(|answer| answer.members.iter().any(|member| member.id == sender))
            });
        let vouched = futures::future::join_all(asked).await.contains(&true);
        if vouched {
            self.0.vouched.lock().insert(sender);
        }
        vouched
    }

    /// Whether a request is for [`PeerPort::answer`].
    pub(crate) fn is_for<B>(request: &HttpRequest<B>) -> bool {
        request.method() == Method::POST && Grpc::is_for(request)
    }
}

fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::OtherCluster => EtcdError::ClusterIdMismatch.into(),
        other => Status::failed_precondition(other.to_string()),
    }
}

/// Whether there is a member with this id, as far as is known here.
fn is_member(raft: &Raft, id: u64) -> bool {
    let metrics = raft.metrics();
    let seen = metrics.borrow_watched();
    seen.membership_config.membership().get_node(&id).is_some()
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("raft has stopped: {error}"))
}

impl From<Malformed> for Status {
    fn from(error: Malformed) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

fn sender<T>(request: &Request<T>) -> Result<u64, Status> {
    let sender = request.extensions().get::<Sender>();
    sender.map(|sender| sender.0).ok_or_else(|| Status::internal("the sender was not checked"))
}

#[tonic::async_trait]
impl Peer for PeerPort {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<pb::AppendResponse, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let leader = sender(&request)?;
        let incoming = Entries {
            leader,
            contact: self.0.parts.contact.clone(),
            metrics: Arc::clone(&self.0.parts.metrics),
            open: self.0.parts.streams.open(leader),
        };
        let stop = self.0.parts.stop.clone();
        let requests = request.into_inner().take_until(async move { stop.wait().await });
        Ok(Response::new(Box::pin(incoming.take(&self.0.raft, requests))))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::AppendResponse>, Status> {
        let leader = sender(&request)?;
        let beat = wire::to_append(request.into_inner())?;
        check_vote(&beat.vote, leader)?;
        if !beat.entries.is_empty() {
            return Err(Malformed("a heartbeat with entries").into());
        }
        let previous = beat.prev_log_id;
        let answer = self.0.raft.append_entries(beat).await.map_err(stopped)?;
        let answer = answer.into_stream_result(previous, previous);
        if answer.is_ok() {
            self.0.parts.contact.heard(leader);
        }
        Ok(Response::new(wire::from_appended(&answer)))
    }

    async fn vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        let candidate = sender(&request)?;
        let asked = wire::to_vote_request(request.into_inner())?;
        check_vote(&asked.vote, candidate)?;
        let term = asked.vote.leader_id.term;
        let before = self.0.parts.log.last_before(term);
        let mut answer = self.0.raft.vote(asked).await.map_err(stopped)?;
        if answer.vote_granted {
            // What was before the vote in the log is as durable as the vote. What the new leader has
            // sent meanwhile, by the votes of others, may not be yet.
            let after = self.0.parts.log.last_before(term);
            answer.last_log_id = after.filter(|_| after == before);
        }
        Ok(Response::new(wire::from_vote_response(&answer)))
    }

    async fn pre_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        let candidate = sender(&request)?;
        let asked = wire::to_vote_request(request.into_inner())?;
        check_vote(&asked.vote, candidate)?;
        let answer = self.0.raft.pre_vote(asked).await.map_err(stopped)?;
        Ok(Response::new(wire::from_vote_response(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let leader = sender(&request)?;
        let asked = wire::to_transfer(request.into_inner())?;
        check_vote(asked.from_leader(), leader)?;
        let answer = self.0.raft.handle_transfer_leader(asked).await.map_err(stopped)?;
        let refusal = answer.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(pb::TransferLeaderResponse { refusal }))
    }

    async fn greet(
        &self,
        _request: Request<pb::GreetRequest>,
    ) -> Result<Response<pb::GreetResponse>, Status> {
        Ok(Response::new(pb::GreetResponse {}))
    }

    async fn gone(
        &self,
        request: Request<pb::GoneRequest>,
    ) -> Result<Response<pb::GoneResponse>, Status> {
        let leader = wire::to_vote(request.into_inner().leader)?;
        Ok(Response::new(self.0.parts.demise.answer(&leader).await))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let leader = sender(&request)?;
        let Ok(_receiving) = self.0.receiving.try_acquire() else {
            return Err(Status::resource_exhausted("another snapshot is being received"));
        };
        let mut parts = request.into_inner();
        let Some(Part::Head(head)) = next_part(&mut parts).await? else {
            return Err(Malformed("a snapshot without a head").into());
        };
        let vote = wire::to_vote(head.vote)?;
        check_vote(&vote, leader)?;
        let meta: SnapshotMeta =
            decode(&head.meta).map_err(|_| Malformed("a snapshot's head that cannot be read"))?;
        let term = meta.last_log_id.map_or(0, |id| id.leader_id.term);
        if !vote.committed || term > vote.leader_id.term {
            return Err(Malformed("a snapshot that its sender cannot have").into());
        }
        let current = self.0.raft.metrics().borrow_watched().vote;
        if current > vote {
            let vote = Some(wire::from_vote(&current));
            return Ok(Response::new(pb::SnapshotResponse { vote }));
        }
        tracing::info!(from = %format_args!("{leader:x}"), %meta, "receiving a snapshot");
        let incoming = Incoming::begin(self.0.parts.applier.home().clone());
        let mut going_on = true;
        while going_on {
            match next_part(&mut parts).await? {
                Some(Part::Data(part)) => {
                    self.0.parts.contact.heard(leader);
                    going_on = incoming.take(part).await;
                }
                Some(Part::Head(_)) => return Err(Malformed("a second head").into()),
                None => break,
            }
        }
        let snapshot = incoming.end().await.map_err(|error| {
            tracing::warn!(%error, "a snapshot was not taken");
            Status::data_loss(error.to_string())
        })?;
        let installed = self.0.raft.install_full_snapshot(vote, Snapshot { meta, snapshot });
        let vote = Some(wire::from_vote(&installed.await.map_err(stopped)?.vote));
        tracing::info!("the snapshot is installed");
        Ok(Response::new(pb::SnapshotResponse { vote }))
    }

    type ProposeStream = Pin<Box<dyn Stream<Item = Result<pb::ProposeResponse, Status>> + Send>>;

    async fn propose(
        &self,
        request: Request<Streaming<pb::ProposeRequest>>,
    ) -> Result<Response<Self::ProposeStream>, Status> {
        let member = sender(&request)?;
        let raft = self.0.raft.clone();
        let requests = request.into_inner().map(move |request| {
            let known = is_member(&raft, member);
            if known { request } else { Err(refused(Refusal::NotAMember)) }
        });
        let stop = self.0.parts.stop.clone();
        let answers = self.0.taker.clone().take(member, requests);
        Ok(Response::new(Box::pin(answers.take_until(async move { stop.wait().await }))))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        let reader = sender(&request)?;
        let confirmed = self.0.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        let read = confirmed.map_err(|error| Status::unavailable(error.to_string()))?;
        let index = read.read_log_id().index();
        self.0.parts.awaited.reads(reader, index);
        Ok(Response::new(pb::ReadIndexResponse { index }))
    }

    async fn lease_renew(
        &self,
        request: Request<pb::LeaseRenewRequest>,
    ) -> Result<Response<pb::LeaseRenewResponse>, Status> {
        let id = kijabi_machine::LeaseId(request.into_inner().id);
        match lease::renew_here(&self.0.parts.store, id).await {
            Ok(ttl) => Ok(Response::new(pb::LeaseRenewResponse { ttl })),
            Err(Error::Machine(kijabi_machine::Error::LeaseNotFound)) => {
                Ok(Response::new(pb::LeaseRenewResponse { ttl: 0 }))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn lease_time_to_live(
        &self,
        request: Request<etcd::LeaseTimeToLiveRequest>,
    ) -> Result<Response<etcd::LeaseTimeToLiveResponse>, Status> {
        match lease::time_to_live_here(&self.0.parts.store, &request.into_inner()).await {
            Ok(response) => Ok(Response::new(response)),
            Err(error) => Err(error.into()),
        }
    }

    async fn digest(
        &self,
        request: Request<pb::DigestRequest>,
    ) -> Result<Response<pb::DigestResponse>, Status> {
        let machine = self.0.parts.store.machine().read();
        let (applied, index) = (machine.applied_index(), request.get_ref().index);
        Ok(Response::new(pb::DigestResponse { applied, digest: machine.digest_at(index) }))
    }

    type FetchStateStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotPart, Status>> + Send>>;

    async fn fetch_state(
        &self,
        request: Request<pb::FetchStateRequest>,
    ) -> Result<Response<Self::FetchStateStream>, Status> {
        let member = sender(&request)?;
        if self.0.parts.store.integrity().is_corrupt() {
            return Err(EtcdError::Corrupt.into());
        }
        let Ok(sending) = Arc::clone(&self.0.sending).try_acquire_owned() else {
            return Err(Status::resource_exhausted("another state is being sent"));
        };
        tracing::warn!(to = %format_args!("{member:x}"), "sending the state");
        let checkpoint = self.0.parts.applier.checkpoint().await.map_err(stopped)?;
        let parts = snapshot::parts(pb::SnapshotHead::default(), Arc::new(checkpoint));
        let stop = self.0.parts.stop.clone();
        let parts = ReceiverStream::new(parts).map(move |part| {
            let _sending = &sending;
            Ok(part)
        });
        Ok(Response::new(Box::pin(parts.take_until(async move { stop.wait().await }))))
    }
}

async fn next_part(parts: &mut Streaming<pb::SnapshotPart>) -> Result<Option<Part>, Status> {
    match tokio::time::timeout(PART_TIMEOUT, parts.message()).await {
        Ok(Ok(Some(message))) => Ok(Some(message.part.ok_or(Malformed("an empty part"))?)),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(status)) => Err(status),
        Err(_elapsed) => Err(Status::deadline_exceeded("the next part did not come in time")),
    }
}

//! How Raft reaches the other members.
//!
//! Owns: which of Raft's messages goes over which connection, and its deadline. Must not know: what
//! the messages decide. A newcomer's trap: entries are pipelined: many requests are under way on
//! one stream, answered in order; a heartbeat is a request of its own on another connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kijabi_proto::peer as pb;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use tonic::Status;

use super::applier::SnapshotData;
use super::awaited::{Awaited, Waiting};
use super::grants::{Grants, Search};
use super::log_store::LogStore;
use super::pipeline::{ANSWER_TIMEOUT, Requests, Rhythm, Sent, Window};
use super::types::{Peer, TypeConfig, Vote, encode};
use crate::metrics::Metrics;
use crate::peer::client::{call, never_sent};
use crate::peer::wire::{self, Malformed};
use crate::peer::{Link, Peers, snapshot};

type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;
type Rpc<T> = Result<T, RPCError<TypeConfig>>;
type Appended<'s> = BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>;

/// How long a member may take to install a snapshot it has received.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// Between two tries to reach a member that cannot be reached.
const BACKOFF: Duration = Duration::from_millis(100);
/// Raft that has entries to send has read the first ones by then.
const IDLE: Duration = Duration::from_millis(5);

/// Makes the connections to other members.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) peers: Peers,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) grants: Grants,
    pub(crate) log: LogStore,
    pub(crate) awaited: Awaited,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Entries,
    Heartbeats,
}

/// The connection to one other member.
pub(crate) struct Connection {
    target: u64,
    link: Link,
    purpose: Purpose,
    metrics: Arc<Metrics>,
    grants: Grants,
    search: Search,
    log: LogStore,
    waiting: Arc<Waiting>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Connection {
        self.connection(target, node, Purpose::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Connection {
        self.connection(target, node, Purpose::Heartbeats)
    }
}

impl Network {
    fn connection(&self, target: u64, node: &Peer, purpose: Purpose) -> Connection {
        let link = self.peers.link(target, &node.peer_urls);
        Connection {
            target,
            link,
            purpose,
            metrics: Arc::clone(&self.metrics),
            grants: self.grants.clone(),
            search: self.grants.search(target),
            log: self.log.clone(),
            waiting: self.awaited.at(target),
        }
    }
}

impl Connection {
    fn failed(&self, status: &Status) -> RPCError<TypeConfig> {
        self.metrics.peers.failed(self.target);
        tracing::debug!(target_member = %format_args!("{:x}", self.target), %status, "peer");
        let error = AnyError::error(format!("member {:x}: {status}", self.target));
        if never_sent(status) {
            return Unreachable::new(&error).into();
        }
        NetworkError::new(&error).into()
    }

    fn malformed(&self, error: &Malformed) -> RPCError<TypeConfig> {
        self.failed(&Status::data_loss(error.to_string()))
    }

    async fn beat(
        &mut self,
        beat: AppendEntriesRequest<TypeConfig>,
        limit: Duration,
    ) -> Rpc<StreamAppendResult<TypeConfig>> {
        let message = wire::from_append(beat)
            .map_err(|error| self.failed(&Status::internal(error.to_string())))?;
        let started = kijabi_base::clock::now();
        let answer = call(limit, self.link.control.heartbeat(message)).await;
        let answer = answer.map_err(|status| {
            self.metrics.peers.heartbeat_failed();
            self.failed(&status)
        })?;
        self.metrics.peers.round_trip(self.target, started.elapsed());
        wire::to_appended(answer).map_err(|error| self.malformed(&error))
    }

    /// Opens the stream of entries: requests go out as long as there is a place for them, and
    /// each answer makes one free.
    async fn pipeline<S>(&mut self, input: S, setup: Duration) -> Rpc<Appended<'_>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let window = Arc::<Window>::default();
        let requests = Requests {
            input,
            window: Arc::clone(&window),
            appended: self.log.appended(),
            waiting: Arc::clone(&self.waiting),
            target: self.target,
            metrics: Arc::clone(&self.metrics),
            sent: Sent::default(),
            rhythm: Rhythm::default(),
        };
        let messages = futures::stream::unfold(requests, |mut requests| async move {
            requests.next().await.map(|message| (message, requests))
        });
        let answers = match call(setup, self.link.log.append(messages)).await {
            Ok(answers) => answers,
            Err(status) => {
                // Raft waits between two requests, but here it was not asked for the first.
                tokio::time::sleep(BACKOFF).await;
                return Err(self.failed(&status));
            }
        };
        let this = &*self;
        let appended = futures::stream::unfold(Some((answers, window)), move |going| async move {
            let (mut answers, window) = going?;
            match window.next_answer(&mut answers).await {
                Ok(Some(answer)) => {
                    let answer = answer.map_err(|error| this.malformed(&error));
                    let going_on = matches!(answer, Ok(Ok(_)));
                    Some((answer, going_on.then_some((answers, window))))
                }
                Ok(None) => None,
                Err(status) => Some((Err(this.failed(&status)), None)),
            }
        });
        Ok(Box::pin(appended))
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let input = futures::stream::iter([rpc]);
        let mut answers = self.stream_append(input, option).await?;
        match answers.next().await {
            Some(answer) => Ok(answer?.into()),
            None => Err(NetworkError::from_string("the stream ended without an answer").into()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<Appended<'s>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let first = match (self.purpose, tokio::time::timeout(IDLE, input.next()).await) {
                (_, Ok(first)) => first,
                (Purpose::Heartbeats, Err(_elapsed)) => input.next().await,
                // There is nothing to send yet. The stream is opened all the same: its end is how
                // the other member learns that this one is gone.
                (Purpose::Entries, Err(_elapsed)) => {
                    return self.pipeline(input, ANSWER_TIMEOUT).await;
                }
            };
            let Some(first) = first else {
                return Ok(Box::pin(futures::stream::empty()) as Appended<'s>);
            };
            let answer = match self.purpose {
                Purpose::Heartbeats => self.beat(first, option.hard_ttl() * 9 / 10).await,
                Purpose::Entries => match self.search.answer(&first) {
                    Some(previous) => Ok(Ok(Some(previous))),
                    None => {
                        let input = futures::stream::iter([first]).chain(input);
                        return self.pipeline(input, ANSWER_TIMEOUT).await;
                    }
                },
            };
            Ok(Box::pin(futures::stream::iter([answer])) as Appended<'s>)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        self.link.greet(option.hard_ttl());
        let message = wire::from_vote_request(&rpc);
        let answer = call(option.soft_ttl(), self.link.control.vote(message)).await;
        let answer = answer.map_err(|status| self.failed(&status))?;
        let answer = wire::to_vote_response(answer).map_err(|error| self.malformed(&error))?;
        if answer.vote_granted && answer.vote == rpc.vote {
            self.grants.note(self.target, &rpc.vote, answer.last_log_id);
        }
        Ok(answer)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        self.link.greet(option.hard_ttl());
        let message = wire::from_vote_request(&rpc);
        let answer = call(option.soft_ttl(), self.link.control.pre_vote(message)).await;
        let answer = answer.map_err(|status| self.failed(&status))?;
        wire::to_vote_response(answer).map_err(|error| self.malformed(&error))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let message = wire::from_transfer(&request);
        let answer = call(option.soft_ttl(), self.link.control.transfer_leader(message)).await;
        let refusal = answer.map_err(|status| self.failed(&status))?.refusal;
        if refusal.is_empty() {
            return Ok(Ok(()));
        }
        Err(NetworkError::from_string(refusal).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let meta = encode(&snapshot.meta)
            .map_err(|error| self.failed(&Status::internal(error.to_string())))?;
        let head = pb::SnapshotHead { vote: Some(wire::from_vote(&vote)), meta };
        let parts = snapshot::parts(head, snapshot.snapshot);
        let parts = tokio_stream::wrappers::ReceiverStream::new(parts);
        let started = kijabi_base::clock::now();
        let sending = call(INSTALL_TIMEOUT, self.link.bulk.snapshot(parts));
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = sending => answer,
        };
        self.metrics.peers.snapshot_sent(self.target, started.elapsed(), answer.is_ok());
        let answer = answer.map_err(|status| self.failed(&status))?;
        let vote = wire::to_vote(answer.vote).map_err(|error| self.malformed(&error))?;
        Ok(SnapshotResponse::new(vote))
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}

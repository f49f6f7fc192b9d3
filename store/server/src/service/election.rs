//! The Election service: Campaign, Proclaim, Leader, Observe, Resign.
//!
//! Owns: who leads and what it says. Must not know: how one waits. A newcomer's trap: the leader's
//! key is known by its create revision, so that somebody who led before cannot speak for the one
//! who leads now.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kijabi_base::limits::WATCH_CATCH_UP_REVISIONS_MAX;
use kijabi_base::tasks;
use kijabi_machine::KeyRange;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::mvccpb::event::EventType;
use kijabi_proto::mvccpb::{Event, KeyValue};
use kijabi_proto::v3electionpb as election;
use kijabi_proto::v3electionpb::election_server::Election;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::recipe::{
    Caller, Lost, Recipe, created_at, end_of, key_of, oldest, op, prefix_of, read_by, revision,
    single, without_code,
};
use crate::watch::Registration;

const NO_LEADER: &str = "election: no leader";
const NOT_LEADER: &str = "election: not leader";
const MISSING_LEADER: &str = "\"leader\" field must be provided";

/// Leaders handed to an observer before it has taken them.
const OBSERVED_MAX: usize = 4;

/// The service.
pub(crate) struct ElectionService {
    recipe: Arc<Recipe>,
}

impl ElectionService {
    pub(crate) fn new(recipe: Arc<Recipe>) -> Self {
        Self { recipe }
    }

    async fn stand(
        &self,
        caller: &Caller,
        request: election::CampaignRequest,
    ) -> Result<election::CampaignResponse, Status> {
        let recipe = &self.recipe;
        let lease = recipe.session(caller, request.lease).await?;
        let prefix = prefix_of(&request.name);
        let key = key_of(&prefix, lease);
        let value = request.value;
        let put =
            pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() };
        let entering = pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Op::RequestPut(put))],
            failure: vec![op(Op::RequestRange(single(&key)))],
        };
        let entered = recipe.txn(caller, entering).await?;
        let before = read_by(&entered, 0).first();
        let created =
            before.map_or_else(|| revision(entered.header.as_ref()), |kv| kv.create_revision);
        let candidate = recipe.candidate(caller, key.clone(), created);
        let leader =
            election::LeaderKey { name: request.name, key: key.clone(), rev: created, lease };
        if before.is_some_and(|kv| kv.value != value) {
            self.say(caller, &leader, lease, value).await?;
        }
        // Differs from etcd: a key that has gone wins nothing.
        let held = async {
            candidate.wait_turn(&prefix).await?;
            candidate.holds(lease).await
        };
        match held.await {
            Ok(_) => {
                candidate.keep();
                let header = entered.header;
                Ok(election::CampaignResponse { header, leader: Some(leader) })
            }
            Err(Lost::OwnKey) => Err(Status::unknown(NOT_LEADER)),
            Err(Lost::Failed(status)) => Err(status),
        }
    }

    /// A new value for a leader that still leads.
    async fn say(
        &self,
        caller: &Caller,
        leader: &election::LeaderKey,
        lease: i64,
        value: Bytes,
    ) -> Result<pb::TxnResponse, Status> {
        let put = pb::PutRequest { key: leader.key.clone(), value, lease, ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![created_at(&leader.key, leader.rev)],
            success: vec![op(Op::RequestPut(put))],
            failure: Vec::new(),
        };
        let response = self.recipe.txn(caller, request).await?;
        if response.succeeded { Ok(response) } else { Err(Status::unknown(NOT_LEADER)) }
    }

    async fn proclaimed(
        &self,
        caller: &Caller,
        request: election::ProclaimRequest,
    ) -> Result<election::ProclaimResponse, Status> {
        let leader = request.leader.ok_or_else(|| Status::unknown(MISSING_LEADER))?;
        let lease = self.recipe.session(caller, leader.lease).await?;
        let response = self.say(caller, &leader, lease, request.value).await?;
        Ok(election::ProclaimResponse { header: response.header })
    }

    async fn resigned(
        &self,
        caller: &Caller,
        request: election::ResignRequest,
    ) -> Result<election::ResignResponse, Status> {
        let leader = request.leader.ok_or_else(|| Status::unknown(MISSING_LEADER))?;
        let response = self.recipe.delete(caller, &leader.key, leader.rev).await?;
        Ok(election::ResignResponse { header: response.header })
    }

    async fn led(
        &self,
        caller: &Caller,
        request: election::LeaderRequest,
    ) -> Result<election::LeaderResponse, Status> {
        let range = oldest(&prefix_of(&request.name));
        let found = self.recipe.range(caller, range).await?;
        let kv = found.kvs.into_iter().next().ok_or_else(|| Status::unknown(NO_LEADER))?;
        Ok(election::LeaderResponse { header: found.header, kv: Some(kv) })
    }
}

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<election::CampaignRequest>,
    ) -> Result<Response<election::CampaignResponse>, Status> {
        let (caller, request) = self.recipe.admit(request)?;
        self.stand(&caller, request).await.map(Response::new).map_err(without_code)
    }

    async fn proclaim(
        &self,
        request: Request<election::ProclaimRequest>,
    ) -> Result<Response<election::ProclaimResponse>, Status> {
        let (caller, request) = self.recipe.admit(request)?;
        self.proclaimed(&caller, request).await.map(Response::new).map_err(without_code)
    }

    async fn leader(
        &self,
        request: Request<election::LeaderRequest>,
    ) -> Result<Response<election::LeaderResponse>, Status> {
        let (caller, request) = self.recipe.admit(request)?;
        self.led(&caller, request).await.map(Response::new).map_err(without_code)
    }

    type ObserveStream = ReceiverStream<Result<election::LeaderResponse, Status>>;

    async fn observe(
        &self,
        request: Request<election::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (caller, request) = self.recipe.admit(request)?;
        let (responses, receiver) = mpsc::channel(OBSERVED_MAX);
        let prefix = prefix_of(&request.name);
        let registration = self.recipe.hub().register(0);
        let observer = Observer {
            recipe: Arc::clone(&self.recipe),
            caller,
            prefix,
            registration,
            waiting: VecDeque::new(),
            responses,
        };
        tasks::spawn_until("observer", self.recipe.store().shutdown().clone(), observer.run());
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn resign(
        &self,
        request: Request<election::ResignRequest>,
    ) -> Result<Response<election::ResignResponse>, Status> {
        let (caller, request) = self.recipe.admit(request)?;
        self.resigned(&caller, request).await.map(Response::new).map_err(without_code)
    }
}

/// Follows who leads.
struct Observer {
    recipe: Arc<Recipe>,
    caller: Caller,
    prefix: Bytes,
    registration: Registration,
    /// Events that have been picked up and not been looked at, in order.
    waiting: VecDeque<Event>,
    responses: mpsc::Sender<Result<election::LeaderResponse, Status>>,
}

/// What an observer sees next.
enum Seen {
    Event(Event),
    /// Events were lost: who leads now has to be looked up.
    Gap,
}

// === impl Observer ===

impl Observer {
    // Differs from etcd: what fails is said; there the stream ends as if all were well.
    async fn run(mut self) {
        let end = end_of(&self.prefix);
        self.registration.cover(KeyRange::of(&self.prefix, &end));
        let responses = self.responses.clone();
        tokio::select! {
            failed = self.follow() => {
                let _ = responses.send(Err(without_code(failed))).await;
            }
            () = responses.closed() => {}
        }
    }

    /// One leader after the other, until something fails.
    async fn follow(&mut self) -> Status {
        loop {
            let found = match self.recipe.range(&self.caller, oldest(&self.prefix)).await {
                Ok(found) => found,
                Err(status) => return status,
            };
            let at = revision(found.header.as_ref());
            self.waiting.retain(|event| revision_of(event) > at);
            let leader = match found.kvs.into_iter().next() {
                Some(leader) => leader,
                None => match self.first_put(at).await {
                    Some(leader) => leader,
                    None => continue,
                },
            };
            let seen_at = at.max(leader.mod_revision);
            let key = leader.key.clone();
            self.tell(seen_at, leader).await;
            self.follow_key(&key, seen_at).await;
        }
    }

    /// The first key that is put after a revision; `None` to look again.
    async fn first_put(&mut self, after: i64) -> Option<KeyValue> {
        loop {
            match self.next().await {
                Seen::Gap => return None,
                Seen::Event(event) if revision_of(&event) <= after => {}
                Seen::Event(event) if event.r#type() == EventType::Put => return event.kv,
                Seen::Event(_) => {}
            }
        }
    }

    /// What a leader says, until its key has gone.
    async fn follow_key(&mut self, key: &Bytes, after: i64) {
        loop {
            let event = match self.next().await {
                Seen::Gap => return,
                Seen::Event(event) => event,
            };
            let kind = event.r#type();
            let Some(kv) = event.kv.filter(|kv| kv.key == key && kv.mod_revision > after) else {
                continue;
            };
            if kind == EventType::Delete {
                return;
            }
            self.tell(kv.mod_revision, kv).await;
        }
    }

    async fn tell(&self, revision: i64, leader: KeyValue) {
        let header = Some(self.recipe.store().header(revision));
        // Whether anybody listens is looked at elsewhere.
        let response = election::LeaderResponse { header, kv: Some(leader) };
        let _ = self.responses.send(Ok(response)).await;
    }

    async fn next(&mut self) -> Seen {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Seen::Event(event);
            }
            self.registration.woken().await;
            let pickup = self.registration.pick_up(WATCH_CATCH_UP_REVISIONS_MAX);
            if pickup.lost_from.is_some() {
                return Seen::Gap;
            }
            let events = pickup.revisions.iter().flat_map(|revision| &revision.events);
            let ours = |event: &&Event| {
                event.kv.as_ref().is_some_and(|kv| kv.key.starts_with(&self.prefix))
            };
            self.waiting.extend(events.filter(ours).cloned());
        }
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

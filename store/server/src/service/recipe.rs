//! What locks and elections are made of: keys under a prefix, the oldest of which holds.
//!
//! Owns: candidates, and waiting for those before them. Must not know: the two services' messages. A
//! newcomer's trap: everything goes through the KV service with the caller's own metadata, so that
//! a lock gives nobody more than the keys would; and whoever leaves takes its key along, but only
//! the key it made: one of the same name that came later is somebody else's.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use kijabi_base::limits::WATCH_CATCH_UP_REVISIONS_MAX;
use kijabi_base::tasks;
use kijabi_machine::KeyRange;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kijabi_proto::etcdserverpb::kv_server::Kv as _;
use kijabi_proto::etcdserverpb::lease_server::Lease as _;
use kijabi_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::etcdserverpb::response_op::Response as OpResponse;
use kijabi_proto::mvccpb::KeyValue;
use kijabi_proto::mvccpb::event::EventType;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Request, Status};

use super::guard::{Learner, admit};
use super::kv::KvService;
use super::lease::LeaseService;
use crate::limits::LOCK_WAITERS_MAX;
use crate::status::EtcdError;
use crate::store::Store;
use crate::watch::Hub;

/// The TTL of a lease that is granted to a caller who names none.
const SESSION_TTL_SECONDS: i64 = 60;

/// The parts. Shared.
pub(crate) struct Recipe {
    store: Store,
    kv: KvService,
    lease: LeaseService,
    hub: Arc<Hub>,
    waiters: Arc<Semaphore>,
}

/// Who asks, as the request said it.
#[derive(Clone)]
pub(super) struct Caller {
    metadata: MetadataMap,
    extensions: Extensions,
}

/// A key in a queue. Dropped before it is [kept](Candidate::keep), it leaves the queue.
pub(super) struct Candidate {
    recipe: Arc<Recipe>,
    caller: Caller,
    /// The key.
    pub(super) key: Bytes,
    /// Its create revision: its place.
    pub(super) created: i64,
    kept: bool,
}

/// Why nobody holds on until the end of a wait.
#[derive(Debug)]
pub(super) enum Lost {
    /// The candidate's own key has gone, with its lease or by somebody's hand.
    OwnKey,
    Failed(Status),
}

impl From<Status> for Lost {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// The error as etcd's services of this kind give it: through a client of their own, which keeps
/// the text and loses the code.
// Differs from etcd: a state that passes stays Unavailable, on which clients try again.
pub(super) fn without_code(status: Status) -> Status {
    match status.code() {
        Code::Unavailable | Code::Unknown => status,
        _ => Status::unknown(status.message()),
    }
}

/// The keys of `name`: those that begin with it and a slash.
pub(super) fn prefix_of(name: &[u8]) -> Bytes {
    let mut prefix = BytesMut::with_capacity(name.len() + 1);
    prefix.put_slice(name);
    prefix.put_u8(b'/');
    prefix.freeze()
}

/// The end of the keys that begin with `prefix`, which ends with a slash.
pub(super) fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// The key of a lease under `prefix`.
pub(super) fn key_of(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let mut key = prefix.to_vec();
    key.extend_from_slice(format!("{sign}{:x}", lease.unsigned_abs()).as_bytes());
    key.into()
}

/// The range of the oldest key under `prefix`.
pub(super) fn oldest(prefix: &[u8]) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

/// The range of one key.
pub(super) fn single(key: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest { key: key.clone(), ..Default::default() }
}

/// Whether `key` was created at `revision`; 0 = is not there.
pub(super) fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

/// An operation of a transaction.
pub(super) fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// The keys that operation `index` of a transaction has read.
pub(super) fn read_by(response: &pb::TxnResponse, index: usize) -> &[KeyValue] {
    match response.responses.get(index).and_then(|op| op.response.as_ref()) {
        Some(OpResponse::ResponseRange(range)) => &range.kvs,
        _ => &[],
    }
}

/// The revision of a header.
pub(super) fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

// === impl Caller ===

impl Caller {
    /// Takes a request apart.
    pub(super) fn of<T>(request: Request<T>) -> (Self, T) {
        let (metadata, extensions, message) = request.into_parts();
        (Self { metadata, extensions }, message)
    }

    fn asks<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), self.extensions.clone(), message)
    }
}

// === impl Recipe ===

impl Recipe {
    /// On `store`, with events from `hub`.
    pub(crate) fn new(store: Store, hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self {
            kv: KvService::new(store.clone()),
            lease: LeaseService::new(store.clone()),
            store,
            hub,
            waiters: Arc::new(Semaphore::new(LOCK_WAITERS_MAX)),
        })
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit<T>(&self, request: Request<T>) -> Result<(Caller, T), Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        Ok(Caller::of(request))
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(super) async fn range(
        &self,
        caller: &Caller,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Status> {
        Ok(self.kv.range(caller.asks(request)).await?.into_inner())
    }

    pub(super) async fn txn(
        &self,
        caller: &Caller,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Status> {
        Ok(self.kv.txn(caller.asks(request)).await?.into_inner())
    }

    /// The lease to use: the one that was named, or a new one.
    pub(super) async fn session(&self, caller: &Caller, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = pb::LeaseGrantRequest { ttl: SESSION_TTL_SECONDS, id: 0 };
        Ok(self.lease.lease_grant(caller.asks(request)).await?.into_inner().id)
    }

    /// Whether a lease still has time: one that has none may not have been revoked yet.
    pub(super) async fn lives(&self, caller: &Caller, lease: i64) -> Result<bool, Status> {
        let request = pb::LeaseTimeToLiveRequest { id: lease, keys: false };
        let response = self.lease.lease_time_to_live(caller.asks(request)).await?;
        Ok(response.into_inner().ttl > 0)
    }

    /// Deletes `key` if it is still the one created at `created`.
    pub(super) async fn delete(
        &self,
        caller: &Caller,
        key: &Bytes,
        created: i64,
    ) -> Result<pb::TxnResponse, Status> {
        let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![created_at(key, created)],
            success: vec![op(Op::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        self.txn(caller, request).await
    }

    /// A key that this caller has in a queue from now on.
    pub(super) fn candidate(
        self: &Arc<Self>,
        caller: &Caller,
        key: Bytes,
        created: i64,
    ) -> Candidate {
        Candidate { recipe: Arc::clone(self), caller: caller.clone(), key, created, kept: false }
    }
}

// === impl Candidate ===

impl Candidate {
    /// It holds; it stays when this value goes.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }

    /// Waits until no key under `prefix` is older. One candidate waits for one key, the youngest
    /// of the older ones, so that each key that goes wakes one waiter and not all of them.
    pub(super) async fn wait_turn(&self, prefix: &[u8]) -> Result<(), Lost> {
        let recipe = &self.recipe;
        let full = |_| Status::from(EtcdError::TooManyRequests);
        let _slot = Arc::clone(&recipe.waiters).try_acquire_owned().map_err(full)?;
        let registration = recipe.hub.register(0);
        registration.cover(KeyRange::One(&self.key));
        let mut waits_for: Option<Bytes> = None;
        loop {
            let older = pb::RangeRequest {
                sort_order: SortOrder::Descend.into(),
                max_create_revision: self.created - 1,
                ..oldest(prefix)
            };
            let older = recipe.range(&self.caller, older).await?;
            let Some(before) = older.kvs.into_iter().next() else { return Ok(()) };
            registration.cover(KeyRange::One(&before.key));
            if let Some(gone) = waits_for.replace(before.key.clone()) {
                registration.uncover(KeyRange::One(&gone));
            }
            // What happened before the hub was told of the key is seen in the machine: an event
            // is published after its state is visible.
            if !self.there_is(&before.key, before.create_revision) {
                continue;
            }
            if !self.there_is(&self.key, self.created) && self.has_applied() {
                return Err(Lost::OwnKey);
            }
            self.wait_for_end(&registration, &before.key).await?;
        }
    }

    /// Waits until `key` is deleted, or what is known of it has to be looked up again.
    async fn wait_for_end(
        &self,
        registration: &crate::watch::Registration,
        key: &[u8],
    ) -> Result<(), Lost> {
        loop {
            tokio::select! {
                () = registration.woken() => {}
                () = self.recipe.store.shutdown().wait() => {
                    return Err(Status::from(EtcdError::Stopped).into());
                }
            }
            let pickup = registration.pick_up(WATCH_CATCH_UP_REVISIONS_MAX);
            let events = pickup.revisions.iter().flat_map(|revision| &revision.events);
            let mut ended = pickup.lost_from.is_some();
            for event in events.filter(|event| event.r#type() == EventType::Delete) {
                let Some(kv) = &event.kv else { continue };
                if kv.key == self.key && kv.mod_revision > self.created {
                    return Err(Lost::OwnKey);
                }
                ended |= kv.key == key;
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Whether this member's machine has a key that was created at a revision.
    fn there_is(&self, key: &Bytes, created: i64) -> bool {
        let (plan, state) = {
            let machine = self.recipe.store.machine().read();
            (machine.range(&single(key)), machine.state())
        };
        let response = plan.and_then(|plan| plan.fetch(&*state));
        // What cannot be read cannot be said to have gone.
        response.map_or(true, |response| {
            response.kvs.first().is_some_and(|kv| kv.create_revision == created)
        })
    }

    /// Whether this member has come as far as the candidate's own key.
    fn has_applied(&self) -> bool {
        self.recipe.store.machine().read().revision() >= self.created
    }

    /// Whether its key is still there and its lease alive; the header of the look.
    pub(super) async fn holds(&self, lease: i64) -> Result<pb::ResponseHeader, Lost> {
        let own = self.recipe.range(&self.caller, single(&self.key)).await?;
        if own.kvs.first().is_none_or(|kv| kv.create_revision != self.created) {
            return Err(Lost::OwnKey);
        }
        if !self.recipe.lives(&self.caller, lease).await? {
            return Err(Lost::OwnKey);
        }
        Ok(own.header.unwrap_or_default())
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (recipe, caller) = (Arc::clone(&self.recipe), self.caller.clone());
        let (key, created) = (self.key.clone(), self.created);
        tasks::spawn("leaving a queue", async move {
            // If this fails, the key goes with its lease.
            if let Err(status) = recipe.delete(&caller, &key, created).await {
                tracing::warn!(%status, "a key of a lock that nobody waits for was not deleted");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_etcds_clients_name_them() {
        let prefix = prefix_of(b"lk");
        assert_eq!(prefix, "lk/");
        assert_eq!(end_of(&prefix), "lk0");
        assert_eq!(key_of(&prefix, 301), "lk/12d");
        assert_eq!(key_of(&prefix, -1), "lk/-1");
        assert_eq!(key_of(&prefix, i64::MIN), "lk/-8000000000000000");
    }

    #[test]
    fn only_states_that_pass_keep_their_code() {
        let leaves = without_code(EtcdError::LeaseNotFound.into());
        assert_eq!(leaves.code(), Code::Unknown);
        assert_eq!(leaves.message(), "etcdserver: requested lease not found");
        assert_eq!(without_code(EtcdError::NoLeader.into()).code(), Code::Unavailable);
    }
}

//! Writes: puts, and Kubernetes' compare-and-put.
//!
//! Owns: both loads. Must not know: when they are sent. A newcomer's trap: each client of the
//! second has keys of its own, so that a compare that fails is an error and not a lost race.

use bytes::Bytes;
use kijabi_base::clock::Instant;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kijabi_proto::etcdserverpb::request_op::Request;
use prost::Message as _;
use rand::Rng as _;
use rand::rngs::SmallRng;

use super::{Client, Keys, Load, Step};
use crate::load::args::Common;
use crate::load::wire::{Messages, Method};

/// Puts of random keys.
pub(super) struct Put(pub(super) Keys);

impl Load for Put {
    fn client(&self, _number: usize) -> Option<Box<dyn Client>> {
        Some(Box::new(Putter(self.0.clone())))
    }
}

/// A client that puts.
pub(super) struct Putter(pub(super) Keys);

impl Client for Putter {
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        messages.push(&self.0.put(rng));
        Some(Method::Put)
    }
}

/// Kubernetes' update: put if nobody else has changed the object.
pub(super) struct CompareAndPut {
    keys: Keys,
    clients: u64,
}

impl CompareAndPut {
    pub(super) fn new(keys: Keys, common: &Common) -> Self {
        Self { keys, clients: common.clients.max(1) as u64 }
    }
}

impl Load for CompareAndPut {
    fn client(&self, number: usize) -> Option<Box<dyn Client>> {
        let own = (self.keys.count / self.clients).max(1);
        Some(Box::new(Updater {
            keys: self.keys.clone(),
            first: number as u64 * own,
            revisions: vec![0; own as usize],
            current: 0,
        }))
    }
}

struct Updater {
    keys: Keys,
    first: u64,
    /// The last revision of each own key, as far as it is known.
    revisions: Vec<i64>,
    /// The key under way.
    current: usize,
}

impl Client for Updater {
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        self.current = rng.random_range(0..self.revisions.len());
        let key = self.keys.key(self.first + self.current as u64);
        messages.push(&swap(key, self.keys.value(rng), self.revisions[self.current]));
        Some(Method::Txn)
    }

    fn message(&mut self, bytes: &[u8], _now: Instant) -> Result<Step, String> {
        self.revisions[self.current] = swapped(bytes)?;
        Ok(Step::More)
    }
}

/// Puts `value` if the key is still as of `known`, else reads it.
pub(super) fn swap(key: Bytes, value: Bytes, known: i64) -> pb::TxnRequest {
    let op = |request| pb::RequestOp { request: Some(request) };
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(known)),
        ..Default::default()
    };
    let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
    let put = pb::PutRequest { key, value, ..Default::default() };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestPut(put))],
        failure: vec![op(Request::RequestRange(get))],
    }
}

/// The revision the key is of now, which somebody else wrote if the compare failed.
pub(super) fn swapped(answer: &[u8]) -> Result<i64, String> {
    let answer = pb::TxnResponse::decode(answer).map_err(|error| error.to_string())?;
    if answer.succeeded {
        return Ok(answer.header.map_or(0, |header| header.revision));
    }
    let found = answer.responses.into_iter().find_map(|one| match one.response {
        Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    });
    Ok(found.map_or(0, |kv| kv.mod_revision))
}

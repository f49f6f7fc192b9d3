//! Writes: puts, and Kubernetes' compare-and-put.
//!
//! Owns: both loads. Must not know: when they are sent. A newcomer's trap: each client of the
//! second has keys of its own, so that a compare that fails is an error and not a lost race.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kijabi_proto::etcdserverpb::kv_client::KvClient;
use kijabi_proto::etcdserverpb::request_op::Request;
use rand::Rng as _;
use rand::rngs::SmallRng;
use tonic::Status;
use tonic::transport::Channel;

use super::{Client, Keys, Load};
use crate::load::args::Common;
use crate::load::target::Target;

/// Puts of random keys.
pub(super) struct Put(pub(super) Keys);

impl Load for Put {
    fn prepare<'a>(&'a self, _target: &'a Target) -> BoxFuture<'a, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn client<'a>(
        &'a self,
        number: usize,
        target: &'a Target,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>> {
        let client: Box<dyn Client> =
            Box::new(Putter { kv: target.kv(number), keys: self.0.clone() });
        async { Ok(client) }.boxed()
    }
}

/// A client that puts.
pub(super) struct Putter {
    pub(super) kv: KvClient<Channel>,
    pub(super) keys: Keys,
}

impl Client for Putter {
    fn once<'a>(&'a mut self, rng: &'a mut SmallRng) -> BoxFuture<'a, Result<(), Status>> {
        let request = pb::PutRequest {
            key: self.keys.random(rng).into(),
            value: self.keys.value(rng).into(),
            ..Default::default()
        };
        async move { self.kv.put(request).await.map(drop) }.boxed()
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
    fn prepare<'a>(&'a self, _target: &'a Target) -> BoxFuture<'a, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn client<'a>(
        &'a self,
        number: usize,
        target: &'a Target,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>> {
        let own = (self.keys.count / self.clients).max(1);
        let client: Box<dyn Client> = Box::new(Updater {
            kv: target.kv(number),
            keys: self.keys.clone(),
            first: number as u64 * own,
            revisions: vec![None; own as usize],
        });
        async { Ok(client) }.boxed()
    }
}

struct Updater {
    kv: KvClient<Channel>,
    keys: Keys,
    first: u64,
    /// The last revision of each own key, as far as it is known.
    revisions: Vec<Option<i64>>,
}

impl Client for Updater {
    fn once<'a>(&'a mut self, rng: &'a mut SmallRng) -> BoxFuture<'a, Result<(), Status>> {
        let index = rng.random_range(0..self.revisions.len());
        let key = self.keys.key(self.first + index as u64);
        let value = self.keys.value(rng);
        async move {
            let known = self.revisions[index].unwrap_or(0);
            self.revisions[index] = Some(swap(&mut self.kv, key, value, known).await?);
            Ok(())
        }
        .boxed()
    }
}

/// Puts `value` if the key is still as of `known`. Returns the revision the key is of now, which
/// somebody else wrote if the compare failed.
pub(super) async fn swap(
    kv: &mut KvClient<Channel>,
    key: Vec<u8>,
    value: Vec<u8>,
    known: i64,
) -> Result<i64, Status> {
    let op = |request| pb::RequestOp { request: Some(request) };
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone().into(),
        target_union: Some(TargetUnion::ModRevision(known)),
        ..Default::default()
    };
    let get = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
    let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestPut(put))],
        failure: vec![op(Request::RequestRange(get))],
    };
    let answer = kv.txn(request).await?.into_inner();
    if answer.succeeded {
        return Ok(answer.header.map_or(0, |header| header.revision));
    }
    let found = answer.responses.into_iter().find_map(|one| match one.response {
        Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    });
    Ok(found.map_or(0, |kv| kv.mod_revision))
}

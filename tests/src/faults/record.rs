//! From protocol buffers to the vocabulary of histories and back.
//!
//! Owns: that translation, and the clock of a run. Must not know: who asks. A newcomer's trap: an
//! error is only an answer if it says that nothing was done; everything else is an unknown fate.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kijabi_base::clock::{self, Instant};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kijabi_proto::etcdserverpb::request_op::Request as WireOp;
use kijabi_proto::etcdserverpb::response_op::Response as WireAnswer;
use kijabi_proto::mvccpb;
use tonic::Status;

use crate::etcd::Client;
use crate::linear::{
    Answer, Condition, Entry, Event, Field, History, Key, Kv, Op, OpAnswer, Range, Refusal,
    Request, Watch,
};

/// What everybody in a run writes to.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    start: Instant,
    history: Arc<Mutex<History>>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { start: clock::now(), history: Arc::default() }
    }

    /// Microseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        (clock::now() - self.start).as_micros() as u64
    }

    pub(super) fn add(&self, entry: Entry) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).entries.push(entry);
    }

    pub(super) fn add_watches(&self, watches: Vec<Watch>) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).watches.extend(watches);
    }

    pub(super) fn take(&self) -> History {
        std::mem::take(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Asks, and writes down when and what. `Err` means that nobody knows, or that the member did not
/// want to; either way the client should go elsewhere.
pub(super) async fn ask(
    client: &Client,
    recorder: &Recorder,
    (number, session): (u32, u64),
    request: Request,
    limit: std::time::Duration,
) -> Result<Answer, ()> {
    let called = recorder.now();
    let answer = tokio::time::timeout(limit, send(client, &request)).await;
    let at = recorder.now();
    let (known, result) = match answer {
        Ok(Ok(answer)) => (Some((at, answer.clone())), Ok(answer)),
        Ok(Err(status)) => match refusal(&status) {
            Some(refusal) => {
                let answer = Answer::Refused(refusal);
                (Some((at, answer.clone())), Ok(answer))
            }
            None => (None, Err(())),
        },
        Err(_) => (None, Err(())),
    };
    // A read that nobody answered says nothing.
    if known.is_some() || !matches!(request, Request::Range { .. }) {
        recorder.add(Entry { client: number, session, called, request, returned: known });
    }
    result
}

fn refusal(status: &Status) -> Option<Refusal> {
    match status.message() {
        "etcdserver: mvcc: required revision has been compacted" => Some(Refusal::Compacted),
        "etcdserver: mvcc: required revision is a future revision" => Some(Refusal::Future),
        _ => None,
    }
}

/// Sends a request by the RPC that is made for it.
async fn send(client: &Client, request: &Request) -> Result<Answer, Status> {
    match request {
        Request::Range { range, revision, serializable } => {
            let (revision, serializable) = (*revision, *serializable);
            let request = pb::RangeRequest { revision, serializable, ..wire_range(range) };
            let response = client.kv().range(request).await?.into_inner();
            Ok(Answer::Range(revision_of(response.header), kvs(response.kvs)))
        }
        Request::Compact(revision) => {
            let request = pb::CompactionRequest { revision: *revision, physical: false };
            let response = client.kv().compact(request).await?.into_inner();
            Ok(Answer::Compact(revision_of(response.header)))
        }
        Request::Txn(conditions, then, otherwise) => match (then.as_slice(), conditions.is_empty())
        {
            ([Op::Put(key, value)], true) => {
                let response = client.kv().put(wire_put(key, value)).await?.into_inner();
                let prev = response.prev_kv.map(kv);
                Ok(Answer::Txn(revision_of(response.header), true, vec![OpAnswer::Put(prev)]))
            }
            ([Op::Delete(range)], true) => {
                let response = client.kv().delete_range(wire_delete(range)).await?.into_inner();
                let gone = OpAnswer::Delete(kvs(response.prev_kvs));
                Ok(Answer::Txn(revision_of(response.header), true, vec![gone]))
            }
            _ => {
                let request = pb::TxnRequest {
                    compare: conditions.iter().map(wire_condition).collect(),
                    success: then.iter().map(wire_op).collect(),
                    failure: otherwise.iter().map(wire_op).collect(),
                };
                let response = client.kv().txn(request).await?.into_inner();
                let answers = response.responses.into_iter().map(op_answer).collect();
                Ok(Answer::Txn(revision_of(response.header), response.succeeded, answers))
            }
        },
    }
}

fn wire(key: &Key) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

fn wire_range(range: &Range) -> pb::RangeRequest {
    let range_end = range.end.as_ref().map(wire).unwrap_or_default();
    pb::RangeRequest { key: wire(&range.key), range_end, ..Default::default() }
}

fn wire_put(key: &Key, value: &Key) -> pb::PutRequest {
    pb::PutRequest { key: wire(key), value: wire(value), prev_kv: true, ..Default::default() }
}

fn wire_delete(range: &Range) -> pb::DeleteRangeRequest {
    let range_end = range.end.as_ref().map(wire).unwrap_or_default();
    pb::DeleteRangeRequest { key: wire(&range.key), range_end, prev_kv: true }
}

fn wire_op(op: &Op) -> pb::RequestOp {
    let request = match op {
        Op::Put(key, value) => WireOp::RequestPut(wire_put(key, value)),
        Op::Delete(range) => WireOp::RequestDeleteRange(wire_delete(range)),
        Op::Get(range) => WireOp::RequestRange(wire_range(range)),
    };
    pb::RequestOp { request: Some(request) }
}

fn wire_condition(condition: &Condition) -> pb::Compare {
    let number = condition.number;
    let (target, union) = match condition.field {
        Field::Modified => (CompareTarget::Mod, TargetUnion::ModRevision(number)),
        Field::Create => (CompareTarget::Create, TargetUnion::CreateRevision(number)),
        Field::Version => (CompareTarget::Version, TargetUnion::Version(number)),
    };
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: target as i32,
        key: wire(&condition.key),
        target_union: Some(union),
        ..Default::default()
    }
}

fn op_answer(response: pb::ResponseOp) -> OpAnswer {
    match response.response {
        Some(WireAnswer::ResponsePut(put)) => OpAnswer::Put(put.prev_kv.map(kv)),
        Some(WireAnswer::ResponseDeleteRange(gone)) => OpAnswer::Delete(kvs(gone.prev_kvs)),
        Some(WireAnswer::ResponseRange(range)) => OpAnswer::Get(kvs(range.kvs)),
        // Nobody asks for a nested transaction: whatever this is, it fits no request.
        Some(WireAnswer::ResponseTxn(_)) | None => OpAnswer::Get(Vec::new()),
    }
}

pub(super) fn revision_of(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

fn text(bytes: &[u8]) -> Key {
    String::from_utf8_lossy(bytes).as_ref().into()
}

fn kv(kv: mvccpb::KeyValue) -> Kv {
    Kv {
        key: text(&kv.key),
        value: text(&kv.value),
        create: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
    }
}

fn kvs(found: Vec<mvccpb::KeyValue>) -> Vec<Kv> {
    found.into_iter().map(kv).collect()
}

/// An event as a watch shows it.
pub(super) fn event(event: mvccpb::Event) -> Event {
    let deleted = event.r#type == mvccpb::event::EventType::Delete as i32;
    let now = event.kv.unwrap_or_default();
    let (key, revision) = (text(&now.key), now.mod_revision);
    let prev = event.prev_kv.map(kv);
    Event { key, revision, kv: (!deleted).then(|| kv(now)), prev }
}

//! The script of the differential test.
//!
//! Every call runs on both members in this order, on one store. `odd` marks errors and inputs that
//! no sane client sends.

mod drawn;
mod keys;
mod leases;
mod maintenance;
mod nested;
mod newer;
mod txns;
mod watches;

use bytes::Bytes;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::compare::TargetUnion;
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use pb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};

/// One request.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(i64),
    TimeToLive(i64, bool),
    Leases,
    KeepAlive(i64),
    Status,
    HashKv(i64),
    /// So many revisions before the current one, like the next.
    HashAgo(i64),
    CompactAgo(i64),
    /// The action and the kind.
    Alarm(i32, i32),
    Defragment,
    MoveLeader(u64),
    Members,
    MemberAdd(Vec<String>, bool),
    MemberRemove(u64),
    MemberUpdate(u64, Vec<String>),
    MemberPromote(u64),
    /// The action and the version.
    Downgrade(i32, String),
    Watch(Vec<WatchStep>),
}

/// One step of a watch stream.
#[derive(Clone, Debug)]
pub(crate) enum WatchStep {
    Send(WatchRequest),
    Do(Call),
    /// One response, whatever it is.
    Receive,
    /// As many events, however they are spread over responses.
    ReceiveEvents(usize),
}

/// A request with a name.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) call: Call,
    pub(crate) odd: bool,
}

#[derive(Default)]
struct Script(Vec<Case>);

impl Script {
    fn case(&mut self, name: impl Into<String>, call: Call) {
        self.0.push(Case { name: name.into(), call, odd: false });
    }

    fn odd(&mut self, name: impl Into<String>, call: Call) {
        self.0.push(Case { name: name.into(), call, odd: true });
    }
}

/// The whole script; with what 3.6 answers otherwise than 3.4, if `newer`.
pub(crate) fn all(newer: bool) -> Vec<Case> {
    let mut script = Script::default();
    keys::empty_store(&mut script);
    keys::puts(&mut script);
    keys::ranges(&mut script);
    keys::sorts_and_filters(&mut script);
    keys::deletes(&mut script);
    txns::compares(&mut script);
    txns::txns(&mut script);
    txns::overlaps(&mut script);
    leases::leases(&mut script);
    nested::branches(&mut script);
    nested::limits(&mut script);
    nested::first_error(&mut script);
    leases::lives(&mut script);
    maintenance::maintenance(&mut script);
    maintenance::members(&mut script);
    watches::watches(&mut script);
    watches::streams(&mut script);
    keys::compactions(&mut script);
    watches::watches_after_compaction(&mut script);
    drawn::requests(&mut script, if newer { newer::DRAWN } else { 1 });
    if newer {
        newer::requests(&mut script);
    }
    maintenance::alarms(&mut script);
    script.0
}

// === builders ===

fn text(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

fn get(key: &str) -> RangeRequest {
    RangeRequest { key: text(key), ..Default::default() }
}

fn span(key: &str, end: &str) -> RangeRequest {
    RangeRequest { range_end: text(end), ..get(key) }
}

fn set(key: &str, value: &str) -> PutRequest {
    PutRequest { key: text(key), value: text(value), ..Default::default() }
}

fn erase(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: text(key), range_end: text(end), prev_kv: true }
}

fn p(key: &str, value: &str) -> RequestOp {
    RequestOp { request: Some(Op::RequestPut(set(key, value))) }
}

fn r(request: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Op::RequestRange(request)) }
}

fn d(key: &str, end: &str) -> RequestOp {
    RequestOp { request: Some(Op::RequestDeleteRange(erase(key, end))) }
}

fn t(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    let txn = TxnRequest { success, failure, ..Default::default() };
    RequestOp { request: Some(Op::RequestTxn(txn)) }
}

fn then(success: Vec<RequestOp>) -> Call {
    Call::Txn(TxnRequest { success, ..Default::default() })
}

fn when(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare, success, failure }
}

fn compare(target: i32, result: i32, key: &str, union: TargetUnion) -> Compare {
    let target_union = Some(union);
    Compare { target, result, key: text(key), target_union, ..Default::default() }
}

fn grant(id: i64, ttl: i64) -> Call {
    Call::Grant(LeaseGrantRequest { id, ttl })
}

fn compact(revision: i64, physical: bool) -> Call {
    Call::Compact(CompactionRequest { revision, physical })
}

fn watch(key: &str, end: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: text(key),
        range_end: text(end),
        start_revision,
        prev_kv: true,
        ..Default::default()
    }
}

fn create(request: WatchCreateRequest) -> WatchStep {
    WatchStep::Send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) })
}

fn cancel(watch_id: i64) -> WatchStep {
    let request = pb::WatchCancelRequest { watch_id };
    WatchStep::Send(WatchRequest { request_union: Some(RequestUnion::CancelRequest(request)) })
}

fn progress() -> WatchStep {
    let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    WatchStep::Send(WatchRequest { request_union: Some(request) })
}

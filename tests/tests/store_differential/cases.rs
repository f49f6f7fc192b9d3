//! The script of the differential test.
//!
//! Every call runs on both members in this order, on one store. `odd` marks errors and inputs that
//! no sane client sends.

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

/// The whole script.
pub(crate) fn all() -> Vec<Case> {
    let mut script = Script::default();
    empty_store(&mut script);
    puts(&mut script);
    ranges(&mut script);
    sorts_and_filters(&mut script);
    deletes(&mut script);
    compares(&mut script);
    txns(&mut script);
    overlaps(&mut script);
    leases(&mut script);
    watches(&mut script);
    compactions(&mut script);
    watches_after_compaction(&mut script);
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

// === the script ===

fn empty_store(script: &mut Script) {
    script.case("empty: get", Call::Range(get("a")));
    script.case("empty: everything", Call::Range(span("\0", "\0")));
    script.case("empty: at 1", Call::Range(RangeRequest { revision: 1, ..get("a") }));
    script.odd("empty: at 2", Call::Range(RangeRequest { revision: 2, ..get("a") }));
    script.odd("empty: delete everything", Call::Delete(erase("\0", "\0")));
    script.odd("empty: txn of nothing", then(vec![]));
    script.odd("empty: txn without a key", then(vec![d("a", "")]));
    script.odd("empty: compact the future", compact(2, false));
    script.odd("empty: compact -1", compact(-1, false));
    script.odd("empty: revoke", Call::Revoke(1));
    script.case("empty: leases", Call::Leases);
    let steps = vec![create(watch("a", "", 0)), WatchStep::Receive];
    script.case("empty: watch", Call::Watch(steps));
}

fn puts(script: &mut Script) {
    for (key, value) in [("a", "1"), ("a", "2"), ("b", "1"), ("bb", "5"), ("c", "3"), ("d", "3")] {
        script.case(format!("put {key}"), Call::Put(set(key, value)));
    }
    script.case("put with prev", Call::Put(PutRequest { prev_kv: true, ..set("a", "3") }));
    script.case("put new with prev", Call::Put(PutRequest { prev_kv: true, ..set("e", "") }));
    let keep = |key: &str| PutRequest { ignore_value: true, prev_kv: true, ..set(key, "") };
    script.case("keep the value", Call::Put(keep("c")));
    script.odd("keep the value of nothing", Call::Put(keep("nothing")));
    script.odd(
        "keep and give a value",
        Call::Put(PutRequest { ignore_value: true, ..set("c", "x") }),
    );
    let keep_lease = |key: &str, lease| PutRequest { ignore_lease: true, lease, ..set(key, "y") };
    script.case("keep no lease", Call::Put(keep_lease("c", 0)));
    script.odd("keep the lease of nothing", Call::Put(keep_lease("nothing", 0)));
    script.odd("keep and give a lease", Call::Put(keep_lease("c", 3)));
    script.odd("unknown lease", Call::Put(PutRequest { lease: 99, ..set("c", "x") }));
    script.odd("negative lease", Call::Put(PutRequest { lease: -1, ..set("c", "x") }));
    script.odd("no key", Call::Put(set("", "x")));
    let both = PutRequest { ignore_value: true, ignore_lease: true, ..set("nothing", "x") };
    script.odd("keep both, with a value", Call::Put(both));
    script.odd("zero byte as key", Call::Put(set("\0", "zero")));
    let binary = PutRequest { key: Bytes::from_static(&[255, 0, 254]), ..set("", "\u{0}\u{1}") };
    script.odd("binary key", Call::Put(binary));
    script.odd("value beyond the limit", Call::Put(set("large", &"x".repeat(1_572_864))));
    script.odd("long key", Call::Put(set(&"k".repeat(5000), "1")));
}

fn ranges(script: &mut Script) {
    let ends = [("a", "c"), ("a", "\0"), ("\0", "\0"), ("b", "bb"), ("c", "d\0"), ("\0", "a")];
    for (key, end) in ends {
        script.case(format!("range {key:?} {end:?}"), Call::Range(span(key, end)));
    }
    for (key, end) in [("c", "a"), ("a", "a"), ("zz", "zzz"), ("a", "\0\0"), ("\0", "\0\0")] {
        script.odd(format!("range {key:?} {end:?}"), Call::Range(span(key, end)));
    }
    let revisions = [1, 2, 3, 5, 9];
    for revision in revisions {
        let request = RangeRequest { revision, ..span("a", "z") };
        script.case(format!("range at {revision}"), Call::Range(request));
    }
    for revision in [-1, i64::MIN, 10_000, i64::MAX] {
        let request = RangeRequest { revision, ..span("a", "z") };
        script.odd(format!("range at {revision}"), Call::Range(request));
    }
    for limit in [1, 3, 6, 7] {
        let request = RangeRequest { limit, ..span("a", "z") };
        script.case(format!("limit {limit}"), Call::Range(request));
    }
    for limit in [-1, i64::MIN, i64::MAX] {
        let request = RangeRequest { limit, ..span("a", "z") };
        script.odd(format!("limit {limit}"), Call::Range(request));
    }
    let count = RangeRequest { count_only: true, ..span("a", "z") };
    script.case("count", Call::Range(count.clone()));
    script.odd("count with limit", Call::Range(RangeRequest { limit: 2, ..count.clone() }));
    script.odd("count, keys only", Call::Range(RangeRequest { keys_only: true, ..count.clone() }));
    script
        .odd("count, sorted", Call::Range(RangeRequest { sort_order: 2, sort_target: 3, ..count }));
    script.case("keys only", Call::Range(RangeRequest { keys_only: true, ..span("a", "z") }));
    script.case("serializable", Call::Range(RangeRequest { serializable: true, ..get("a") }));
    script.odd("range without a key", Call::Range(span("", "z")));
    script.odd("nothing at all", Call::Range(RangeRequest::default()));
}

fn sorts_and_filters(script: &mut Script) {
    for target in 0..5 {
        for order in 0..3 {
            let request = RangeRequest { sort_target: target, sort_order: order, ..span("a", "z") };
            script.case(format!("sort {target} {order}"), Call::Range(request.clone()));
            let request = RangeRequest { limit: 2, keys_only: true, ..request };
            script.odd(format!("sort {target} {order} limit 2, keys only"), Call::Range(request));
        }
    }
    // Orders and targets out of their enumerations crash 3.4: `store_golden` has them.
    let filters = [[4, 0, 0, 0], [0, 5, 0, 0], [0, 0, 4, 0], [0, 0, 0, 5], [3, 8, 2, 6]];
    let filtered = |[min_mod, max_mod, min_create, max_create]: [i64; 4]| RangeRequest {
        min_mod_revision: min_mod,
        max_mod_revision: max_mod,
        min_create_revision: min_create,
        max_create_revision: max_create,
        ..span("a", "z")
    };
    for bounds in filters {
        script.case(format!("filter {bounds:?}"), Call::Range(filtered(bounds)));
        let limited = RangeRequest { limit: 1, ..filtered(bounds) };
        script.odd(format!("filter {bounds:?} limit 1"), Call::Range(limited));
    }
    for bounds in [[9, 3, 0, 0], [-5, 0, 0, 0], [0, -1, 0, 0], [0, 0, i64::MAX, i64::MIN]] {
        script.odd(format!("filter {bounds:?}"), Call::Range(filtered(bounds)));
    }
    let down = RangeRequest { sort_order: 2, limit: 1, ..filtered([0, 6, 0, 0]) };
    script.odd("filter, descending, limit", Call::Range(down));
}

fn deletes(script: &mut Script) {
    script.case("delete one", Call::Delete(erase("bb", "")));
    script.case("delete it again", Call::Delete(erase("bb", "")));
    script.case("delete a range", Call::Delete(erase("d", "f")));
    script.odd("delete reversed", Call::Delete(erase("z", "a")));
    script.odd("delete without a key", Call::Delete(erase("", "z")));
    script.odd("delete with an equal end", Call::Delete(erase("a", "a")));
    script.case("put it again", Call::Put(set("d", "again")));
    script.case("its new life", Call::Range(get("d")));
    script.case("its old life", Call::Range(RangeRequest { revision: 7, ..get("d") }));
    let quiet = DeleteRangeRequest { prev_kv: false, ..erase("k", "l") };
    script.case("delete the long key, quietly", Call::Delete(quiet));
}

fn compares(script: &mut Script) {
    let report = |compares: Vec<Compare>| {
        Call::Txn(when(
            compares,
            vec![r(get("a"))],
            vec![r(RangeRequest { count_only: true, ..get("a") })],
        ))
    };
    type Build = fn(i64) -> TargetUnion;
    let numbers: [(i32, &str, Build); 4] = [
        (0, "version", TargetUnion::Version),
        (1, "create", TargetUnion::CreateRevision),
        (2, "mod", TargetUnion::ModRevision),
        (4, "lease", TargetUnion::Lease),
    ];
    for (target, name, build) in numbers {
        for result in 0..4 {
            let present = compare(target, result, "a", build(3));
            script.case(format!("compare {name} {result}"), report(vec![present]));
            let absent = compare(target, result, "nothing", build(0));
            script.odd(format!("compare {name} {result} of nothing"), report(vec![absent]));
        }
    }
    for result in 0..4 {
        for value in ["3", "2", ""] {
            let operand = || TargetUnion::Value(text(value));
            let present = compare(3, result, "a", operand());
            script.case(format!("compare value {result} {value:?}"), report(vec![present]));
            let absent = compare(3, result, "nothing", operand());
            let name = format!("compare value {result} {value:?} of nothing");
            script.odd(name, report(vec![absent]));
        }
    }
    let over = |compare: Compare, end: &str| Compare { range_end: text(end), ..compare };
    let version = |result, number| compare(0, result, "a", TargetUnion::Version(number));
    script.case("compare all of a range", report(vec![over(version(1, 0), "e")]));
    script.case("compare not all of a range", report(vec![over(version(1, 1), "e")]));
    script.odd("compare an empty range", report(vec![over(version(1, 0), "Z")]));
    script.odd("compare from a key on", report(vec![over(version(0, 0), "\0")]));
    script.case("two that hold", report(vec![version(1, 0), version(2, 100)]));
    script.case("one of two holds", report(vec![version(1, 0), version(1, 100)]));
    script.odd("unknown result", report(vec![version(7, 99)]));
    script.odd("unknown target", report(vec![compare(9, 0, "a", TargetUnion::Version(4))]));
    let other = compare(0, 0, "a", TargetUnion::ModRevision(4));
    script.odd("operand of another target", report(vec![other]));
    let none = Compare { target_union: None, ..version(1, 0) };
    script.odd("no operand", report(vec![none]));
    script.odd("compare without a key", report(vec![compare(0, 0, "", TargetUnion::Version(0))]));
}

fn txns(script: &mut Script) {
    script.case("create if absent", {
        let absent = compare(2, 0, "t", TargetUnion::ModRevision(0));
        Call::Txn(when(vec![absent.clone()], vec![p("t", "1")], vec![r(get("t"))]))
    });
    script.case("create if absent, again", {
        let absent = compare(2, 0, "t", TargetUnion::ModRevision(0));
        Call::Txn(when(vec![absent], vec![p("t", "2")], vec![r(get("t"))]))
    });
    script.case(
        "several changes",
        then(vec![p("t1", "1"), d("t", ""), r(span("t", "u")), p("t2", "2")]),
    );
    script.case("reads between writes", then(vec![r(get("t3")), p("t3", "1"), r(get("t3"))]));
    script.case("reads only", then(vec![r(get("t1")), r(span("t", "u"))]));
    script.odd("deletes nothing", then(vec![d("nothing", ""), r(get("t1"))]));
    script.odd(
        "deletes nothing, then writes",
        then(vec![d("nothing", ""), p("t4", ""), d("none", "")]),
    );
    script.case("nested", then(vec![t(vec![p("n1", "1"), r(get("n1"))], vec![]), r(get("n1"))]));
    let nested_else = t(vec![], vec![p("n2", "never")]);
    script.odd("nested without anything to do", then(vec![nested_else]));
    let seen = TxnRequest {
        compare: vec![compare(0, 0, "n3", TargetUnion::Version(0))],
        success: vec![p("n4", "before")],
        failure: vec![p("n4", "after")],
    };
    let seen = RequestOp { request: Some(Op::RequestTxn(seen)) };
    script.odd("nested condition on an outer write", then(vec![p("n3", "1"), seen, r(get("n4"))]));
    let deep = (0..20).fold(t(vec![p("deep", "1")], vec![]), |inner, _| t(vec![inner], vec![]));
    script.odd("twenty levels", then(vec![deep]));
    let nothing = RequestOp { request: None };
    script.odd("an operation that is none", then(vec![p("x", "1"), nothing.clone()]));
    script.odd("one that is none, not taken", Call::Txn(when(vec![], vec![], vec![nothing])));
    let many = |count: usize| -> Vec<RequestOp> {
        (0..count).map(|at| p(&format!("many{at:03}"), "1")).collect()
    };
    script.case("128 operations", then(many(128)));
    script.odd("129 operations", then(many(129)));
    script.odd("129 in the other branch", Call::Txn(when(vec![], vec![], many(129))));
    let compares = vec![compare(0, 0, "a", TargetUnion::Version(0)); 129];
    script.odd("129 conditions", Call::Txn(when(compares, vec![], vec![])));
    script.odd("64 and 65 nested", then([many(63), vec![t(many(65), vec![])]].concat()));
    script.odd("put without a key", then(vec![p("", "1")]));
    script.odd("range without a key", then(vec![r(get(""))]));
    script.odd("delete without a key", then(vec![d("", "")]));
    script.odd(
        "future inside",
        then(vec![p("x", "1"), r(RangeRequest { revision: 9999, ..get("a") })]),
    );
    script
        .odd("negative revision inside", then(vec![r(RangeRequest { revision: -5, ..get("a") })]));
    let keep = PutRequest { ignore_value: true, ..set("nothing", "") };
    let keep = RequestOp { request: Some(Op::RequestPut(keep)) };
    script.odd("keeps the value of nothing inside", then(vec![p("x", "1"), keep.clone()]));
    let never = compare(0, 1, "nothing", TargetUnion::Version(0));
    script.odd(
        "only the branch taken is checked",
        Call::Txn(when(vec![never], vec![keep], vec![p("x2", "1")])),
    );
    let leased = PutRequest { lease: 4242, ..set("x", "1") };
    let leased = RequestOp { request: Some(Op::RequestPut(leased)) };
    script.odd("unknown lease inside", then(vec![p("y", "1"), leased]));
    let with_value = PutRequest { ignore_value: true, ..set("a", "1") };
    let with_value = RequestOp { request: Some(Op::RequestPut(with_value)) };
    script.odd("keeps and gives a value inside", then(vec![with_value]));
    script.case("nothing of that was written", Call::Range(span("x", "z")));
}

/// Which changes of one key etcd lets one transaction hold.
fn overlaps(script: &mut Script) {
    script.odd("put twice", then(vec![p("o", "1"), p("o", "2")]));
    script.odd("put and delete", then(vec![p("o", "1"), d("o", "")]));
    script.odd("delete and put", then(vec![d("o", ""), p("o", "1")]));
    script.odd("put in a deleted range", then(vec![d("n", "p"), p("o", "1")]));
    script.odd("put at a deleted range's end", then(vec![d("n", "o"), p("o", "1")]));
    script.odd("delete overlapping ranges", then(vec![d("o", "q"), d("p", "r")]));
    script.odd("put in a range deleted without end", then(vec![p("oo", "1"), d("o1", "\0")]));
    script
        .odd("put in both branches", Call::Txn(when(vec![], vec![p("o", "1")], vec![p("o", "1")])));
    script.odd("put in both nested branches", then(vec![t(vec![p("o", "1")], vec![p("o", "2")])]));
    script.odd("put outside and nested", then(vec![p("o", "1"), t(vec![], vec![p("o", "2")])]));
    let (first, second) = (t(vec![p("o", "1")], vec![]), t(vec![p("o", "2")], vec![]));
    script.odd("put in two nested", then(vec![first.clone(), second]));
    let deletion = t(vec![d("o", "")], vec![]);
    script.odd("nested delete, then nested put", then(vec![deletion.clone(), first.clone()]));
    script.odd("nested put, then nested delete", then(vec![first, deletion.clone()]));
    script.odd("nested delete and put", then(vec![deletion, p("o", "1")]));
    script.odd("delete around nested", then(vec![d("n", "p"), t(vec![p("o", "1")], vec![])]));
    script.odd("put and delete in one nested", then(vec![t(vec![p("o", "1")], vec![d("o", "")])]));
    script.odd("reversed delete and put", then(vec![d("p", "n"), p("o", "1")]));
    script.case("what is left of it", Call::Range(span("n", "p")));
}

fn leases(script: &mut Script) {
    script.case("grant", grant(77, 600));
    script.odd("grant again", grant(77, 600));
    script.case("grant without an id", grant(0, 600));
    script.odd("grant of 0 s", grant(78, 0));
    script.odd("grant of -5 s", grant(79, -5));
    script.odd("grant of the smallest", grant(80, i64::MIN));
    script.odd("grant beyond the maximum", grant(81, 9_000_000_001));
    script.odd("grant far beyond the maximum", grant(81, i64::MAX));
    script.case("grant a long one", grant(82, 5000));
    script.odd("grant a negative id", grant(-5, 5000));
    script.odd("revoke a negative id", Call::Revoke(-5));
    for key in ["l1", "l2", "l3"] {
        script.case(format!("attach {key}"), Call::Put(PutRequest { lease: 77, ..set(key, "x") }));
    }
    script.case("time to live", Call::TimeToLive(77, false));
    script.case("time to live, with keys", Call::TimeToLive(77, true));
    script.odd("time to live of nothing", Call::TimeToLive(4242, true));
    script.odd("time to live of 0", Call::TimeToLive(0, false));
    script.case("detach", Call::Put(set("l1", "y")));
    let keep = PutRequest { ignore_lease: true, prev_kv: true, ..set("l2", "z") };
    script.case("keep the lease", Call::Put(keep));
    script.case(
        "move to another",
        Call::Put(PutRequest { lease: 82, prev_kv: true, ..set("l3", "x") }),
    );
    script.case("keys afterwards", Call::TimeToLive(77, true));
    script.case("keys of the other", Call::TimeToLive(82, true));
    let leased = compare(4, 0, "l2", TargetUnion::Lease(77));
    script.case("compare the lease", Call::Txn(when(vec![leased], vec![r(get("l2"))], vec![])));
    script.case("keep alive", Call::KeepAlive(77));
    script.odd("keep alive nothing", Call::KeepAlive(4242));
    script.odd("keep alive 0", Call::KeepAlive(0));
    script.case("revoke", Call::Revoke(77));
    script.odd("revoke again", Call::Revoke(77));
    script.case("its keys are gone", Call::Range(span("l", "m")));
    script.case("delete a leased key", Call::Delete(erase("l3", "")));
    script.case("it is off the lease", Call::TimeToLive(82, true));
    script.odd("revoke one without keys", Call::Revoke(82));
    script.case("the revision did not move", Call::Range(get("a")));
}

fn watches(script: &mut Script) {
    use WatchStep::{Do, Receive, ReceiveEvents};
    let put = |key: &str, value: &str| Do(Call::Put(set(key, value)));
    script.case(
        "watch: past",
        Call::Watch(vec![create(watch("a", "", 1)), Receive, ReceiveEvents(3)]),
    );
    script.case(
        "watch: past of all",
        Call::Watch(vec![create(watch("\0", "\0", 2)), Receive, ReceiveEvents(40)]),
    );
    script.case(
        "watch: present",
        Call::Watch(vec![
            create(watch("w", "x", 0)),
            Receive,
            put("w1", "1"),
            Receive,
            put("v", "1"),
            put("w1", "2"),
            Receive,
            Do(Call::Delete(erase("w", "x"))),
            Receive,
        ]),
    );
    script.case(
        "watch: one transaction is one response",
        Call::Watch(vec![
            create(watch("w", "x", 0)),
            Receive,
            Do(then(vec![p("w1", "1"), p("w2", "2"), p("v", "3"), p("w3", "3")])),
            Receive,
        ]),
    );
    script.odd(
        "watch: future",
        Call::Watch(vec![
            create(watch("w1", "", 100_000)),
            Receive,
            put("w1", "early"),
            cancel(0),
            Receive,
        ]),
    );
    let chosen = |watch_id| create(WatchCreateRequest { watch_id, ..watch("w1", "", 0) });
    script.case("watch: chosen id", Call::Watch(vec![chosen(9), Receive, put("w1", "3"), Receive]));
    script.odd("watch: duplicate id", Call::Watch(vec![chosen(9), Receive, chosen(9), Receive]));
    script.odd(
        "watch: ids beside chosen ones",
        Call::Watch(vec![chosen(0), Receive, chosen(1), Receive, chosen(0), Receive]),
    );
    for (name, key, end) in [("reversed", "b", "a"), ("equal", "b", "b")] {
        let steps = vec![create(watch(key, end, 0)), Receive];
        script.odd(format!("watch: {name} range"), Call::Watch(steps));
    }
    script.odd(
        "watch: no key",
        Call::Watch(vec![
            create(watch("", "", 0)),
            Receive,
            put("w9", "1"),
            put("\0", "1"),
            Receive,
        ]),
    );
    script.odd(
        "watch: no key, from there on",
        Call::Watch(vec![create(watch("", "\0", 0)), Receive, put("w9", "2"), Receive]),
    );
    for (name, filters) in [
        ("puts", vec![0]),
        ("deletes", vec![1]),
        ("both", vec![0, 1]),
        ("an unknown kind", vec![7]),
    ] {
        let filtered = WatchCreateRequest { filters, ..watch("f", "", 0) };
        let last = if name == "both" { vec![] } else { vec![Receive] };
        let steps =
            vec![create(filtered), Receive, put("f", "1"), Do(Call::Delete(erase("f", "")))];
        script.odd(format!("watch: without {name}"), Call::Watch([steps, last].concat()));
    }
    let plain = WatchCreateRequest { prev_kv: false, ..watch("w1", "", 0) };
    script.case(
        "watch: without previous values",
        Call::Watch(vec![create(plain), Receive, put("w1", "4"), Receive]),
    );
    script.case(
        "watch: cancel",
        Call::Watch(vec![
            create(watch("w1", "", 0)),
            Receive,
            cancel(0),
            Receive,
            put("w1", "5"),
            create(watch("w1", "", 0)),
            Receive,
            put("w1", "6"),
            Receive,
        ]),
    );
    script.odd(
        "watch: cancel what is not there",
        Call::Watch(vec![
            cancel(5),
            create(watch("w1", "", 0)),
            Receive,
            cancel(5),
            cancel(0),
            Receive,
        ]),
    );
    script.odd(
        "watch: a request that is none",
        Call::Watch(vec![
            WatchStep::Send(WatchRequest { request_union: None }),
            create(watch("w1", "", 0)),
            Receive,
        ]),
    );
    script.case(
        "watch: two on one stream",
        Call::Watch(vec![
            create(watch("w1", "", 0)),
            Receive,
            create(watch("w", "x", 0)),
            Receive,
            put("w1", "7"),
            ReceiveEvents(2),
            put("w2", "7"),
            Receive,
        ]),
    );
    script.case(
        "watch: progress",
        Call::Watch(vec![
            create(watch("w1", "", 0)),
            Receive,
            put("w1", "8"),
            Receive,
            progress(),
            Receive,
        ]),
    );
    script.case("watch: a lease", grant(900, 600));
    for key in ["w5", "w4"] {
        let leased = PutRequest { lease: 900, ..set(key, "x") };
        script.case(format!("watch: the lease's key {key}"), Call::Put(leased));
    }
    let steps = vec![create(watch("w", "x", 0)), Receive, Do(Call::Revoke(900)), Receive];
    script.case("watch: the lease's end", Call::Watch(steps));
}

fn compactions(script: &mut Script) {
    script.odd("compact the future", compact(100_000, false));
    script.odd("compact i64::MAX", compact(i64::MAX, false));
    script.odd("compact i64::MIN", compact(i64::MIN, true));
    script.case("compact", compact(12, false));
    script.odd("compact again", compact(12, false));
    script.odd("compact before", compact(5, true));
    script.odd("compact 0", compact(0, false));
    script.odd("read what is compacted", Call::Range(RangeRequest { revision: 11, ..get("a") }));
    script.case("read at it", Call::Range(RangeRequest { revision: 12, ..span("a", "z") }));
    script.odd(
        "count what is compacted",
        Call::Range(RangeRequest { revision: 3, count_only: true, ..get("a") }),
    );
    let old = || r(RangeRequest { revision: 4, ..get("a") });
    script.odd("compacted read in a transaction", then(vec![old()]));
    script.odd("compacted read beside a write", then(vec![p("x", "1"), old()]));
    script.odd(
        "negative revision inside, compacted",
        then(vec![r(RangeRequest { revision: -1, ..get("a") })]),
    );
    script.odd(
        "negative revision, compacted",
        Call::Range(RangeRequest { revision: -1, ..get("a") }),
    );
    script.case("compact physically", compact(21, true));
    script.case("everything is still there", Call::Range(span("\0", "\0")));
}

/// The compacted revision holds no deletion: 3.4 loses it (etcd#19179), the machine's transcripts
/// show that we do not.
fn watches_after_compaction(script: &mut Script) {
    use WatchStep::{Receive, ReceiveEvents};
    script.odd("watch: compacted", Call::Watch(vec![create(watch("a", "", 3)), Receive, Receive]));
    script.odd(
        "watch: just compacted",
        Call::Watch(vec![create(watch("a", "", 20)), Receive, Receive]),
    );
    script.case(
        "watch: from the compacted revision on",
        Call::Watch(vec![create(watch("\0", "\0", 21)), Receive, ReceiveEvents(30)]),
    );
    script.odd(
        "watch: one compacted, one not",
        Call::Watch(vec![
            create(watch("a", "", 3)),
            Receive,
            Receive,
            create(watch("t", "u", 21)),
            Receive,
            ReceiveEvents(2),
        ]),
    );
}

//! Transactions.

use super::*;

pub(super) fn compares(script: &mut Script) {
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

pub(super) fn txns(script: &mut Script) {
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

pub(super) fn overlaps(script: &mut Script) {
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

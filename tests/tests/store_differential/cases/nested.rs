//! Transactions in transactions, limits, and which error comes first.

use super::*;

/// A transaction as an operation, with a condition on the version of `key`.
fn on_version(key: &str, number: i64, then: Vec<RequestOp>, other: Vec<RequestOp>) -> RequestOp {
    let condition = compare(0, 0, key, TargetUnion::Version(number));
    RequestOp { request: Some(Op::RequestTxn(when(vec![condition], then, other))) }
}

/// `depth` transactions in one another around `inner`.
fn deep(depth: usize, inner: RequestOp) -> RequestOp {
    (0..depth).fold(inner, |op, _| t(vec![op], vec![]))
}

pub(super) fn branches(script: &mut Script) {
    // Two conditions, one in the other: all four ways, with reads around what is written.
    for (outer, inner) in [(0, 0), (0, 9), (9, 0), (9, 9)] {
        let name = format!("n{outer}{inner}");
        let nested =
            || on_version(&format!("{name}x"), inner, vec![p(&name, "in")], vec![p(&name, "else")]);
        let ops = vec![r(get(&name)), nested(), r(get(&name))];
        let other = vec![nested(), r(span("n", "o")), d(&format!("{name}y"), "")];
        let absent = compare(0, 0, &format!("{name}z"), TargetUnion::Version(outer));
        script.case(format!("branches {outer} {inner}"), Call::Txn(when(vec![absent], ops, other)));
    }
    // Conditions of nested transactions see what was written before them in the same request.
    let seen = on_version("m", 1, vec![r(get("m"))], vec![p("m-not-seen", "x")]);
    script.odd("a nested condition on what was just written", then(vec![p("m", "1"), seen]));
    let gone = on_version("m", 0, vec![r(get("m"))], vec![]);
    script.odd("a nested condition on what was just deleted", then(vec![d("m", ""), gone]));
    script.case("what is left of that", Call::Range(span("m", "n")));
    for depth in 1..8 {
        script.odd(format!("{depth} deep"), then(vec![deep(depth, p("deep", "1"))]));
        script.odd(format!("{depth} deep, only reading"), then(vec![deep(depth, r(get("deep")))]));
    }
    script.case("deep", Call::Range(get("deep")));
    script.case("reads in nested", then(vec![t(vec![r(span("a", "z")), r(get("a"))], vec![])]));
    for limit in [0, 1, 2] {
        let limited = RangeRequest { limit, ..span("a", "z") };
        let keys = RangeRequest { keys_only: true, ..limited.clone() };
        let count = RangeRequest { count_only: true, ..limited.clone() };
        let down = RangeRequest { sort_order: 2, sort_target: 0, ..limited.clone() };
        script.case(
            format!("reads of every kind, limit {limit}"),
            then(vec![r(limited), r(keys), r(count), r(down)]),
        );
    }
    let several = vec![d("n", "o"), d("n", "o"), r(span("n", "o")), p("z1", "1"), d("zz", "")];
    script.odd("delete twice, read nothing, write", then(several));
    script.odd("nested empty", then(vec![t(vec![], vec![]), t(vec![t(vec![], vec![])], vec![])]));
    script.case("only deletes of nothing", then(vec![d("n", "o"), d("n", "o")]));
    script.case("the revision did not move for that", Call::Range(get("n")));
    let update = PutRequest { prev_kv: true, ..set("z1", "2") };
    let update = RequestOp { request: Some(Op::RequestPut(update)) };
    script.case("previous value inside", then(vec![update, r(get("z1"))]));
    let quiet = DeleteRangeRequest { prev_kv: false, ..erase("z1", "z2") };
    let quiet = RequestOp { request: Some(Op::RequestDeleteRange(quiet)) };
    script.case("quiet delete inside", then(vec![quiet, r(get("z1"))]));
}

pub(super) fn limits(script: &mut Script) {
    let puts = |count: usize| (0..count).map(|at| p(&format!("lim{at}"), "x")).collect::<Vec<_>>();
    let reads = |count: usize| (0..count).map(|_| r(get("a"))).collect::<Vec<_>>();
    let conditions = |count: usize| {
        let one = compare(0, 3, "a", TargetUnion::Version(-1));
        vec![one; count]
    };
    for count in [127, 128, 129, 200] {
        script.odd(format!("{count} puts"), then(puts(count)));
        script.odd(format!("{count} reads"), then(reads(count)));
        script.odd(format!("{count} conditions"), {
            Call::Txn(when(conditions(count), vec![r(get("a"))], vec![]))
        });
        script.odd(format!("{count} in the branch not taken"), {
            Call::Txn(when(vec![], vec![r(get("a"))], reads(count)))
        });
    }
    // What a nested transaction may have is what the outer one left.
    for (outer, inner) in [(1, 127), (1, 128), (2, 126), (2, 127), (64, 64), (64, 65), (127, 2)] {
        let mut ops = reads(outer - 1);
        ops.push(t(reads(inner), vec![]));
        script.odd(format!("{outer} around {inner}"), then(ops));
    }
    let two = |count: usize| vec![t(reads(count), vec![]), t(reads(count), vec![])];
    script.odd("two nested, each as large as may be", then(two(126)));
    script.odd("two nested, each too large", then(two(127)));
    script.case(
        "clean up",
        Call::Delete(DeleteRangeRequest { prev_kv: false, ..erase("lim", "lin") }),
    );
}

/// A request with several things wrong: which error is it?
pub(super) fn first_error(script: &mut Script) {
    let many = |op: RequestOp| vec![op; 129];
    let raw_put = |put: PutRequest| RequestOp { request: Some(Op::RequestPut(put)) };
    let valued = || raw_put(PutRequest { ignore_value: true, ..set("e", "x") });
    let leased = || raw_put(PutRequest { ignore_lease: true, lease: 7, ..set("e", "x") });
    let unknown_lease = || raw_put(PutRequest { lease: 4242, ..set("e", "x") });
    let absent = || raw_put(PutRequest { ignore_value: true, ..set("nothing", "") });
    let future = || r(RangeRequest { revision: 1_000_000, ..get("a") });
    let none = || RequestOp { request: None };
    let wrong: [(&str, &dyn Fn() -> RequestOp); 9] = [
        ("no key", &|| p("", "x")),
        ("no key to read", &|| r(get(""))),
        ("no key to delete", &|| d("", "")),
        ("a value given", &valued),
        ("a lease given", &leased),
        ("an unknown lease", &unknown_lease),
        ("nothing to keep", &absent),
        ("a future revision", &future),
        ("no operation", &none),
    ];
    for (name, op) in &wrong {
        script.odd(format!("first: {name}"), then(vec![p("fe", "1"), op()]));
        script.odd(format!("last: {name}"), then(vec![op(), p("fe", "1")]));
        script.odd(format!("not taken: {name}"), {
            Call::Txn(when(vec![], vec![r(get("a"))], vec![op()]))
        });
        script.odd(format!("nested: {name}"), then(vec![t(vec![op()], vec![])]));
        script.odd(format!("{name}, and the same key twice"), {
            then(vec![op(), p("fe", "1"), p("fe", "2")])
        });
        script.odd(format!("too many, and {name}"), then(many(op())));
        let nested_twice = vec![t(vec![p("fe", "1")], vec![op()]), p("fe", "2")];
        script.odd(format!("nested {name}, and the same key twice"), then(nested_twice));
    }
    let no_key = compare(0, 0, "", TargetUnion::Version(0));
    for (name, op) in &wrong {
        let txn = when(vec![no_key.clone()], vec![op()], vec![]);
        script.odd(format!("no key to compare, and {name}"), Call::Txn(txn));
    }
    script.case("nothing of that was written", Call::Range(get("fe")));
}

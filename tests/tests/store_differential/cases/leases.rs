//! Leases.

use super::*;

pub(super) fn leases(script: &mut Script) {
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

/// What becomes of keys whose lease changes or ends.
pub(super) fn lives(script: &mut Script) {
    for id in [201, 202, 203, 204] {
        script.case(format!("lives: grant {id}"), grant(id, 900 + id));
    }
    let on = |key: &str, lease| Call::Put(PutRequest { lease, prev_kv: true, ..set(key, "x") });
    for (key, lease) in [("v1", 201), ("v2", 201), ("v3", 202), ("v1", 202), ("v2", 0), ("v4", 203)]
    {
        script.case(format!("lives: {key} on {lease}"), on(key, lease));
    }
    for id in [201, 202, 203, 204] {
        script.case(format!("lives: keys of {id}"), Call::TimeToLive(id, true));
        script.case(format!("lives: renew {id}"), Call::KeepAlive(id));
    }
    for id in [-1, i64::MIN, i64::MAX, 1] {
        script.odd(format!("lives: renew {id}"), Call::KeepAlive(id));
        script.odd(format!("lives: time to live of {id}"), Call::TimeToLive(id, true));
        script.odd(format!("lives: revoke {id}"), Call::Revoke(id));
        script.odd(format!("lives: put on {id}"), on("v9", id));
    }
    let inside = |lease| {
        let put = PutRequest { lease, ..set("v5", "x") };
        RequestOp { request: Some(Op::RequestPut(put)) }
    };
    script.case("lives: two keys in one transaction", then(vec![inside(203), p("v6", "1")]));
    script.odd("lives: an unknown one in a transaction", then(vec![p("v7", "1"), inside(4243)]));
    script.odd("lives: an unknown one, not taken", {
        Call::Txn(when(vec![], vec![p("v7", "1")], vec![inside(4243)]))
    });
    let keep = PutRequest { ignore_lease: true, ..set("v5", "kept") };
    let keep = RequestOp { request: Some(Op::RequestPut(keep)) };
    script.case("lives: kept in a transaction", then(vec![keep, r(get("v5"))]));
    script.case("lives: keys of 203 now", Call::TimeToLive(203, true));
    script.case("lives: delete one of two", Call::Delete(erase("v4", "")));
    script.case("lives: keys of 203 after it", Call::TimeToLive(203, true));
    script.case("lives: revoke 202", Call::Revoke(202));
    script.case("lives: revoke one without keys", Call::Revoke(204));
    script.case("lives: what is left", Call::Range(span("v", "w")));
    script.odd("lives: compare with a lease that is gone", {
        let gone = compare(4, 0, "v1", TargetUnion::Lease(202));
        Call::Txn(when(vec![gone], vec![r(get("v1"))], vec![r(get("v2"))]))
    });
    script.odd("lives: grant it anew", grant(202, 700));
    script.odd("lives: it has no keys", Call::TimeToLive(202, true));
    for ttl in [1, 2, 9_000_000_000] {
        script.odd(format!("lives: grant {ttl} s"), grant(300 + ttl % 7, ttl));
    }
    for id in [201, 202, 203, 300 + 9_000_000_000 % 7, 301, 302] {
        script.case(format!("lives: revoke {id} at last"), Call::Revoke(id));
    }
}

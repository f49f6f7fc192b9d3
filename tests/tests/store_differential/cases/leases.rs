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

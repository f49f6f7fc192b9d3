//! What etcd 3.6 has or decides and 3.4 does not: only if an etcd of that age is there to ask.
//!
//! A newcomer's trap: some of what is wrong ends a real etcd. An alarm request whose action or kind
//! is out of its enumeration does.

use super::*;

/// Times the number of drawn requests, since this is no part of the gate.
pub(super) const DRAWN: usize = 20;

pub(super) fn requests(script: &mut Script) {
    sorts(script);
    hashes(script);
    downgrades(script);
    full(script);
    streams(script);
    members(script);
}

fn sorts(script: &mut Script) {
    script.case("newer: a key", Call::Put(set("n1", "1")));
    script.case("newer: another key", Call::Put(set("n2", "2")));
    for (sort_order, sort_target) in
        [(3, 0), (-1, 0), (0, 5), (1, -1), (2, 5), (0, -1), (i32::MAX, i32::MIN)]
    {
        for count_only in [false, true] {
            let range = RangeRequest { sort_order, sort_target, count_only, ..span("n", "o") };
            let name = format!("newer: order {sort_order} of {sort_target}, count {count_only}");
            script.odd(name.clone(), Call::Range(range.clone()));
            script.odd(format!("{name} in a txn"), then(vec![r(range.clone())]));
            let inner = vec![t(vec![r(range.clone())], vec![])];
            script.odd(format!("{name} in a nested txn"), then(inner));
            let future = RangeRequest { revision: 1 << 40, ..range };
            script.odd(format!("{name} in the future"), Call::Range(future));
        }
    }
    for key in ["", "n"] {
        let range = RangeRequest { sort_order: 9, ..span(key, "\0") };
        script.odd(format!("newer: which error comes first, key {key:?}"), Call::Range(range));
    }
}

fn hashes(script: &mut Script) {
    for at in [-1, i64::MIN] {
        script.odd(format!("newer: hash at {at}"), Call::HashKv(at));
    }
    script.case("newer: status", Call::Status);
    // A compaction at a delete, between two, and of what it already removed.
    for back in [0, 1, 2, 0, 3] {
        for number in 0..4 {
            script.case("newer: put", Call::Put(set(&format!("h{}", number % 2), "x")));
            script.case("newer: delete", Call::Delete(erase(&format!("h{}", number % 3), "")));
        }
        script.case(format!("newer: compact, {back} ago"), Call::CompactAgo(back));
        // At the compacted revision itself etcd remembers the hash of before (COMPATIBILITY.md).
        for ago in (0..5).filter(|ago| *ago != back) {
            script.case(format!("newer: hash, {ago} ago"), Call::HashAgo(ago));
        }
    }
}

fn downgrades(script: &mut Script) {
    let ask = |action, version: &str| Call::Downgrade(action, version.to_owned());
    for version in [
        "",
        "3",
        "3.5",
        "3.5.0",
        "3.5.9",
        "3.6",
        "3.6.0",
        "3.7",
        "3.7.0",
        "3.4.0",
        "2.3.0",
        "x.y.z",
        "-1.0.0",
        "3.5.0-rc.1",
        "v3.5.0",
    ] {
        script.odd(format!("newer: downgrade to {version:?}?"), ask(0, version));
    }
    script.odd("newer: cancel no downgrade", ask(2, ""));
    for action in [3, -1] {
        script.odd(format!("newer: downgrade action {action}"), ask(action, "3.5.0"));
    }
    script.odd("newer: downgrade to a version that does not fit", ask(1, "3.4.0"));
    script.case("newer: downgrade", ask(1, "3.5.0"));
    script.odd("newer: downgrade again", ask(1, "3.5.0"));
    script.odd("newer: may it be downgraded while it is", ask(0, "3.5.0"));
    script.case("newer: put while it is downgraded", Call::Put(set("n3", "3")));
    script.case("newer: cancel the downgrade", ask(2, "3.5.0"));
    script.odd("newer: cancel it again", ask(2, ""));
}

fn full(script: &mut Script) {
    script.odd("newer: full", Call::Alarm(1, 1));
    let nested = |success, failure| then(vec![t(success, failure)]);
    for (name, call) in [
        ("a nested put", nested(vec![p("n4", "x")], vec![])),
        ("a nested put that is not done", nested(vec![], vec![p("n4", "x")])),
        ("a nested delete", nested(vec![d("n1", "")], vec![])),
        ("a nested read", nested(vec![r(get("n2"))], vec![])),
        ("an empty txn", then(vec![])),
        ("an empty nested txn", nested(vec![], vec![])),
    ] {
        script.odd(format!("newer: {name} while full"), call);
    }
    script.odd("newer: no longer full", Call::Alarm(2, 1));
    for kind in [3, -1] {
        script.odd(format!("newer: alarm of kind {kind}"), Call::Alarm(1, kind));
        script.odd(format!("newer: alarm of kind {kind} off"), Call::Alarm(2, kind));
    }
    script.odd("newer: alarm of no kind", Call::Alarm(1, 0));
    script.odd("newer: alarms afterwards", Call::Alarm(0, 0));
    script.odd("newer: alarm of no kind off", Call::Alarm(2, 0));
}

fn streams(script: &mut Script) {
    use WatchStep::{Do, Receive};
    let put = |key: &str, value: &str| Do(Call::Put(set(key, value)));
    let first = vec![create(watch("n5", "", 0)), Receive];
    script.case(
        "newer: progress of a stream that is up to date",
        Call::Watch([first.clone(), vec![put("n5", "1"), Receive, progress(), Receive]].concat()),
    );
    let id = |watch_id| create(WatchCreateRequest { watch_id, ..watch("n5", "", 0) });
    for number in [-1, -2, i64::MAX, i64::MIN] {
        let steps = vec![id(number), Receive, put("n5", "2"), Receive];
        script.odd(format!("newer: watch id {number}"), Call::Watch(steps));
    }
    for start in [-1, i64::MIN, i64::MAX] {
        let steps = vec![create(watch("n5", "", start)), Receive, cancel(0), Receive];
        script.odd(format!("newer: watch from {start}"), Call::Watch(steps));
    }
    let fragments = WatchCreateRequest { fragment: true, ..watch("n6", "n7", 0) };
    let large = |key: &str| p(key, &"x".repeat(700_000));
    script.case(
        "newer: a response in fragments",
        Call::Watch(vec![
            create(fragments),
            Receive,
            Do(then(vec![large("n61"), large("n62")])),
            WatchStep::ReceiveEvents(2),
        ]),
    );
}

fn members(script: &mut Script) {
    for local in [false, true] {
        script.case(format!("newer: members, local {local}"), Call::Members);
    }
}

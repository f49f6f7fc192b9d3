//! Watches.

use super::*;

pub(super) fn watches(script: &mut Script) {
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

pub(super) fn watches_after_compaction(script: &mut Script) {
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

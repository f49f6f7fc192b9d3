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

/// Several watches on one stream, odd starts, fragments and progress.
pub(super) fn streams(script: &mut Script) {
    use WatchStep::{Do, Receive, ReceiveEvents};
    let put = |key: &str, value: &str| Do(Call::Put(set(key, value)));
    for (name, key, end) in [
        ("all", "\0", "\0"),
        ("from a key on", "s", "\0"),
        ("a prefix", "s", "t"),
        ("up to a longer key", "s", "s\0"),
    ] {
        script.case(
            format!("stream: {name}"),
            Call::Watch(vec![
                create(watch(key, end, 0)),
                Receive,
                put("s", "1"),
                Receive,
                Do(Call::Delete(erase("s", ""))),
                Receive,
            ]),
        );
    }
    for (name, fragment, notify) in
        [("fragments", true, false), ("progress", false, true), ("both", true, true)]
    {
        let request =
            WatchCreateRequest { fragment, progress_notify: notify, ..watch("s", "t", 0) };
        let ops = vec![p("s1", "1"), p("s2", "2"), d("s3", ""), p("s4", "4")];
        script.odd(
            format!("stream: {name}"),
            Call::Watch(vec![create(request), Receive, Do(then(ops)), Receive]),
        );
    }
    let chosen = |watch_id, key: &str| create(WatchCreateRequest { watch_id, ..watch(key, "", 0) });
    for id in [1, 2, i64::MAX, -5] {
        script.odd(
            format!("stream: id {id}"),
            Call::Watch(vec![
                chosen(id, "s1"),
                Receive,
                put("s1", "i"),
                Receive,
                cancel(id),
                Receive,
            ]),
        );
    }
    script.odd(
        "stream: an id again after its cancellation",
        Call::Watch(vec![chosen(5, "s1"), Receive, cancel(5), Receive, chosen(5, "s2"), Receive]),
    );
    script.odd(
        "stream: canceled twice",
        Call::Watch(vec![
            chosen(5, "s1"),
            Receive,
            cancel(5),
            Receive,
            cancel(5),
            chosen(6, "s1"),
            Receive,
        ]),
    );
    script.odd(
        "stream: three of one key",
        Call::Watch(vec![
            create(watch("s1", "", 0)),
            Receive,
            create(watch("s1", "", 0)),
            Receive,
            create(watch("s", "t", 0)),
            Receive,
            put("s1", "three"),
            ReceiveEvents(3),
            cancel(1),
            Receive,
            put("s1", "two"),
            ReceiveEvents(2),
        ]),
    );
    script.case(
        "stream: progress of two",
        Call::Watch(vec![
            create(watch("s1", "", 0)),
            Receive,
            create(watch("s2", "", 0)),
            Receive,
            put("s3", "unseen"),
            progress(),
            Receive,
        ]),
    );
    for (name, key, end, start) in [
        ("a key nobody wrote, from 1", "never", "", 1),
        ("everything, from 5", "\0", "\0", 5),
        ("one key, from 3", "a", "", 3),
    ] {
        let more = if key == "never" {
            vec![put("never", "1"), Receive, Do(Call::Delete(erase("never", ""))), Receive]
        } else {
            vec![ReceiveEvents(1)]
        };
        let steps = [vec![create(watch(key, end, start)), Receive], more].concat();
        script.odd(format!("stream: {name}"), Call::Watch(steps));
    }
    script.case("stream: a put of its own", Call::Put(set("s1", "x")));
    script.case("stream: and a delete", Call::Delete(erase("s1", "")));
    let quiet = |filters| WatchCreateRequest { filters, prev_kv: false, ..watch("s1", "", 1) };
    for (name, filters) in [("puts", vec![0]), ("deletes", vec![1]), ("puts twice", vec![0, 0])] {
        let steps = vec![create(quiet(filters)), Receive, Receive];
        script.odd(format!("stream: the past without {name}"), Call::Watch(steps));
    }
    script.case(
        "stream: a put that keeps its value",
        Call::Watch(vec![
            create(watch("s2", "", 0)),
            Receive,
            Do(Call::Put(PutRequest { ignore_value: true, ..set("s2", "") })),
            Receive,
        ]),
    );
    script.case(
        "stream: a range deleted at once",
        Call::Watch(vec![
            create(watch("s", "t", 0)),
            Receive,
            Do(Call::Delete(DeleteRangeRequest { prev_kv: false, ..erase("s", "t") })),
            Receive,
        ]),
    );
    script.case("stream: the keys it left", Call::Delete(erase("s", "t")));
}

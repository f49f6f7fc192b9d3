//! Single keys, ranges, and compaction.

use super::*;

pub(super) fn empty_store(script: &mut Script) {
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

pub(super) fn puts(script: &mut Script) {
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

pub(super) fn ranges(script: &mut Script) {
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

pub(super) fn sorts_and_filters(script: &mut Script) {
    for target in 0..5 {
        for order in 0..3 {
            let request = RangeRequest { sort_target: target, sort_order: order, ..span("a", "z") };
            script.case(format!("sort {target} {order}"), Call::Range(request.clone()));
            let request = RangeRequest { limit: 2, keys_only: true, ..request };
            script.odd(format!("sort {target} {order} limit 2, keys only"), Call::Range(request));
        }
    }
    // Orders and targets out of their enumerations crash 3.4: the recorded answers of 3.6 have them.
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

pub(super) fn deletes(script: &mut Script) {
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

pub(super) fn compactions(script: &mut Script) {
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

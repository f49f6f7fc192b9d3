//! One session, driven step by step.

use kijabi_machine::Caller;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::WatchRequest;
use kijabi_proto::etcdserverpb::watch_create_request::FilterType;

use super::{
    Command, Session, WatchResponse, World, cancel, create, progress, put, request, settle, taken,
};

#[tokio::test]
async fn a_watch_without_a_start_gets_what_comes_after_it() {
    let mut world = World::new();
    world.put("a", "1");
    let mut session = Session::new(world.source.clone());
    session.handle(&Ok(Caller::Member), request(create("a", "", 0)));
    world.put("a", "2");
    world.put("b", "1");
    world.delete("a");
    assert_eq!(settle(&mut session).await, ["0@2 created", "0@5 3:a=2<1 5:-a<2"]);
}

#[tokio::test]
async fn a_watch_of_the_past_reads_the_ring_or_the_disk_alike() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("b", "1");
    world.put("a", "2");
    let expected = ["0@4 created", "0@4 2:a=1 4:a=2<1"];
    let mut from_ring = Session::new(world.source.clone());
    from_ring.handle(&Ok(Caller::Member), request(create("a", "", 1)));
    assert_eq!(settle(&mut from_ring).await, expected);
    world.forget_ring();
    let mut from_disk = Session::new(world.source.clone());
    from_disk.handle(&Ok(Caller::Member), request(create("a", "", 1)));
    assert_eq!(settle(&mut from_disk).await, expected);
    world.put("a", "3");
    assert_eq!(settle(&mut from_disk).await, ["0@5 5:a=3<2"]);
}

/// etcd#20221.
#[tokio::test]
async fn a_watch_of_the_future_is_silent_until_then() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    session.handle(&Ok(Caller::Member), request(create("a", "", 4)));
    world.put("a", "1");
    world.put("a", "2");
    session.handle(&Ok(Caller::Member), progress());
    assert_eq!(settle(&mut session).await, ["0@1 created"]);
    world.put("a", "3");
    session.handle(&Ok(Caller::Member), progress());
    assert_eq!(settle(&mut session).await, ["0@4 4:a=3<2", "-1@4"]);
}

#[tokio::test]
async fn a_compacted_start_is_created_and_then_canceled() {
    let mut world = World::new();
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    world.delete("a");
    world.compact(5);
    for ring in [true, false] {
        if !ring {
            world.forget_ring();
        }
        let mut session = Session::new(world.source.clone());
        session.handle(&Ok(Caller::Member), request(create("a", "", 4)));
        session.handle(&Ok(Caller::Member), request(create("a", "", 5)));
        let sent = settle(&mut session).await;
        let was = if ring { "<3" } else { "" };
        let expected =
            ["0@5 created", "1@5 created", "0@0 canceled compacted=5", &format!("1@5 5:-a{was}")];
        assert_eq!(sent, expected, "etcd#19179, ring {ring}");
    }
}

#[tokio::test]
async fn filters_and_previous_values_are_per_watch() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    let filtered = |filter: FilterType| pb::WatchCreateRequest {
        filters: vec![filter.into()],
        prev_kv: false,
        ..create("a", "", 0)
    };
    session.handle(&Ok(Caller::Member), request(filtered(FilterType::Noput)));
    session.handle(&Ok(Caller::Member), request(filtered(FilterType::Nodelete)));
    world.put("a", "1");
    world.delete("a");
    let expected = ["0@1 created", "1@1 created", "0@3 3:-a", "1@3 2:a=1"];
    assert_eq!(settle(&mut session).await, expected);
}

#[tokio::test]
async fn ids_are_given_chosen_and_freed_as_in_etcd() {
    let world = World::new();
    let mut session = Session::new(world.source.clone());
    let with_id = |watch_id| pb::WatchCreateRequest { watch_id, ..create("a", "", 0) };
    for id in [1, 0, 0, 1, 7, 0] {
        session.handle(&Ok(Caller::Member), request(with_id(id)));
    }
    session.handle(&Ok(Caller::Member), cancel(7));
    session.handle(&Ok(Caller::Member), cancel(99));
    session.handle(&Ok(Caller::Member), request(with_id(7)));
    let duplicate = "-1@1 created canceled (mvcc: duplicate watch ID provided on the WatchStream)";
    let expected = [
        "1@1 created",
        "0@1 created",
        "2@1 created",
        duplicate,
        "7@1 created",
        "3@1 created",
        "7@1 canceled",
        "7@1 created",
    ];
    assert_eq!(settle(&mut session).await, expected);
}

/// E10 of the hostile inputs.
#[tokio::test]
async fn odd_watches_are_refused_with_etcds_reasons() {
    let world = World::new();
    let cases = [
        (create("b", "a", 0), "-1@1 created canceled (mvcc: watcher range is empty)"),
        (create("b", "b", 0), "-1@1 created canceled (mvcc: watcher range is empty)"),
        (
            create("b", "", -1),
            "-1@1 created canceled (etcdserver: mvcc: required revision has been compacted)",
        ),
        (create("", "", 0), "0@1 created"),
        (create("", "\0", i64::MAX), "0@1 created"),
    ];
    for (create, expected) in cases {
        let mut session = Session::new(world.source.clone());
        session.handle(&Ok(Caller::Member), request(create));
        assert_eq!(settle(&mut session).await, [expected]);
        session.handle(&Ok(Caller::Member), WatchRequest { request_union: None });
        assert!(settle(&mut session).await.is_empty());
    }
}

/// etcd#15220 and #17507: progress must not overtake events.
#[tokio::test]
async fn progress_comes_after_everything_it_promises() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    session.handle(&Ok(Caller::Member), progress());
    assert!(settle(&mut session).await.is_empty(), "nobody to tell");
    world.put("a", "1");
    session.handle(&Ok(Caller::Member), request(create("a", "", 1)));
    session.handle(&Ok(Caller::Member), progress());
    assert_eq!(settle(&mut session).await, ["0@2 created", "0@2 2:a=1"], "it was behind");
    world.put("a", "2");
    session.handle(&Ok(Caller::Member), progress());
    assert_eq!(settle(&mut session).await, ["0@3 3:a=2<1", "-1@3"]);
    world.put("other", "2");
    session.handle(&Ok(Caller::Member), progress());
    assert_eq!(settle(&mut session).await, ["-1@4"]);
}

#[tokio::test]
async fn periodic_progress_goes_to_the_quiet_watches_that_want_it() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    let wanting = |key| pb::WatchCreateRequest { progress_notify: true, ..create(key, "", 0) };
    session.handle(&Ok(Caller::Member), request(wanting("a")));
    session.handle(&Ok(Caller::Member), request(wanting("b")));
    session.handle(&Ok(Caller::Member), request(create("c", "", 0)));
    settle(&mut session).await;
    world.put("a", "1");
    session.progress_tick();
    assert_eq!(settle(&mut session).await, ["0@2 2:a=1", "1@2"]);
    session.progress_tick();
    assert_eq!(settle(&mut session).await, ["0@2", "1@2"]);
}

#[tokio::test]
async fn large_answers_are_split_for_those_who_allow_it() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    session.handle(
        &Ok(Caller::Member),
        request(pb::WatchCreateRequest { fragment: true, ..create("a", "", 0) }),
    );
    session.handle(&Ok(Caller::Member), request(create("a", "", 0)));
    for value in ["x", "y"] {
        world.put("a", &value.repeat(1500));
    }
    session.pick_up();
    let shown =
        |response: &WatchResponse| (response.watch_id, response.fragment, response.events.len());
    let fragments: Vec<_> = taken(&mut session).iter().map(shown).collect();
    let expected = [(0, false, 0), (1, false, 0), (0, true, 1), (0, false, 1), (1, false, 2)];
    assert_eq!(fragments, expected);
}

#[tokio::test]
async fn an_installed_snapshot_leaves_no_gap_and_repeats_nothing() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    session.handle(&Ok(Caller::Member), request(create("a", "", 0)));
    world.put("a", "1");
    assert_eq!(settle(&mut session).await, ["0@1 created", "0@2 2:a=1"]);
    world.apply_unpublished(put("a", "2"), false);
    world.apply_unpublished(put("a", "3"), false);
    let revision = world.source.machine.read().revision();
    world.source.hub.reset(revision);
    world.put("a", "4");
    assert_eq!(settle(&mut session).await, ["0@5 3:a=2<1 4:a=3<2 5:a=4<3"]);
}

/// Old values that were too many bytes to be kept with the events are read from history, by those
/// who want them only.
#[tokio::test]
async fn a_watch_gets_the_previous_values_that_its_events_do_not_hold() {
    let mut world = World::new();
    let value = "x".repeat(1 << 20);
    let keys = 2 * (kijabi_base::limits::EVENT_PREVIOUS_BYTES_MAX >> 20);
    for number in 0..keys {
        world.put(&format!("k{number:02}"), &value);
    }
    let mut session = Session::new(world.source.clone());
    session.handle(&Ok(Caller::Member), request(create("k", "l", 0)));
    session.handle(
        &Ok(Caller::Member),
        request(pb::WatchCreateRequest { prev_kv: false, ..create("k", "l", 0) }),
    );
    settle(&mut session).await;
    let (key, range_end) = ("k".into(), "l".into());
    let delete = pb::DeleteRangeRequest { key, range_end, ..Default::default() };
    world.apply(Command::DeleteRange(delete));
    world.put("k", "after");
    session.handle(&Ok(Caller::Member), progress());
    let sent = settle(&mut session).await;
    let deletion = keys as i64 + 2;
    // The one that wants no values is not held up by the other.
    assert!(sent[0].starts_with(&format!("1@{} {deletion}:-k00 ", deletion + 1)), "{}", &sent[0]);
    assert!(!sent[0].contains('<') && sent[0].ends_with(":k=after"));
    assert!(sent[1].starts_with(&format!("0@{deletion} {deletion}:-k00<xxx")), "{:.99}", sent[1]);
    assert_eq!(sent[2..], [format!("0@{0} {0}:k=after", deletion + 1)], "no progress before");
    assert_eq!(sent[1].matches('<').count(), keys);
    session.handle(&Ok(Caller::Member), progress());
    assert_eq!(settle(&mut session).await, [format!("-1@{}", deletion + 1)]);
}

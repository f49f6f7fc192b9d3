//! Publishing, creating, picking up and catching up in random order: the invariants hold in all.

use kijabi_machine::Caller;
use std::collections::BTreeMap;

use kijabi_proto::etcdserverpb::WatchResponse;
use proptest::prelude::*;

use super::{Session, World, create, progress, put, request, taken};

#[derive(Clone, Debug)]
enum Step {
    Put(&'static str),
    Delete(&'static str),
    Watch(&'static str, &'static str, i64),
    PickUp,
    CatchUp,
    Unpublished,
    Progress,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop::sample::select(vec!["a", "b", "c"]);
    let end = prop::sample::select(vec!["", "\0", "c"]);
    prop_oneof![
        5 => key().prop_map(Step::Put),
        2 => key().prop_map(Step::Delete),
        2 => (key(), end, 0..12i64).prop_map(|(key, end, start)| Step::Watch(key, end, start)),
        2 => Just(Step::PickUp),
        2 => Just(Step::CatchUp),
        1 => Just(Step::Unpublished),
        1 => Just(Step::Progress),
    ]
}

/// What a watch was promised: its keys, and the first revision it gets.
type Promise = (String, String, i64);

async fn interleave(steps: Vec<Step>) {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    let mut promises: BTreeMap<i64, Promise> = BTreeMap::new();
    let mut reading = None;
    let mut sent = Vec::new();
    for step in steps {
        match step {
            Step::Put(key) => world.put(key, "v"),
            Step::Delete(key) => world.delete(key),
            Step::Watch(key, end, start) => {
                if end == "c" && key == "c" {
                    continue;
                }
                let now = world.source.machine.read().revision();
                let first = if start == 0 { now + 1 } else { start };
                promises.insert(promises.len() as i64, (key.into(), end.into(), first));
                session.handle(&Ok(Caller::Member), request(create(key, end, start)));
            }
            Step::PickUp => {
                session.pick_up();
            }
            Step::CatchUp => match reading.take() {
                None => reading = session.catch_up(),
                Some(task) => session.finish_round(&task.await.unwrap().unwrap()),
            },
            Step::Unpublished => {
                world.apply_unpublished(put("a", "u"), false);
                let revision = world.source.machine.read().revision();
                world.source.hub.reset(revision);
            }
            Step::Progress => session.handle(&Ok(Caller::Member), progress()),
        }
        sent.extend(taken(&mut session));
    }
    if let Some(task) = reading {
        session.finish_round(&task.await.unwrap().unwrap());
    }
    loop {
        session.pick_up();
        while let Some(task) = session.catch_up() {
            session.finish_round(&task.await.unwrap().unwrap());
        }
        let before = sent.len();
        sent.extend(taken(&mut session));
        if sent.len() == before {
            break;
        }
    }
    verify(&world, &promises, &sent);
}

fn verify(world: &World, promises: &BTreeMap<i64, Promise>, sent: &[WatchResponse]) {
    let machine = world.source.machine.read();
    let limit = kijabi_machine::HistoryLimit { revisions_max: usize::MAX, bytes_max: usize::MAX };
    let mut delivered: BTreeMap<i64, i64> = BTreeMap::new();
    for response in sent {
        let revision = response.header.as_ref().unwrap().revision;
        if response.watch_id == -1 {
            // WATCH-3: nothing at or below a progress revision comes after it.
            for upto in delivered.values_mut() {
                *upto = (*upto).max(revision);
            }
        }
        for event in &response.events {
            let at = event.kv.as_ref().unwrap().mod_revision;
            let upto = delivered.entry(response.watch_id).or_default();
            assert!(at > *upto, "WATCH-3: {at} after progress {upto}");
        }
    }
    for (id, (key, end, first)) in promises {
        let range = kijabi_machine::KeyRange::of(key.as_bytes(), end.as_bytes());
        let wanted = |key: &[u8]| range.contains(key);
        let history = kijabi_machine::read_history(
            &*world.state,
            *first,
            machine.revision().max(*first),
            limit,
            &wanted,
        );
        let mut revisions = history.unwrap().revisions;
        machine.plan_previous(&revisions).fetch(&*world.state, &mut revisions, usize::MAX).unwrap();
        let expected: Vec<_> = revisions.into_iter().flat_map(|r| r.events).collect();
        let of_watch = sent.iter().filter(|response| response.watch_id == *id);
        let got: Vec<_> = of_watch.flat_map(|response| response.events.clone()).collect();
        assert_eq!(got, expected, "WATCH-1: watch {id} of {key} {end:?} from {first}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// WATCH-1, WATCH-2, WATCH-3 under every order of publishing, picking up and catching up.
    #[test]
    fn every_watch_gets_every_event_once_and_in_order(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(interleave(steps));
    }
}

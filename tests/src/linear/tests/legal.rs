//! Histories that are right, however odd they look.

use super::*;

#[test]
fn one_after_another() {
    Story::default()
        .ask(1, (0, 1), get("a"), found(1, &[]))
        .ask(1, (2, 3), put("a", "1"), wrote(2))
        .ask(1, (4, 5), get("a"), found(2, &[fresh("a", "1", 2)]))
        .ask(1, (6, 7), put("a", "2"), wrote_over(3, fresh("a", "1", 2)))
        .ask(1, (8, 9), all(), found(3, &[kv("a", "2", 2, 3, 2)]))
        .ask(1, (10, 11), delete("a"), deleted(4, kv("a", "2", 2, 3, 2)))
        .ask(1, (12, 13), delete("a"), deleted_nothing(4))
        .ask(1, (14, 15), put("a", "3"), wrote(5))
        .ask(1, (16, 17), all(), found(5, &[fresh("a", "3", 5)]))
        .is_right();
}

#[test]
fn concurrent_writes_in_the_order_of_their_revisions() {
    Story::default()
        .ask(1, (0, 100), put("a", "1"), wrote_over(3, fresh("a", "2", 2)))
        .ask(2, (10, 90), put("a", "2"), wrote(2))
        .ask(3, (20, 80), get("a"), found(3, &[kv("a", "1", 2, 3, 2)]))
        .ask(4, (20, 80), get("a"), found(1, &[]))
        .is_right();
}

#[test]
fn a_lost_write_that_took_effect_late() {
    Story::default()
        .lost(1, 0, put("a", "1"))
        .ask(2, (10, 11), get("a"), found(1, &[]))
        .ask(2, (12, 13), put("b", "1"), wrote(2))
        .ask(2, (14, 15), get("a"), found(3, &[fresh("a", "1", 3)]))
        .is_right();
}

#[test]
fn lost_writes_that_never_took_effect() {
    let mut story = Story::default();
    for at in 0..40 {
        story = story.lost(1, at, put("a", &format!("lost {at}")));
    }
    for at in 0..40 {
        let (key, revision) = (format!("k{at}"), 2 + at as i64);
        story = story.ask(2, (100 + at, 100 + at), put(&key, "1"), wrote(revision));
    }
    story.ask(2, (200, 201), get("a"), found(41, &[])).is_right();
}

#[test]
fn one_of_many_lost_writes_fills_a_gap() {
    let mut story = Story::default();
    for at in 0..12 {
        story = story.lost(1, at, put("a", &format!("lost {at}")));
    }
    story
        .ask(2, (100, 101), put("b", "1"), wrote(3))
        .ask(2, (102, 103), get("a"), found(3, &[fresh("a", "lost 7", 2)]))
        .is_right();
}

#[test]
fn a_lost_delete_and_a_lost_swap_that_could_do_nothing() {
    Story::default()
        .lost(1, 0, delete("a"))
        .lost(1, 1, swap("a", 9, "never"))
        .ask(2, (10, 11), put("a", "1"), wrote(2))
        .ask(2, (12, 13), swap("a", 2, "2"), wrote_over(3, fresh("a", "1", 2)))
        .ask(2, (14, 15), swap("a", 2, "3"), lost_the_race(3, vec![kv("a", "2", 2, 3, 2)]))
        .ask(2, (16, 17), get("a"), found(3, &[kv("a", "2", 2, 3, 2)]))
        .is_right();
}

#[test]
fn old_reads_are_old_but_true() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("a", "2"), wrote_over(3, fresh("a", "1", 2)))
        .ask(2, (4, 5), old("a"), found(1, &[]))
        .ask(2, (6, 7), old("a"), found(2, &[fresh("a", "1", 2)]))
        .ask(3, (8, 9), old("a"), found(1, &[]))
        .ask(2, (8, 9), get_at("a", 2), found(3, &[fresh("a", "1", 2)]))
        .is_right();
}

#[test]
fn compaction_and_what_it_takes() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("a", "2"), wrote_over(3, fresh("a", "1", 2)))
        .ask(1, (4, 20), Request::Compact(3), Answer::Compact(3))
        .ask(2, (5, 6), get_at("a", 2), found(3, &[fresh("a", "1", 2)]))
        .ask(2, (7, 8), get_at("a", 2), refused())
        .ask(2, (9, 10), get_at("a", 3), found(3, &[kv("a", "2", 2, 3, 2)]))
        .ask(2, (21, 22), Request::Compact(2), refused())
        .ask(2, (23, 24), Request::Compact(9), Answer::Refused(Refusal::Future))
        .ask(2, (25, 26), get_at("a", 9), Answer::Refused(Refusal::Future))
        .is_right();
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("a", "2"), wrote_over(3, fresh("a", "1", 2)))
        .lost(1, 4, Request::Compact(3))
        .ask(2, (5, 6), get_at("a", 2), found(3, &[fresh("a", "1", 2)]))
        .ask(2, (7, 8), get_at("a", 2), refused())
        .is_right();
}

#[test]
fn a_watch_with_everything() {
    let first = fresh("a", "1", 2);
    let second = kv("a", "2", 2, 3, 2);
    let both = Request::Txn(
        vec![],
        vec![Op::Put("b".into(), "1".into()), Op::Put("c".into(), "1".into())],
        vec![],
    );
    let both_answer = Answer::Txn(5, true, vec![OpAnswer::Put(None), OpAnswer::Put(None)]);
    let story = || {
        Story::default()
            .ask(1, (0, 1), put("a", "1"), wrote(2))
            .ask(1, (2, 3), put("a", "2"), wrote_over(3, first.clone()))
            .ask(1, (4, 5), delete("a"), deleted(4, second.clone()))
            .ask(1, (6, 7), both.clone(), both_answer.clone())
    };
    let seen = vec![
        events(vec![made("a", "1", 2), changed(second.clone(), first.clone())]),
        events(vec![gone(second.clone(), 4)]),
        progress(4),
        events(vec![made("b", "1", 5), made("c", "1", 5)]),
        progress(5),
        progress(5),
    ];
    story().watch(saw(everything(2), 3, seen)).is_right();
    let mut fragments = everything(4);
    fragments.fragment = true;
    let seen = vec![
        fragment(vec![gone(second.clone(), 4)]),
        fragment(vec![made("b", "1", 5)]),
        events(vec![made("c", "1", 5)]),
    ];
    story().watch(saw(fragments, 5, seen)).is_right();
    let mut filtered = everything(0);
    (filtered.no_put, filtered.prev_kv) = (true, false);
    let deletion = Event { prev: None, ..gone(second.clone(), 4) };
    story().watch(saw(filtered, 1, vec![events(vec![deletion])])).is_right();
    // Two watches of one watcher, the second where the first ended.
    let early = saw(everything(2), 3, vec![events(vec![made("a", "1", 2)])]);
    let later = vec![events(vec![changed(second.clone(), first.clone())])];
    story().watch(early).watch(saw(everything(3), 3, later)).is_right();
    // Compaction takes the value before, and the past.
    let unknown = Event { prev: None, ..gone(second.clone(), 4) };
    story()
        .ask(1, (8, 9), Request::Compact(4), Answer::Compact(5))
        .watch(saw(everything(4), 5, vec![events(vec![unknown])]))
        .watch(saw(everything(3), 5, vec![(5, WatchKind::Canceled(4, String::new()))]))
        .is_right();
}

#[test]
fn a_long_history_with_many_lost_writes_is_checked_quickly() {
    let (mut story, mut revision, mut prev) = (Story::default(), 1, None);
    for at in 0..3000_u64 {
        let value = format!("{at}");
        if at % 20 == 0 {
            story = story.lost(1, at * 10, put("lost", &value));
            // Half of them took effect.
            if at % 40 == 0 {
                revision += 1;
            }
        }
        revision += 1;
        let answer = prev.map_or_else(|| wrote(revision), |prev| wrote_over(revision, prev));
        story = story.ask(2, (at * 10 + 1, at * 10 + 8), put("k", &value), answer);
        let create = 3;
        let now = kv("k", &value, create, revision, at as i64 + 1);
        story = story.ask(
            3,
            (at * 10 + 1, at * 10 + 9),
            get("k"),
            found(revision, std::slice::from_ref(&now)),
        );
        prev = Some(now);
    }
    assert_eq!(story.rules(Mode::Placed), Vec::<&str>::new());
}

/// Kills of a member alone leave deletes and compactions behind that nobody knows the fate of; most
/// never took effect, and each looks like each other.
#[test]
fn lost_requests_that_look_alike_are_checked_quickly() {
    const KEYS: i64 = 4;
    let name = |number: i64| format!("k{number}");
    let (mut story, mut revision, mut seen) = (Story::default(), 1, Vec::new());
    let mut now: Vec<Option<Kv>> = vec![None; KEYS as usize];
    for at in 0..2000_i64 {
        let (key, time) = (name(at % KEYS), at as u64 * 10);
        let wide = Op::Delete(Range::span(&key, "l"));
        if at % 10 == 0 {
            story = story.lost(1, time, delete(&key)).lost(2, time, delete(&name(at % 3)));
            story = story.lost(3, time, Request::Txn(vec![], vec![wide], vec![]));
            story = story.lost(4, time, Request::Compact(revision));
            story = story.lost(5, time, swap(&key, revision - 1, "never"));
        }
        let before = now[(at % KEYS) as usize].take();
        if at % 20 == 0
            && let Some(before) = before
        {
            // One of the deletes took effect.
            revision += 1;
            seen.push(events(vec![gone(before, revision)]));
            continue;
        }
        revision += 1;
        let value = at.to_string();
        let (answer, created, version) = match &before {
            Some(kv) => (wrote_over(revision, kv.clone()), kv.create, kv.version + 1),
            None => (wrote(revision), revision, 1),
        };
        story = story.ask(6, (time + 1, time + 9), put(&key, &value), answer);
        let after = kv(&key, &value, created, revision, version);
        let (key, kv) = (after.key.clone(), Some(after.clone()));
        seen.push(events(vec![Event { key, revision, kv, prev: before }]));
        now[(at % KEYS) as usize] = Some(after);
        // A read of the past that no compaction had reached yet, long after they were sent.
        if at % 50 == 49 {
            let old = Request::Range { range: Range::one("x"), revision: 2, serializable: false };
            story = story.ask(7, (time + 1, time + 9), old, found(revision, &[]));
        }
    }
    let mut watch = saw(everything(2), 1, seen);
    for (number, seen) in watch.seen.iter_mut().enumerate() {
        seen.at = 100_000 + number as u64;
    }
    let story = story.watch(watch);
    assert_eq!(story.rules(Mode::Placed), Vec::<&str>::new());
}

//! Histories with lost requests that would pass if what watches and headers tell were used to
//! excuse something instead of ruling it out. Each has one thing wrong.

use super::*;

/// A watch of everything from the first revision, these events each in a response of its own.
fn watched(story: Story, list: Vec<Event>) -> Story {
    let seen = list.into_iter().map(|event| events(vec![event])).collect();
    story.watch(saw(everything(2), 1, seen))
}

#[test]
fn an_event_that_no_request_explains() {
    let story = Story::default()
        .lost(1, 0, put("a", "1"))
        .ask(2, (10, 11), put("c", "1"), wrote(3))
        .lost(1, 12, put("b", "2"));
    let seen = vec![made("b", "9", 2), made("c", "1", 3)];
    watched(story, seen).is_broken();
}

#[test]
fn a_lost_write_is_seen_twice() {
    let story =
        Story::default().lost(1, 0, put("a", "1")).ask(2, (10, 11), put("c", "1"), wrote(4));
    let again = changed(kv("a", "1", 2, 3, 2), fresh("a", "1", 2));
    let seen = vec![made("a", "1", 2), again, made("c", "1", 4)];
    watched(story, seen).breaks_only("LINEAR");
}

#[test]
fn two_lost_writes_that_ask_for_the_same_are_seen_three_times() {
    let story = Story::default().lost(1, 0, put("a", "1")).lost(2, 1, put("a", "1")).ask(
        2,
        (10, 11),
        put("c", "1"),
        wrote(5),
    );
    let second = kv("a", "1", 2, 3, 2);
    let third = kv("a", "1", 2, 4, 3);
    let seen = vec![
        made("a", "1", 2),
        changed(second.clone(), fresh("a", "1", 2)),
        changed(third, second),
        made("c", "1", 5),
    ];
    watched(story, seen).breaks_only("LINEAR");
}

/// a is made, goes, comes back, goes again, and comes back.
fn coming_and_going(second_delete_sent_at: u64) -> Story {
    let story = Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .lost(2, 2, delete("a"))
        .lost(3, second_delete_sent_at, delete("a"))
        .ask(1, (5, 6), put("a", "2"), wrote(4))
        .ask(1, (9, 10), put("a", "3"), wrote(6));
    let seen = vec![
        made("a", "1", 2),
        gone(fresh("a", "1", 2), 3),
        made("a", "2", 4),
        gone(fresh("a", "2", 4), 5),
        made("a", "3", 6),
    ];
    watched(story, seen)
}

#[test]
fn the_second_of_two_lost_deletes_takes_effect_before_it_was_sent() {
    coming_and_going(7).is_right();
    coming_and_going(3).is_right();
    coming_and_going(11).breaks_only("LINEAR");
}

#[test]
fn half_of_a_lost_transaction_is_seen() {
    let ops = vec![Op::Put("a".into(), "1".into()), Op::Put("b".into(), "1".into())];
    let story = || {
        Story::default().lost(1, 0, Request::Txn(vec![], ops.clone(), vec![])).ask(
            2,
            (10, 11),
            put("c", "1"),
            wrote(3),
        )
    };
    let both =
        vec![events(vec![made("a", "1", 2), made("b", "1", 2)]), events(vec![made("c", "1", 3)])];
    story().watch(saw(everything(2), 1, both)).is_right();
    watched(story(), vec![made("a", "1", 2), made("c", "1", 3)]).is_broken();
}

#[test]
fn half_of_a_lost_delete_of_several_keys_is_seen() {
    let story = Story::default()
        .ask(1, (0, 1), put("b", "1"), wrote(2))
        .ask(1, (2, 3), put("c", "1"), wrote(3))
        .lost(1, 4, Request::Txn(vec![], vec![Op::Delete(Range::span("a", "d"))], vec![]))
        .ask(2, (10, 11), put("d", "1"), wrote(5));
    let seen =
        vec![made("b", "1", 2), made("c", "1", 3), gone(fresh("b", "1", 2), 4), made("d", "1", 5)];
    watched(story, seen).is_broken();
}

#[test]
fn a_lost_write_is_seen_by_a_watch_but_not_by_a_read_at_its_revision() {
    let story = Story::default()
        .lost(1, 0, put("a", "1"))
        .ask(2, (10, 11), get("a"), found(2, &[]))
        .ask(2, (12, 13), put("c", "1"), wrote(3));
    watched(story, vec![made("a", "1", 2), made("c", "1", 3)]).breaks_only("LINEAR");
}

#[test]
fn a_lost_write_that_was_read_is_gone_again() {
    Story::default()
        .lost(1, 0, put("a", "1"))
        .ask(2, (10, 11), get("a"), found(2, &[fresh("a", "1", 2)]))
        .ask(2, (20, 21), get("a"), found(1, &[]))
        .breaks_only("LINEAR");
}

#[test]
fn a_lost_swap_takes_effect_although_it_must_not() {
    let second = kv("a", "2", 2, 3, 2);
    let story = Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("a", "2"), wrote_over(3, fresh("a", "1", 2)))
        .lost(2, 4, swap("a", 2, "x"))
        .ask(1, (10, 11), put("c", "1"), wrote(5));
    let seen = vec![
        made("a", "1", 2),
        changed(second.clone(), fresh("a", "1", 2)),
        changed(kv("a", "x", 2, 4, 3), second),
        made("c", "1", 5),
    ];
    watched(story, seen).breaks_only("LINEAR");
}

#[test]
fn a_lost_write_takes_the_revision_of_one_that_was_answered() {
    let story = Story::default()
        .lost(1, 0, put("a", "1"))
        .ask(2, (1, 2), put("c", "1"), wrote(2))
        .ask(2, (3, 4), put("c", "2"), wrote_over(3, fresh("c", "1", 2)));
    let second = changed(kv("c", "2", 2, 3, 2), fresh("c", "1", 2));
    watched(story, vec![made("a", "1", 2), second]).is_broken();
}

#[test]
fn an_event_comes_before_its_request_was_sent() {
    let story = Story::default().ask(1, (200, 201), put("a", "1"), wrote(2));
    let mut watch = saw(everything(2), 1, vec![events(vec![made("a", "1", 2)])]);
    story.watch(watch.clone()).breaks_only("W3");
    // Of a lost one, too.
    for seen in &mut watch.seen {
        seen.at += 200;
    }
    let lost = |sent| {
        let story = Story::default().lost(1, sent, put("a", "1"));
        story.ask(2, (500, 501), put("c", "1"), wrote(3))
    };
    lost(200).watch(watch.clone()).is_right();
    lost(400).watch(watch).is_broken();
}

#[test]
fn a_lost_compaction_does_not_explain_that_more_is_gone() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("a", "2"), wrote_over(3, fresh("a", "1", 2)))
        .lost(2, 4, Request::Compact(2))
        .ask(1, (10, 11), get_at("a", 2), refused())
        .breaks_only("LINEAR");
}

#[test]
fn a_compaction_is_answered_at_a_revision_that_was_over() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("a", "2"), wrote_over(3, fresh("a", "1", 2)))
        .ask(1, (4, 5), Request::Compact(2), Answer::Compact(2))
        .breaks_only("LINEAR");
}

#[test]
fn what_a_compaction_took_is_read_once_more() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("a", "2"), wrote_over(3, fresh("a", "1", 2)))
        .lost(2, 4, Request::Compact(3))
        .ask(1, (10, 11), get_at("a", 2), refused())
        .ask(1, (12, 13), get_at("a", 2), found(3, &[fresh("a", "1", 2)]))
        .breaks_only("LINEAR");
}

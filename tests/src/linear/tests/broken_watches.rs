//! Watches that no correct store can give. Each has one thing wrong.

use super::*;

fn first() -> Kv {
    fresh("a", "1", 2)
}

fn second() -> Kv {
    kv("a", "2", 2, 3, 2)
}

/// 2: a=1, 3: a=2, 4: delete a, 5: b and c, 6: d.
fn story() -> Story {
    let both = Request::Txn(
        vec![],
        vec![Op::Put("b".into(), "1".into()), Op::Put("c".into(), "1".into())],
        vec![],
    );
    let answer = Answer::Txn(5, true, vec![OpAnswer::Put(None), OpAnswer::Put(None)]);
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("a", "2"), wrote_over(3, first()))
        .ask(1, (4, 5), delete("a"), deleted(4, second()))
        .ask(1, (6, 7), both, answer)
        .ask(1, (8, 9), put("d", "1"), wrote(6))
}

fn update() -> Event {
    changed(second(), first())
}

/// The whole of it from `start`, as five responses at most.
fn whole(start: i64) -> Vec<(i64, WatchKind)> {
    let all = [
        (2, vec![made("a", "1", 2)]),
        (3, vec![update()]),
        (4, vec![gone(second(), 4)]),
        (5, vec![made("b", "1", 5), made("c", "1", 5)]),
        (6, vec![made("d", "1", 6)]),
    ];
    all.into_iter().filter(|(at, _)| *at >= start).map(|(_, list)| events(list)).collect()
}

fn breaks(watch: Watch, created: i64, seen: Vec<(i64, WatchKind)>, rule: &str) {
    story().watch(saw(watch, created, seen)).breaks_only(rule);
}

#[test]
fn the_story_itself_is_right() {
    story()
        .watch(saw(everything(2), 6, whole(2)))
        .watch(saw(everything(4), 6, whole(4)))
        .is_right();
}

#[test]
fn w1_out_of_order() {
    let mut seen = whole(2);
    seen.swap(0, 1);
    breaks(everything(2), 6, seen, "W1");
}

#[test]
fn w1_before_it_was_created() {
    let mut watch = saw(everything(2), 6, whole(2));
    watch.seen.swap(0, 1);
    story().watch(watch).breaks("W1");
}

#[test]
fn w1_newer_than_its_header() {
    let mut seen = whole(2);
    seen[4].0 = 5;
    breaks(everything(2), 6, seen, "W1");
}

#[test]
fn w2_twice() {
    let mut seen = whole(2);
    let again = seen[4].clone();
    seen.push(again);
    breaks(everything(2), 6, seen, "W2");
}

#[test]
fn w3_missing() {
    let mut seen = whole(2);
    seen.remove(1);
    breaks(everything(2), 6, seen, "W3");
}

#[test]
fn w3_never_happened() {
    let mut seen = whole(2);
    seen[4] = events(vec![made("e", "1", 6)]);
    // What really happened then is missing, too.
    story().watch(saw(everything(2), 6, seen)).breaks("W3");
}

#[test]
fn w3_wrong_value() {
    // The search would look for a writer of the value that was seen; here its writer is known.
    let mut seen = whole(2);
    seen[4] = events(vec![made("d", "2", 6)]);
    breaks(everything(2), 6, seen, "W3");
}

#[test]
fn w4_one_revision_in_two_responses() {
    let mut seen = whole(2);
    seen[3] = events(vec![made("b", "1", 5)]);
    seen.insert(4, events(vec![made("c", "1", 5)]));
    breaks(everything(2), 6, seen, "W4");
}

#[test]
fn w4_half_a_revision() {
    let mut seen = whole(2);
    seen[3] = events(vec![made("b", "1", 5)]);
    breaks(everything(2), 6, seen, "W4");
}

#[test]
fn w5_resumed_too_late() {
    let early = saw(everything(2), 6, whole(2).into_iter().take(1).collect());
    let mut late = whole(3);
    late.remove(0);
    story().watch(early).watch(saw(everything(3), 6, late)).breaks_only("W5");
}

#[test]
fn w6_an_event_after_progress() {
    let mut seen = whole(2);
    seen.insert(4, progress(6));
    breaks(everything(2), 6, seen, "W6");
}

#[test]
fn w6_progress_without_the_events() {
    let seen = whole(2).into_iter().take(3).chain([progress(6)]).collect();
    breaks(everything(2), 6, seen, "W6");
}

#[test]
fn w6_progress_goes_back() {
    let seen = whole(2).into_iter().chain([progress(6), progress(5)]).collect();
    breaks(everything(2), 6, seen, "W6");
}

#[test]
fn w7_a_key_that_was_not_asked_for() {
    let watch = Watch::new(0, Range::one("a"), 2, 100);
    breaks(watch, 6, whole(2), "W7");
}

#[test]
fn w7_a_put_that_was_filtered() {
    let mut watch = everything(3);
    watch.no_put = true;
    let seen = vec![events(vec![update()]), events(vec![gone(second(), 4)])];
    breaks(watch, 6, seen, "W7");
}

#[test]
fn w8_wrong_previous_value() {
    let mut seen = whole(2);
    seen[2] = events(vec![gone(first(), 4)]);
    breaks(everything(2), 6, seen, "W8");
}

#[test]
fn w8_no_previous_value() {
    let mut seen = whole(2);
    seen[1] = events(vec![Event { prev: None, ..update() }]);
    breaks(everything(2), 6, seen, "W8");
}

#[test]
fn w9_not_a_creation() {
    let mut seen = whole(2);
    seen[1] = events(vec![changed(kv("a", "2", 3, 3, 1), first())]);
    breaks(everything(2), 6, seen, "W9");
}

#[test]
fn w10_events_before_a_future_start() {
    // Created at 3 for revision 6.
    breaks(everything(6), 3, whole(5), "W10");
}

#[test]
fn w10_progress_before_a_future_start() {
    let seen = [progress(4)].into_iter().chain(whole(6)).collect();
    breaks(everything(6), 3, seen, "W10");
}

#[test]
fn w11_a_delete_at_the_compacted_revision_is_missing() {
    let compact = Request::Compact(4);
    story()
        .ask(1, (10, 11), compact, Answer::Compact(6))
        .watch(saw(everything(4), 6, whole(5)))
        .breaks_only("W11");
}

#[test]
fn w12_another_member_sends_the_past() {
    let before = saw(everything(2), 6, whole(2));
    let mut member = everything(7);
    member.opened = 200;
    let seen = vec![events(vec![made("d", "1", 6)])];
    story().watch(before).watch(saw(member, 6, seen)).breaks_only("W12");
}

#[test]
fn w13_canceled_for_a_compaction_nobody_asked_for() {
    let seen = vec![(6, WatchKind::Canceled(5, String::new()))];
    breaks(everything(2), 6, seen, "W13");
}

#[test]
fn w13_canceled_although_its_revision_is_there() {
    story()
        .ask(1, (10, 11), Request::Compact(4), Answer::Compact(6))
        .watch(saw(everything(4), 6, vec![(6, WatchKind::Canceled(4, String::new()))]))
        .breaks_only("W13");
}

#[test]
fn w13_canceled_for_compaction_without_its_revision() {
    let reason = "etcdserver: mvcc: required revision has been compacted".to_owned();
    story()
        .ask(1, (10, 11), Request::Compact(4), Answer::Compact(6))
        .watch(saw(everything(2), 6, vec![(6, WatchKind::Canceled(0, reason))]))
        .breaks_only("W13");
}

#[test]
fn w13_events_after_the_cancellation() {
    let seen = [(6, WatchKind::Canceled(0, String::new()))].into_iter().chain(whole(2)).collect();
    breaks(everything(2), 6, seen, "W13");
}

#[test]
fn w14_a_fragment_is_missing() {
    let mut watch = everything(5);
    watch.fragment = true;
    let seen = vec![fragment(vec![made("b", "1", 5)]), events(vec![made("d", "1", 6)])];
    breaks(watch, 6, seen, "W14");
}

#[test]
fn w14_a_fragment_nobody_asked_for() {
    let seen = vec![
        fragment(vec![made("b", "1", 5)]),
        events(vec![made("c", "1", 5)]),
        events(vec![made("d", "1", 6)]),
    ];
    breaks(everything(5), 6, seen, "W14");
}

#[test]
fn w14_progress_amid_fragments() {
    let mut watch = everything(6);
    watch.fragment = true;
    let seen = vec![fragment(vec![made("d", "1", 6)]), progress(6)];
    breaks(watch, 6, seen, "W14");
}

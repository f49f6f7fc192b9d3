//! Histories that no correct store can give. Each has one thing wrong.

use super::*;

/// Two writes of a key.
fn two_writes() -> Story {
    Story::default().ask(1, (0, 1), put("a", "1"), wrote(2)).ask(
        1,
        (2, 3),
        put("a", "2"),
        wrote_over(3, fresh("a", "1", 2)),
    )
}

#[test]
fn stale_read() {
    two_writes().ask(2, (4, 5), get("a"), found(2, &[fresh("a", "1", 2)])).breaks_only("LINEAR");
}

#[test]
fn stale_value_under_a_new_revision() {
    two_writes().ask(2, (4, 5), get("a"), found(3, &[fresh("a", "1", 2)])).breaks_only("LINEAR");
}

#[test]
fn reads_that_go_back() {
    Story::default()
        .ask(1, (0, 100), put("a", "1"), wrote(2))
        .ask(2, (10, 20), get("a"), found(2, &[fresh("a", "1", 2)]))
        .ask(3, (30, 40), get("a"), found(1, &[]))
        .breaks_only("LINEAR");
}

#[test]
fn lost_write() {
    two_writes().ask(2, (4, 5), get("a"), found(3, &[])).breaks_only("LINEAR");
}

#[test]
fn lost_write_with_its_revision() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(2, (2, 3), get("a"), found(1, &[]))
        .breaks_only("LINEAR");
}

#[test]
fn lost_update_between_two_swaps() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(2, (2, 10), swap("a", 2, "2"), wrote_over(3, fresh("a", "1", 2)))
        .ask(3, (2, 10), swap("a", 2, "3"), wrote_over(4, fresh("a", "1", 2)))
        .breaks_only("LINEAR");
}

#[test]
fn a_swap_that_fails_although_it_must_succeed() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(2, (2, 3), swap("a", 2, "2"), lost_the_race(2, vec![fresh("a", "1", 2)]))
        .breaks_only("LINEAR");
}

#[test]
fn dirty_read_of_a_failed_transaction() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), swap("a", 9, "dirty"), lost_the_race(2, vec![fresh("a", "1", 2)]))
        .ask(2, (4, 5), get("a"), found(3, &[kv("a", "dirty", 2, 3, 2)]))
        .breaks_only("LINEAR");
}

#[test]
fn revision_reused() {
    Story::default()
        .ask(1, (0, 10), put("a", "1"), wrote(2))
        .ask(2, (0, 10), put("b", "1"), wrote(2))
        .breaks_only("LINEAR");
}

#[test]
fn revision_skipped() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("b", "1"), wrote(4))
        .breaks_only("LINEAR");
}

#[test]
fn revision_goes_back() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(3))
        .ask(1, (2, 3), put("b", "1"), wrote(2))
        .breaks_only("LINEAR");
}

#[test]
fn a_delete_of_nothing_makes_a_revision() {
    Story::default()
        .ask(1, (0, 1), delete("a"), deleted_nothing(2))
        .ask(1, (2, 3), put("b", "1"), wrote(3))
        .breaks_only("LINEAR");
}

#[test]
fn a_deleted_key_comes_back() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), delete("a"), deleted(3, fresh("a", "1", 2)))
        .ask(1, (4, 5), get("a"), found(3, &[fresh("a", "1", 2)]))
        .breaks_only("LINEAR");
}

#[test]
fn a_new_key_keeps_its_old_version() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), delete("a"), deleted(3, fresh("a", "1", 2)))
        .ask(1, (4, 5), put("a", "2"), wrote(4))
        .ask(1, (6, 7), get("a"), found(4, &[kv("a", "2", 2, 4, 2)]))
        .breaks_only("LINEAR");
}

#[test]
fn the_previous_value_is_wrong() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(2))
        .ask(1, (2, 3), put("a", "2"), wrote(3))
        .breaks_only("LINEAR");
}

#[test]
fn half_of_a_transaction() {
    let both = Request::Txn(
        vec![],
        vec![Op::Put("a".into(), "1".into()), Op::Put("b".into(), "1".into())],
        vec![],
    );
    let answer = Answer::Txn(2, true, vec![OpAnswer::Put(None), OpAnswer::Put(None)]);
    Story::default()
        .ask(1, (0, 1), both, answer)
        .ask(2, (2, 3), all(), found(2, &[fresh("a", "1", 2)]))
        .breaks_only("LINEAR");
}

#[test]
fn a_lost_write_takes_effect_twice() {
    Story::default()
        .lost(1, 0, put("a", "1"))
        .ask(2, (10, 11), get("a"), found(2, &[fresh("a", "1", 2)]))
        .ask(2, (12, 13), put("a", "2"), wrote_over(3, fresh("a", "1", 2)))
        .ask(2, (14, 15), get("a"), found(4, &[kv("a", "1", 2, 4, 3)]))
        .breaks_only("LINEAR");
}

#[test]
fn a_lost_write_takes_effect_before_it_was_sent() {
    Story::default()
        .ask(2, (0, 1), get("a"), found(2, &[fresh("a", "1", 2)]))
        .lost(1, 5, put("a", "1"))
        .breaks_only("LINEAR");
}

#[test]
fn a_value_nobody_wrote() {
    Story::default()
        .lost(1, 0, put("a", "1"))
        .ask(2, (10, 11), get("a"), found(2, &[fresh("a", "2", 2)]))
        .breaks_only("LINEAR");
}

#[test]
fn a_later_write_is_ordered_before_an_earlier_one() {
    Story::default()
        .ask(1, (0, 1), put("a", "1"), wrote(3))
        .ask(2, (5, 6), put("b", "1"), wrote(2))
        .breaks_only("LINEAR");
}

#[test]
fn compacted_history_can_still_be_read() {
    two_writes()
        .ask(1, (4, 5), Request::Compact(3), Answer::Compact(3))
        .ask(1, (6, 7), get_at("a", 2), found(3, &[fresh("a", "1", 2)]))
        .breaks_only("LINEAR");
}

#[test]
fn history_is_gone_that_nobody_compacted() {
    two_writes().ask(1, (4, 5), get_at("a", 2), refused()).breaks_only("LINEAR");
}

#[test]
fn the_compacted_revision_itself_is_gone() {
    two_writes()
        .ask(1, (4, 5), Request::Compact(2), Answer::Compact(3))
        .ask(1, (6, 7), get_at("a", 2), refused())
        .breaks_only("LINEAR");
}

#[test]
fn a_compaction_of_the_future_succeeds() {
    two_writes().ask(1, (4, 5), Request::Compact(4), Answer::Compact(4)).breaks_only("LINEAR");
}

#[test]
fn a_future_revision_can_be_read() {
    two_writes().ask(1, (4, 5), get_at("a", 4), found(3, &[])).breaks_only("LINEAR");
}

#[test]
fn the_past_is_wrong() {
    two_writes()
        .ask(1, (4, 5), get_at("a", 2), found(3, &[kv("a", "2", 2, 3, 2)]))
        .breaks_only("STALE-1");
}

#[test]
fn a_serializable_read_of_a_state_that_never_was() {
    two_writes().ask(2, (4, 5), old("a"), found(2, &[])).breaks_only("STALE-1");
}

#[test]
fn a_serializable_read_of_the_future() {
    Story::default()
        .ask(2, (0, 1), old("a"), found(2, &[fresh("a", "1", 2)]))
        .ask(1, (4, 5), put("a", "1"), wrote(2))
        .breaks_only("STALE-2");
}

#[test]
fn serializable_reads_on_one_connection_go_back() {
    two_writes()
        .ask(2, (4, 5), old("a"), found(3, &[kv("a", "2", 2, 3, 2)]))
        .ask(2, (6, 7), old("a"), found(2, &[fresh("a", "1", 2)]))
        .breaks_only("STALE-3");
}

#[test]
fn a_serializable_read_says_compacted_without_reason() {
    let read = Request::Range { range: Range::one("a"), revision: 2, serializable: true };
    two_writes().ask(2, (4, 5), read, refused()).breaks_only("STALE-4");
}

#[test]
fn a_verdict_that_takes_too_long_is_no_pass() {
    let story = two_writes();
    let violations = check(&story.0, Mode::Placed, Duration::ZERO);
    // So short a history is done before the clock is looked at; a long one is not.
    assert!(violations.is_empty());
    let mut story = Story::default();
    for at in 0..2000 {
        story = story.ask(1, (at * 2, at * 2 + 1), put("a", "1"), wrote(at as i64 + 2));
    }
    for (at, entry) in story.0.entries.iter_mut().enumerate().skip(1) {
        let version = at as i64;
        let prev = kv("a", "1", 2, version + 1, version);
        entry.returned = Some((at as u64 * 2 + 1, wrote_over(at as i64 + 2, prev)));
    }
    assert_eq!(story.rules(Mode::Placed), Vec::<&str>::new());
    let violations = check(&story.0, Mode::Placed, Duration::ZERO);
    assert_eq!(violations.iter().map(|v| v.rule).collect::<Vec<_>>(), ["OUT-OF-TIME"]);
}

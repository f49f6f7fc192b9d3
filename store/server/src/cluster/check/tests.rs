//! etcd's checks, case by case.

use super::*;

/// Voters 1, 2, … of which the first `started` have told their names; all of them connected.
fn cluster(voting: u64, started: u64) -> Facts {
    let member = |id: u64| MemberAttributes {
        id,
        name: if id <= started { format!("m{id}") } else { String::new() },
        peer_urls: vec![format!("http://m{id}:2380")],
        ..MemberAttributes::default()
    };
    Facts {
        members: (1..=voting).map(member).collect(),
        leader: 1,
        connected: (2..=started).map(|id| (id, HEALTH_INTERVAL)).collect(),
        voters: (1..=started).collect(),
        matched: (2..=started).map(|id| (id, 100)).collect(),
        last_index: 100,
        strict: true,
        learners_max: 1,
    }
}

fn learner(facts: &mut Facts, id: u64, matched: u64) {
    let peer_urls = vec![format!("http://m{id}:2380")];
    let name = format!("m{id}");
    facts.members.push(MemberAttributes {
        id,
        name,
        peer_urls,
        is_learner: true,
        ..MemberAttributes::default()
    });
    facts.matched.insert(id, matched);
}

fn urls(url: &str) -> Vec<String> {
    vec![url.to_owned()]
}

#[test]
fn a_voter_is_added_only_if_enough_members_have_started() {
    // (voters, started, allowed): a quorum of what there will be must have started.
    for (voting, started, expected) in [
        (1, 1, Ok(())),
        (2, 1, Err(EtcdError::MemberNotEnoughStarted)),
        (3, 3, Ok(())),
        (3, 2, Err(EtcdError::MemberNotEnoughStarted)),
        (4, 3, Err(EtcdError::Unhealthy)),
        (5, 5, Ok(())),
    ] {
        let facts = cluster(voting, started);
        assert_eq!(facts.check_add(&urls("http://new:1"), false), expected, "{voting} {started}");
    }
    let lenient = Facts { strict: false, ..cluster(3, 2) };
    assert_eq!(lenient.check_add(&urls("http://new:1"), false), Ok(()));
}

#[test]
fn members_must_have_been_connected_for_a_while() {
    let mut facts = cluster(3, 3);
    facts.connected.insert(2, Duration::from_secs(4));
    assert_eq!(facts.check_add(&urls("http://new:1"), false), Err(EtcdError::Unhealthy));
    assert_eq!(facts.check_add(&urls("http://new:1"), true), Err(EtcdError::Unhealthy));
    facts.strict = false;
    assert_eq!(facts.check_add(&urls("http://new:1"), true), Ok(()));
}

#[test]
fn urls_and_learners_are_limited_also_without_the_strict_checks() {
    let mut facts = Facts { strict: false, ..cluster(1, 1) };
    assert_eq!(facts.check_add(&urls("http://m1:2380"), true), Err(EtcdError::PeerUrlExist));
    learner(&mut facts, 2, 0);
    assert_eq!(facts.check_add(&urls("http://new:1"), true), Err(EtcdError::TooManyLearners));
    assert_eq!(facts.check_add(&urls("http://new:1"), false), Ok(()));
    facts.learners_max = 2;
    assert_eq!(facts.check_add(&urls("http://new:1"), true), Ok(()));
}

#[test]
fn a_removal_keeps_an_active_quorum() {
    assert_eq!(cluster(1, 1).check_remove(9), Err(EtcdError::MemberNotFound));
    assert_eq!(cluster(1, 1).check_remove(1), Err(EtcdError::MemberNotEnoughStarted));
    let last = Facts { strict: false, ..cluster(1, 1) };
    assert_eq!(last.check_remove(1), Err(EtcdError::MemberNotEnoughStarted));
    assert_eq!(cluster(2, 2).check_remove(1), Ok(()));
    assert_eq!(cluster(3, 3).check_remove(1), Ok(()));
    let mut down = cluster(3, 3);
    down.connected.remove(&3);
    assert_eq!(down.check_remove(3), Ok(()), "who is down may go");
    assert_eq!(down.check_remove(2), Err(EtcdError::Unhealthy), "who is up may not");
    down.connected.clear();
    assert_eq!(down.check_remove(2), Err(EtcdError::Unhealthy), "nobody would be left");
    assert_eq!(cluster(3, 1).check_remove(1), Err(EtcdError::MemberNotEnoughStarted));
    let mut learns = cluster(3, 3);
    learns.connected.clear();
    learner(&mut learns, 4, 0);
    assert_eq!(learns.check_remove(4), Ok(()), "a learner is in no quorum");
}

#[test]
fn a_voter_that_is_no_voter_yet_does_not_stand_in_for_one() {
    let mut facts = cluster(2, 2);
    facts.strict = false;
    facts.voters = BTreeSet::from([1]);
    assert_eq!(facts.check_remove(1), Err(EtcdError::MemberNotEnoughStarted));
    assert_eq!(facts.check_remove(2), Ok(()));
}

#[test]
fn a_learner_is_promoted_when_it_has_ninety_percent() {
    for (matched, expected) in
        [(0, Err(EtcdError::LearnerNotReady)), (89, Err(EtcdError::LearnerNotReady)), (90, Ok(()))]
    {
        let mut facts = cluster(3, 3);
        learner(&mut facts, 4, matched);
        assert_eq!(facts.check_promote(4), expected, "{matched}");
    }
    assert_eq!(cluster(3, 3).check_promote(9), Err(EtcdError::MemberNotFound));
    assert_eq!(cluster(3, 3).check_promote(1), Err(EtcdError::MemberNotLearner));
    assert_eq!(cluster(3, 3).check_promote(2), Err(EtcdError::MemberNotLearner));
    let mut few = cluster(3, 1);
    learner(&mut few, 4, 100);
    assert_eq!(few.check_promote(4), Err(EtcdError::MemberNotEnoughStarted));
}

#[test]
fn an_update_needs_a_member_and_urls_nobody_has() {
    let facts = cluster(2, 2);
    assert_eq!(facts.check_update(9, &urls("http://new:1")), Err(EtcdError::MemberNotFound));
    assert_eq!(facts.check_update(1, &urls("http://m2:2380")), Err(EtcdError::PeerUrlExist));
    assert_eq!(facts.check_update(1, &urls("http://m1:2380")), Ok(()));
    assert_eq!(facts.check_update(1, &urls("http://new:1")), Ok(()));
}

#[test]
fn urls_are_checked_and_sorted_as_etcd_does() {
    let given = |urls: &[&str]| {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        peer_urls(&urls)
    };
    assert_eq!(given(&["http://b:1", " https://a:2 "]).unwrap(), ["http://b:1", "https://a:2"]);
    assert!(given(&["http://[::1]:2380", "unix://a"]).is_ok());
    for wrong in [
        &[][..],
        &["not a url"],
        &["http://a"],
        &["http://a:1/"],
        &["http://a:1/members"],
        &["ftp://a:1"],
        &["http://::1:2380"],
        &["http://a:99999"],
        &["http://a b:1"],
        &["http://a:1", "x"],
    ] {
        assert_eq!(given(wrong), Err(EtcdError::MemberBadUrls), "{wrong:?}");
    }
}

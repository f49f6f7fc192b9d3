//! Deadlines of leases: what is left of them over renewals, restarts and changes of leader.

use super::clock::STAMP_INTERVAL_MS;
use super::*;
use crate::state::{MemoryState, StateView as _};

const A: LeaseId = LeaseId(7);

fn leases() -> Leases {
    let mut leases = Leases::open(&MemoryState::default(), 2).unwrap();
    leases.promote(0, 0);
    leases
}

/// Lets a leader's time pass: the log is told how late it is whenever that is due.
fn pass(leases: &mut Leases, state: &MemoryState, from_ms: u64, to_ms: u64) {
    for now_ms in (from_ms..=to_ms).step_by(100) {
        if leases.is_stamp_due(now_ms) {
            let mut batch = StateBatch::default();
            leases.stamp(now_ms, leases.time_ms(now_ms), &mut batch);
            state.write(&batch);
        }
    }
}

fn granted(leases: &mut Leases, state: &MemoryState, now_ms: u64, id: LeaseId, ttl: i64) {
    let mut batch = StateBatch::default();
    leases.grant(now_ms, id, ttl, &mut batch).unwrap();
    state.write(&batch);
}

fn left(leases: &Leases, now_ms: u64, id: LeaseId) -> i64 {
    let request = LeaseTimeToLiveRequest { id: id.0, keys: false };
    leases.time_to_live(now_ms, &request).unwrap().ttl
}

#[test]
fn a_grant_is_raised_to_the_minimum_and_refused_beyond_the_maximum() {
    let (mut leases, mut batch) = (leases(), StateBatch::default());
    assert_eq!(leases.grant(0, A, -5, &mut batch).unwrap(), 2);
    assert!(matches!(leases.grant(0, A, 5, &mut batch), Err(Error::LeaseExists)));
    let too_long = leases.grant(0, LeaseId(8), LEASE_TTL_SECONDS_MAX + 1, &mut batch);
    assert!(matches!(too_long, Err(Error::LeaseTtlTooLarge)));
    assert_eq!(
        leases.grant(0, LeaseId(9), LEASE_TTL_SECONDS_MAX, &mut batch).unwrap(),
        LEASE_TTL_SECONDS_MAX
    );
}

/// LEASE-1.
#[test]
fn a_renewed_lease_lives_its_full_time_again() {
    let (mut leases, state) = (leases(), MemoryState::default());
    granted(&mut leases, &state, 0, A, 10);
    pass(&mut leases, &state, 0, 9_000);
    leases.may_renew(9_000, A).unwrap();
    let mut batch = StateBatch::default();
    leases.stamp(9_000, leases.time_ms(9_000), &mut batch);
    assert_eq!(leases.renew(9_000, A, &mut batch), Some(10));
    assert!(leases.lives_at(A, leases.time_ms(9_000) + 9_999));
    pass(&mut leases, &state, 9_000, 18_900);
    assert!(leases.expired(18_999, 9).is_empty());
    assert_eq!(leases.expired(19_000, 9), [A]);
    assert!(matches!(leases.may_renew(19_000, A), Err(Error::LeaseNotFound)));
}

/// LEASE-1: a revocation that was proposed before a renewal came leaves the lease alone.
#[test]
fn a_lease_renewed_since_it_was_found_to_be_over_has_time_left() {
    let (mut leases, state) = (leases(), MemoryState::default());
    granted(&mut leases, &state, 0, A, 10);
    pass(&mut leases, &state, 0, 10_000);
    let found_at = leases.time_ms(10_000);
    assert_eq!((leases.expired(10_000, 9), leases.lives_at(A, found_at)), (vec![A], false));
    let mut batch = StateBatch::default();
    leases.stamp(10_000, found_at, &mut batch);
    assert_eq!(leases.renew(10_000, A, &mut batch), Some(10));
    assert!(leases.lives_at(A, found_at));
}

/// LEASE-1: a follower has seen the same, and goes on where the leader was.
#[test]
fn a_new_leader_goes_on_with_what_is_left() {
    let (mut leases, state) = (leases(), MemoryState::default());
    granted(&mut leases, &state, 0, A, 10);
    pass(&mut leases, &state, 0, 4_000);
    leases.demote();
    assert!(leases.expired(1_000_000, 9).is_empty(), "a follower ends nothing");
    assert!(matches!(leases.may_renew(0, A), Err(Error::NotPrimaryLessor)));
    leases.promote(4_000, 1_000);
    assert_eq!(left(&leases, 4_000, A), 7, "and one second on top");
    pass(&mut leases, &state, 4_000, 10_900);
    assert!(leases.expired(10_999, 9).is_empty());
    assert_eq!(leases.expired(11_000, 9), [A]);
}

/// LEASE-1: who cannot write cannot renew either, so that time does not count.
#[test]
fn no_time_passes_while_nothing_comes_through_the_log() {
    let (mut leases, state) = (leases(), MemoryState::default());
    granted(&mut leases, &state, 0, A, 10);
    pass(&mut leases, &state, 0, 4_000);
    leases.demote();
    leases.promote(1_000_000, 0);
    assert!(left(&leases, 1_000_000, A) >= 4, "{}", left(&leases, 1_000_000, A));
    assert!(leases.expired(1_000_000, 9).is_empty());
}

/// etcd#9888: it never ended there.
#[test]
fn a_lease_ends_in_time_however_often_leaders_change() {
    let (mut leases, state) = (leases(), MemoryState::default());
    granted(&mut leases, &state, 0, A, 10);
    let ended = (0..30_u64).find(|second| {
        leases.demote();
        leases.promote(second * 1_000, 1_000);
        pass(&mut leases, &state, second * 1_000, second * 1_000 + 999);
        !leases.expired(second * 1_000 + 999, 9).is_empty()
    });
    assert!(ended.is_some_and(|second| (10..=12).contains(&second)), "{ended:?}");
}

/// LEASE-1: also after a restart, however long it took.
#[test]
fn a_restart_keeps_what_was_left_and_a_little_more() {
    let (mut leases, state) = (leases(), MemoryState::default());
    granted(&mut leases, &state, 0, A, 10);
    pass(&mut leases, &state, 0, 6_000);
    let before = leases.time_ms(6_000);
    let mut reopened = Leases::open(&state, 2).unwrap();
    reopened.promote(77, 1_000);
    let late = before - reopened.time_ms(77);
    assert!((0..=STAMP_INTERVAL_MS + 100).contains(&late), "{late}");
    let left = left(&reopened, 77, A);
    assert!((4..=7).contains(&left), "{left}");
    // A lease without a trace of the clock, as another cluster's backup has it, gets its full time.
    let state = MemoryState::default();
    let mut batch = StateBatch::default();
    let record = LeaseRecord { ttl: 10, id: A.0, renewed_ms: 5_000_000 };
    batch.put(Table::Lease, row_key(A), record.encode_to_vec());
    state.write(&batch);
    let mut moved = Leases::open(&state, 2).unwrap();
    moved.promote(0, 0);
    assert_eq!(self::left(&moved, 0, A), 10);
}

#[test]
fn the_state_is_the_same_whatever_a_members_own_clock_shows() {
    let states = [0, 123_456].map(|offset_ms| {
        let state = MemoryState::default();
        let mut leases = Leases::open(&state, 2).unwrap();
        granted(&mut leases, &state, offset_ms, A, 10);
        for (number, stamp_ms) in [900, 1_700, 1_200, 2_500].into_iter().enumerate() {
            let mut batch = StateBatch::default();
            let now_ms = offset_ms * (number as u64 + 1);
            leases.stamp(now_ms, stamp_ms, &mut batch);
            leases.renew(now_ms, A, &mut batch);
            state.write(&batch);
        }
        let row = state.get(Table::Lease, &row_key(A)).unwrap();
        (row, meta::read_i64(&state, meta::LEASE_TIME).unwrap())
    });
    assert_eq!(states[0], states[1]);
    assert_eq!(states[0].1, Some(2_500));
}

#[test]
fn a_key_hangs_on_one_lease_at_a_time() {
    let (mut leases, mut batch) = (leases(), StateBatch::default());
    leases.grant(0, A, 10, &mut batch).unwrap();
    leases.grant(0, LeaseId(8), 10, &mut batch).unwrap();
    leases.attach(b"k", A);
    leases.attach(b"k", LeaseId(8));
    assert!(leases.revoke(A, &mut batch).unwrap().is_empty());
    assert_eq!(leases.revoke(LeaseId(8), &mut batch).unwrap().len(), 1);
    assert_eq!(leases.of_key(b"k"), LeaseId::NONE);
}

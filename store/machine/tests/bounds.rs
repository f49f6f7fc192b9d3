//! What applying a command reads and keeps must not grow with the values its range holds.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use kijabi_base::limits::{ANSWER_BYTES_MAX, EVENT_PREVIOUS_BYTES_MAX};
use kijabi_machine::state::{MemoryState, StateError, StateReader, StateView, Table, VisitPair};
use kijabi_machine::{Applied, Error, Machine, Outcome, RevisionEvents, Settings};
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{Batch, Command, LeaseRevokeMany};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::request_op::Request as Op;

/// A state that counts the bytes read from it.
#[derive(Default)]
struct Counting {
    state: MemoryState,
    read: AtomicUsize,
}

impl StateView for Counting {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let value = self.state.get(table, key)?;
        self.read.fetch_add(value.as_ref().map_or(0, Bytes::len), Ordering::Relaxed);
        Ok(value)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        self.state.scan(table, from, to, visit)
    }
}

impl StateReader for Counting {
    fn with_view(&self, read: &mut dyn FnMut(&dyn StateView)) {
        read(self);
    }
}

const VALUE_BYTES: usize = 64 << 10;

struct World {
    state: Arc<Counting>,
    machine: Machine,
    index: u64,
}

impl World {
    /// Keys with values of 64 KiB each, twice what any budget allows.
    fn new(lease: i64) -> Self {
        let state = Arc::new(Counting::default());
        let machine = Machine::open(Arc::clone(&state) as _, Settings::default()).unwrap();
        let mut world = Self { state, machine, index: 0 };
        if lease != 0 {
            let grant = pb::LeaseGrantRequest { id: lease, ttl: 60 };
            world.apply(vec![Request::LeaseGrant(grant)]);
        }
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        for number in 0..2 * ANSWER_BYTES_MAX / VALUE_BYTES {
            let key = format!("k{number:06}").into();
            let put = pb::PutRequest { key, value: value.clone(), lease, ..Default::default() };
            world.apply(vec![Request::Put(put)]);
        }
        world.state.read.store(0, Ordering::Relaxed);
        world
    }

    fn apply(&mut self, requests: Vec<Request>) -> Applied {
        self.index += 1;
        let command = |request| Command { request: Some(request), ..Default::default() };
        let batch =
            Batch { commands: requests.into_iter().map(command).collect(), ..Batch::default() };
        let applied = self.machine.apply(0, self.index, 1, &batch).unwrap();
        self.state.state.write(&applied.state);
        applied
    }

    fn read_bytes(&self) -> usize {
        self.state.read.swap(0, Ordering::Relaxed)
    }
}

fn everything(prev_kv: bool) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv }
}

/// Bytes of values that the events hold.
fn held(events: &[Arc<RevisionEvents>]) -> usize {
    let events = events.iter().flat_map(|revision| &revision.events);
    events.filter_map(|event| event.prev_kv.as_ref()).map(|kv| kv.value.len()).sum()
}

fn assert_bounded(world: &World, applied: &Applied) {
    let (read, held) = (world.read_bytes(), held(&applied.events));
    let allowed = EVENT_PREVIOUS_BYTES_MAX + 2 * VALUE_BYTES;
    assert!(read <= allowed, "{read} bytes were read while it was applied");
    assert!(held <= allowed, "{held} bytes are kept with the events");
    assert!(applied.events.iter().any(|revision| revision.previous_left_out));
}

#[test]
fn a_delete_of_a_huge_range_reads_no_more_than_its_budget_and_watchers_can_read_the_rest() {
    let mut world = World::new(0);
    let keys = world.machine.key_count();
    let applied = world.apply(vec![Request::DeleteRange(everything(false))]);
    assert!(
        matches!(&applied.outcomes[0], Ok(Outcome::DeleteRange(r)) if r.deleted == keys as i64)
    );
    assert_bounded(&world, &applied);
    let mut revisions = vec![(*applied.events[0]).clone()];
    let plan = world.machine.plan_previous(&revisions);
    assert_eq!(plan.fetch(&*world.state, &mut revisions, usize::MAX).unwrap(), 0);
    let complete = revisions[0].events.iter().all(|event| {
        let (kv, previous) = (event.kv.as_ref().unwrap(), event.prev_kv.as_ref().unwrap());
        previous.key == kv.key && previous.value.len() == VALUE_BYTES
    });
    assert!(complete && !revisions[0].previous_left_out);
    // A reader with a budget of its own stops there.
    let mut revisions = vec![(*applied.events[0]).clone()];
    world.read_bytes();
    let plan = world.machine.plan_previous(&revisions);
    let left_out = plan.fetch(&*world.state, &mut revisions, 1 << 20).unwrap();
    assert!(left_out > keys / 2, "{left_out} of {keys}");
    assert!(world.read_bytes() <= 64 * (VALUE_BYTES + 100));
}

#[test]
fn revoking_leases_of_huge_values_reads_no_more_than_the_budget() {
    let mut world = World::new(7);
    let revoke = Request::LeaseRevokeMany(LeaseRevokeMany { ids: vec![7], lease_ms: 0 });
    let applied = world.apply(vec![revoke]);
    assert_bounded(&world, &applied);
    assert!(world.machine.lease_ids().is_empty());
}

/// The budget is one for the whole entry, not one for each of its commands.
#[test]
fn many_overwrites_in_one_entry_share_the_budget() {
    let mut world = World::new(0);
    let puts = (0..2 * ANSWER_BYTES_MAX / VALUE_BYTES).map(|number| {
        let key = format!("k{number:06}").into();
        Request::Put(pb::PutRequest { key, value: "v".into(), ..Default::default() })
    });
    let applied = world.apply(puts.collect());
    assert_bounded(&world, &applied);
}

/// The answer is part of what is applied, on every member: it is refused before anything changes.
#[test]
fn an_answer_beyond_the_budget_is_refused_and_nothing_is_changed() {
    let mut world = World::new(0);
    let before = (world.machine.revision(), world.machine.key_count());
    let range = pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let first = pb::PutRequest { key: "first".into(), ..Default::default() };
    let txn = |second: Op| {
        let op = |request| pb::RequestOp { request: Some(request) };
        let success = vec![op(Op::RequestPut(first.clone())), op(second)];
        Request::Txn(pb::TxnRequest { success, ..Default::default() })
    };
    let nested = pb::TxnRequest {
        success: vec![pb::RequestOp { request: Some(Op::RequestRange(range.clone())) }],
        ..Default::default()
    };
    for request in [
        Request::DeleteRange(everything(true)),
        txn(Op::RequestDeleteRange(everything(true))),
        txn(Op::RequestRange(range.clone())),
        txn(Op::RequestTxn(nested)),
    ] {
        let applied = world.apply(vec![request]);
        assert!(matches!(applied.outcomes[0], Err(Error::AnswerTooLarge)), "{applied:?}");
        assert!(applied.events.is_empty());
        assert_eq!((world.machine.revision(), world.machine.key_count()), before);
        let read = world.read_bytes();
        assert!(read < ANSWER_BYTES_MAX + 4 * VALUE_BYTES, "{read}");
    }
    // What holds no values, or few of them, is answered.
    for range in [
        pb::RangeRequest { count_only: true, ..range.clone() },
        pb::RangeRequest { limit: 20, ..range },
    ] {
        let applied = world.apply(vec![txn(Op::RequestRange(range))]);
        assert!(matches!(applied.outcomes[0], Ok(Outcome::Txn(_))), "{applied:?}");
    }
}

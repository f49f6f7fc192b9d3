//! What a put, a range, a transaction, a compaction and a lease cost the machine alone.
//!
//! Owns: the state machine's benches. Must not know: logs, disks, networks; the state is in memory.
//! A newcomer's trap: the index is what a count measures, which reads no value.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use kijabi_base::clock;
use kijabi_machine::state::MemoryState;
use kijabi_machine::{Machine, Settings};
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{Batch, Command, LeaseRenewMany};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kijabi_proto::etcdserverpb::request_op::Request as Op;

/// Keys in the store before anything is measured.
const KEYS: usize = 10_000;
/// Bytes of a value, about those of a small object.
const VALUE_BYTES: usize = 256;

/// Rows of a step of a compaction.
const ROWS: usize = 1_000;

struct Store {
    state: Arc<MemoryState>,
    machine: Machine,
    index: u64,
}

impl Store {
    fn filled() -> Self {
        Self::of(KEYS)
    }

    fn of(keys: usize) -> Self {
        let state = Arc::new(MemoryState::default());
        let machine = Machine::open(state.clone(), Settings::default()).expect("an empty state");
        let mut store = Self { state, machine, index: 0 };
        for at in 0..keys {
            let put = pb::PutRequest { key: key_of(at), ..put_request(at) };
            store.apply(Request::Put(put));
        }
        store
    }

    fn apply(&mut self, request: Request) {
        self.index += 1;
        let batch = batch(request);
        let applied = self.machine.apply(0, self.index, 1, &batch).expect("memory can be read");
        self.state.write(&applied.state);
        black_box(applied.outcomes);
    }

    fn compact(&mut self, revision: i64) {
        self.apply(Request::Compaction(pb::CompactionRequest { revision, physical: false }));
        while let Some(step) = self.machine.compact_step(ROWS) {
            self.state.write(&step.state);
            if step.done {
                break;
            }
        }
    }
}

fn batch(request: Request) -> Batch {
    Batch {
        commands: vec![Command { request: Some(request), ..Default::default() }],
        ..Batch::default()
    }
}

fn key(at: usize) -> bytes::Bytes {
    key_of(at % KEYS)
}

fn key_of(at: usize) -> bytes::Bytes {
    format!("/registry/pods/default/pod-{at:08}").into()
}

fn put_request(at: usize) -> pb::PutRequest {
    pb::PutRequest { key: key(at), value: vec![b'x'; VALUE_BYTES].into(), ..Default::default() }
}

fn put(at: usize) -> Request {
    Request::Put(put_request(at))
}

/// The update an API server makes: put if unchanged, else read.
fn compare_and_swap(at: usize, revision: i64) -> Request {
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key(at),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    };
    let read = pb::RangeRequest { key: key(at), ..Default::default() };
    let op = |request| pb::RequestOp { request: Some(request) };
    Request::Txn(pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Op::RequestPut(put_request(at)))],
        failure: vec![op(Op::RequestRange(read))],
    })
}

fn writes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(1));
    let mut store = Store::filled();
    let mut at = 0;
    group.bench_function("put", |bencher| {
        bencher.iter_batched(
            || {
                at += 1;
                put(at)
            },
            |request| store.apply(request),
            BatchSize::SmallInput,
        );
    });
    let mut store = Store::filled();
    group.bench_function("compare and swap, lost", |bencher| {
        bencher.iter_batched(
            || {
                at += 1;
                compare_and_swap(at, 1)
            },
            |request| store.apply(request),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let store = Store::filled();
    let read = |request: &pb::RangeRequest| {
        let plan = store.machine.range(request).expect("the present can be read");
        plan.fetch(&*store.state).expect("nothing is compacted")
    };
    let mut group = criterion.benchmark_group("range");
    let one = pb::RangeRequest { key: key(77), ..Default::default() };
    group.bench_function("one key", |bencher| bencher.iter(|| read(black_box(&one))));
    let page = pb::RangeRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        limit: 500,
        ..Default::default()
    };
    group.bench_function("a page of 500", |bencher| bencher.iter(|| read(black_box(&page))));
    let count = pb::RangeRequest { count_only: true, ..page };
    group.bench_function("a count of 10000", |bencher| bencher.iter(|| read(black_box(&count))));
    group.finish();
}

/// The index alone, over key spaces of which each is ten times the one before.
fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    for keys in [1_000, 10_000, 100_000] {
        let store = Store::of(keys);
        let all = pb::RangeRequest {
            key: b"/"[..].into(),
            range_end: b"0"[..].into(),
            count_only: true,
            ..Default::default()
        };
        group.bench_with_input(BenchmarkId::new("count", keys), &all, |bencher, all| {
            bencher.iter(|| store.machine.range_count(black_box(all)));
        });
        let one = pb::RangeRequest { key: key_of(keys / 2), ..Default::default() };
        group.bench_with_input(BenchmarkId::new("plan of one key", keys), &one, |bencher, one| {
            bencher.iter(|| store.machine.range(black_box(one)).expect("the present"));
        });
    }
    group.finish();
}

/// Revisions that a measured compaction removes.
const COMPACTED: usize = 1_000;

fn compact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compact");
    group.throughput(Throughput::Elements(COMPACTED as u64));
    let mut store = Store::filled();
    group.bench_function("a thousand revisions", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                for at in 0..COMPACTED {
                    store.apply(put(at));
                }
                let started = clock::now();
                store.compact(store.machine.revision());
                spent += started.elapsed();
            }
            spent
        });
    });
    group.finish();
}

/// Leases in the table before anything is measured.
const LEASES: i64 = 10_000;

fn leases(criterion: &mut Criterion) {
    let grant = |id| Request::LeaseGrant(pb::LeaseGrantRequest { id, ttl: 3_600 });
    let mut store = Store::of(0);
    for id in 1..=LEASES {
        store.apply(grant(id));
    }
    store.machine.leases_promote(0, 0);
    let mut group = criterion.benchmark_group("lease");
    let mut id = LEASES;
    group.bench_function("renew one of 10000", |bencher| {
        bencher.iter(|| {
            id = id % LEASES + 1;
            let lease_ms = store.machine.lease_time_ms(1);
            let renewed = LeaseRenewMany { ids: vec![id], lease_ms };
            store.apply(Request::LeaseRenewMany(renewed));
        });
    });
    group.bench_function("look for expired ones among 10000", |bencher| {
        bencher.iter(|| store.machine.leases_expired(black_box(2), 1_000));
    });
    let mut next = LEASES;
    group.bench_function("grant", |bencher| {
        bencher.iter(|| {
            next += 1;
            store.apply(grant(next));
        });
    });
    group.finish();
}

pub(crate) fn all(criterion: &mut Criterion) {
    writes(criterion);
    reads(criterion);
    index(criterion);
    compact(criterion);
    leases(criterion);
}

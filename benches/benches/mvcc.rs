//! What one put, one range and one compare-and-swap cost the machine alone, with its state in
//! memory: no log, no disk, no network.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kijabi_machine::state::MemoryState;
use kijabi_machine::{Machine, Settings};
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{Batch, Command};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kijabi_proto::etcdserverpb::request_op::Request as Op;

/// Keys in the store before anything is measured.
const KEYS: usize = 10_000;
/// Bytes of a value, about those of a small object.
const VALUE_BYTES: usize = 256;

struct Store {
    state: Arc<MemoryState>,
    machine: Machine,
    index: u64,
}

impl Store {
    fn filled() -> Self {
        let state = Arc::new(MemoryState::default());
        let machine = Machine::open(state.clone(), Settings::default()).expect("an empty state");
        let mut store = Self { state, machine, index: 0 };
        for at in 0..KEYS {
            store.apply(put(at));
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
}

fn batch(request: Request) -> Batch {
    Batch {
        commands: vec![Command { request: Some(request), ..Default::default() }],
        ..Batch::default()
    }
}

fn key(at: usize) -> bytes::Bytes {
    format!("/registry/pods/default/pod-{:08}", at % KEYS).into()
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

criterion_group!(benches, writes, reads);
criterion_main!(benches);

//! What an event costs between the apply loop and the streams: the hub, and encoding.
//!
//! Owns: both benches. Must not know: sockets. A newcomer's trap: the hub only wakes streams; each
//! then picks up by itself, here one after the other on one thread.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use kijabi_machine::RevisionEvents;
use kijabi_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use kijabi_proto::mvccpb::{Event, KeyValue};
use kijabi_server::microbench::WatchHub;
use prost::Message as _;

const VALUE_BYTES: usize = 256;

fn event(revision: i64) -> Event {
    let kv = |mod_revision| KeyValue {
        key: format!("/registry/pods/default/pod-{:08}", revision % 1_000).into(),
        value: vec![b'x'; VALUE_BYTES].into(),
        create_revision: 2,
        mod_revision,
        version: 7,
        lease: 0,
    };
    Event { kv: Some(kv(revision)), prev_kv: Some(kv(revision - 1)), ..Default::default() }
}

fn hub(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch hub");
    for streams in [1, 100, 1_000] {
        let mut hub = WatchHub::new(streams);
        let mut revision = 0;
        group.throughput(Throughput::Elements(streams as u64));
        let name = "a revision to all streams";
        group.bench_function(BenchmarkId::new(name, streams), |bencher| {
            bencher.iter(|| {
                revision += 1;
                let events = vec![event(revision)];
                let all = RevisionEvents { revision, events, previous_left_out: false };
                hub.publish(Arc::new(all));
                assert_eq!(hub.pick_up(), streams);
            });
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event encoding");
    for count in [1, 100] {
        let answer = WatchResponse {
            header: Some(ResponseHeader { revision: 1_000, ..Default::default() }),
            events: (1..=count).map(event).collect(),
            ..Default::default()
        };
        group.throughput(Throughput::Bytes(answer.encoded_len() as u64));
        group.bench_function(BenchmarkId::new("an answer of events", count), |bencher| {
            bencher.iter(|| black_box(&answer).encode_to_vec());
        });
    }
    group.finish();
}

pub(crate) fn all(criterion: &mut Criterion) {
    hub(criterion);
    encoding(criterion);
}

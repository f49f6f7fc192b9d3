//! What the log and the state on disk cost: appends with their sync, writes, reads, snapshots.
//!
//! Owns: the benches of the disk crate. Must not know: what the data means. A newcomer's trap: the
//! folder is where the machine keeps temporary files; on tmpfs a sync costs next to nothing.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use kijabi_disk::snapshot::{self, StateHome};
use kijabi_disk::vfs::RealVfs;
use kijabi_disk::wal::{LogEntry, LogId, Wal, WalOptions};
use kijabi_machine::state::{StateBatch, StateView as _, Table};

/// Bytes of an entry, about those of a small put.
const ENTRY_BYTES: usize = 300;
/// Rows in the state before anything is measured.
const ROWS: u64 = 20_000;

fn wal(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let wal = Wal::open(Arc::new(RealVfs), folder.path(), WalOptions::default()).expect("a log");
    let data = Bytes::from(vec![b'x'; ENTRY_BYTES]);
    let mut index = 0;
    let mut group = criterion.benchmark_group("log");
    for count in [1, 64, 1_024] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("append and sync", count), |bencher| {
            bencher.iter(|| {
                let entry = |_| {
                    index += 1;
                    LogEntry { id: LogId { term: 1, index }, kind: 1, data: data.clone() }
                };
                let entries = (0..count).map(entry).collect();
                let (tell, told) = mpsc::sync_channel(1);
                let durable = Box::new(move |result| tell.send(result).expect("it is awaited"));
                let _writes = wal.append(entries, durable).expect("the log is open");
                told.recv().expect("it is called").expect("the disk takes it");
            });
            // The log would otherwise grow for as long as the bench runs.
            wal.purge(LogId { term: 1, index }).expect("the log is open");
        });
    }
    group.finish();
    wal.close();
}

fn row(at: u64) -> Vec<u8> {
    at.to_be_bytes().to_vec()
}

fn state(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (home, state) = StateHome::open(folder.path()).expect("an empty state");
    let value = Bytes::from(vec![b'x'; ENTRY_BYTES]);
    let mut batch = StateBatch::default();
    for at in 0..ROWS {
        batch.put(Table::Key, row(at), value.clone());
    }
    state.write(&batch).expect("the disk takes it");
    state.flush().expect("the disk takes it");
    let mut group = criterion.benchmark_group("state");
    let mut next = ROWS;
    group.throughput(Throughput::Elements(64));
    group.bench_function("write 64 rows", |bencher| {
        bencher.iter(|| {
            let mut batch = StateBatch::default();
            for _ in 0..64 {
                next += 1;
                batch.put(Table::Key, row(next), value.clone());
            }
            state.write(&batch).expect("the disk takes it");
        });
    });
    group.throughput(Throughput::Elements(1));
    let mut at = 0;
    group.bench_function("read a row", |bencher| {
        bencher.iter(|| {
            at = (at + 7_919) % ROWS;
            black_box(state.get(Table::Key, &row(at)).expect("the disk can be read"))
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("snapshot");
    group.sample_size(10);
    group.bench_function("checkpoint", |bencher| {
        bencher.iter(|| home.checkpoint(&state, "bench").expect("the disk takes it"));
    });
    let checkpoint = home.checkpoint(&state, "sent").expect("the disk takes it");
    let frozen = checkpoint.open().expect("it was just made");
    let mut bytes = 0;
    let mut send = || {
        bytes = 0;
        let sink = &mut |chunk: Bytes| {
            bytes += chunk.len() as u64;
            ControlFlow::Continue(())
        };
        snapshot::send(&frozen, sink).expect("the disk can be read");
    };
    send();
    group.bench_function("stream", |bencher| bencher.iter(&mut send));
    group.finish();
}

pub(crate) fn all(criterion: &mut Criterion) {
    wal(criterion);
    state(criterion);
}

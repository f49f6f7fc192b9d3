//! What the key space went through: reads, writes, watches, compactions, hashes.
//!
//! Owns: `etcd_mvcc_*` and `etcd_debugging_mvcc_*`. Must not know: how any of it is done. A
//! newcomer's trap: etcd counts a transaction of one operation as that operation only.

use std::time::Duration;

use kijabi_machine::{Applied, Machine, Outcome};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::response_op::Response;
use kijabi_proto::mvccpb::event::EventType;
use prometheus::{Histogram, HistogramVec, IntCounter, IntGauge, Registry};

use super::{counter, exponential, gauge, histogram, labelled_histogram};
use crate::watch::Tally;

/// The collectors.
#[derive(Debug)]
pub(crate) struct MvccMetrics {
    ranges: IntCounter,
    puts: IntCounter,
    deletes: IntCounter,
    txns: IntCounter,
    range_seconds: HistogramVec,
    keys: IntGauge,
    put_bytes: IntGauge,
    current_revision: IntGauge,
    compact_revision: IntGauge,
    events: IntCounter,
    watch_streams: IntGauge,
    watchers: IntGauge,
    slow_watchers: IntGauge,
    compaction_keys: IntCounter,
    compaction_pause: Histogram,
    compaction_total: Histogram,
    compaction_last: IntGauge,
    hash_seconds: Histogram,
    hash_rev_seconds: Histogram,
}

/// Operations of one request.
#[derive(Debug, Default)]
struct Ops {
    ranges: u64,
    puts: u64,
    deletes: u64,
}

// === impl MvccMetrics ===

impl MvccMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let debugging = |name: &str| format!("etcd_debugging_mvcc_{name}");
        let count = |name: &str, help: &str| counter(registry, &format!("etcd_mvcc_{name}"), help);
        let see = |name: &str, help: &str| gauge(registry, &debugging(name), help);
        let hash = exponential(0.01, 2.0, 15);
        Self {
            ranges: count("range_total", "Ranges read."),
            puts: count("put_total", "Puts applied."),
            deletes: count("delete_total", "Deletes applied."),
            txns: count("txn_total", "Transactions of more than one operation."),
            range_seconds: labelled_histogram(
                registry,
                "etcd_server_range_duration_seconds",
                "How long ranges take.",
                exponential(0.0001, 2.0, 20),
                &["success"],
            ),
            keys: see("keys_total", "Keys there are."),
            put_bytes: see("total_put_size_in_bytes", "Bytes of keys and values put."),
            current_revision: see("current_revision", "The current revision."),
            compact_revision: see("compact_revision", "The compacted revision."),
            events: counter(registry, &debugging("events_total"), "Events given to watchers."),
            watch_streams: see("watch_stream_total", "Watch streams."),
            watchers: see("watcher_total", "Watches."),
            slow_watchers: see("slow_watcher_total", "Watches that are not up to date."),
            compaction_keys: counter(
                registry,
                &debugging("db_compaction_keys_total"),
                "Rows removed by compactions.",
            ),
            compaction_pause: histogram(
                registry,
                &debugging("db_compaction_pause_duration_milliseconds"),
                "How long a step of a compaction holds up applying.",
                exponential(1.0, 2.0, 13),
            ),
            compaction_total: histogram(
                registry,
                &debugging("db_compaction_total_duration_milliseconds"),
                "How long compactions take.",
                exponential(100.0, 2.0, 14),
            ),
            compaction_last: see("db_compaction_last", "When a compaction ended last."),
            hash_seconds: histogram(
                registry,
                "etcd_mvcc_hash_duration_seconds",
                "How long it takes to hash the database.",
                hash.clone(),
            ),
            hash_rev_seconds: histogram(
                registry,
                "etcd_mvcc_hash_rev_duration_seconds",
                "How long it takes to hash the key space.",
                hash,
            ),
        }
    }

    /// An entry was applied.
    pub(crate) fn applied(&self, revision: i64, applied: &Applied) {
        self.current_revision.set(revision);
        let (mut events, mut bytes) = (0, 0);
        for event in applied.events.iter().flat_map(|revision| &revision.events) {
            events += 1;
            if let (EventType::Put, Some(kv)) = (event.r#type(), &event.kv) {
                bytes += kv.key.len() + kv.value.len();
            }
        }
        self.events.inc_by(events);
        self.put_bytes.add(bytes as i64);
        for outcome in applied.outcomes.iter().flatten() {
            match outcome {
                Outcome::Put(_) => self.puts.inc(),
                Outcome::DeleteRange(_) => self.deletes.inc(),
                Outcome::Txn(response) => self.answered(response),
                _ => {}
            }
        }
    }

    /// A transaction was answered.
    pub(crate) fn answered(&self, response: &pb::TxnResponse) {
        let mut ops = Ops::default();
        ops.add(response);
        self.ranges.inc_by(ops.ranges);
        self.puts.inc_by(ops.puts);
        self.deletes.inc_by(ops.deletes);
        if ops.ranges + ops.puts + ops.deletes > 1 {
            self.txns.inc();
        }
    }

    /// A range was read, or could not be.
    pub(crate) fn ranged(&self, took: Duration, well: bool) {
        self.ranges.inc();
        let success = if well { "true" } else { "false" };
        self.range_seconds.with_label_values(&[success]).observe(took.as_secs_f64());
    }

    /// A step of a compaction was done.
    pub(crate) fn compacted(&self, rows: usize, took: Duration) {
        self.compaction_keys.inc_by(rows as u64);
        self.compaction_pause.observe(milliseconds(took));
    }

    /// A compaction is done; it ended at `wall_ms`.
    pub(crate) fn compaction_done(&self, took: Duration, wall_ms: i64) {
        self.compaction_total.observe(milliseconds(took));
        self.compaction_last.set(wall_ms / 1000);
    }

    /// The database was hashed.
    pub(crate) fn hashed(&self, took: Duration) {
        self.hash_seconds.observe(took.as_secs_f64());
    }

    /// The key space was hashed.
    pub(crate) fn hashed_keys(&self, took: Duration) {
        self.hash_rev_seconds.observe(took.as_secs_f64());
    }

    /// What can be looked up when it is asked for.
    pub(super) fn look(&self, machine: &Machine, tally: &Tally) {
        self.current_revision.set(machine.revision());
        self.compact_revision.set(machine.compacted_revision());
        self.keys.set(machine.key_count() as i64);
        self.watch_streams.set(tally.streams());
        self.watchers.set(tally.watches());
        self.slow_watchers.set(tally.behind());
    }
}

impl Ops {
    fn add(&mut self, response: &pb::TxnResponse) {
        for op in &response.responses {
            match &op.response {
                Some(Response::ResponseRange(_)) => self.ranges += 1,
                Some(Response::ResponsePut(_)) => self.puts += 1,
                Some(Response::ResponseDeleteRange(_)) => self.deletes += 1,
                Some(Response::ResponseTxn(nested)) => self.add(nested),
                None => {}
            }
        }
    }
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

//! What the disk took: the log, the state, copies of it.
//!
//! Owns: `etcd_disk_*`. Must not know: files. A newcomer's trap: the state is written without
//! waiting for the disk (the log is durable), so a commit's time here is what readers wait for, not
//! an fsync.

use std::time::Duration;

use prometheus::{Histogram, IntGauge, Registry};

use super::{exponential, gauge, histogram};

/// The collectors.
#[derive(Debug)]
pub(crate) struct DiskMetrics {
    wal_fsync: Histogram,
    wal_written: IntGauge,
    commit: Histogram,
    defrag: Histogram,
    defrag_inflight: IntGauge,
    snapshot: Histogram,
}

// === impl DiskMetrics ===

impl DiskMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let seconds = |name: &str, help: &str, buckets| {
            histogram(registry, &format!("etcd_disk_{name}_duration_seconds"), help, buckets)
        };
        Self {
            wal_fsync: seconds(
                "wal_fsync",
                "How long it takes to make a batch of the Raft log durable.",
                exponential(0.001, 2.0, 14),
            ),
            wal_written: gauge(
                registry,
                "etcd_disk_wal_write_bytes_total",
                "Bytes written to the Raft log.",
            ),
            commit: seconds(
                "backend_commit",
                "How long it takes to write what an entry changes.",
                exponential(0.001, 2.0, 14),
            ),
            defrag: seconds(
                "backend_defrag",
                "How long it takes to give back space.",
                exponential(0.1, 2.0, 13),
            ),
            defrag_inflight: gauge(
                registry,
                "etcd_disk_defrag_inflight",
                "Whether space is being given back.",
            ),
            snapshot: seconds(
                "backend_snapshot",
                "How long it takes to send a snapshot.",
                exponential(0.01, 2.0, 17),
            ),
        }
    }

    /// The log's writer has made bytes durable.
    pub(crate) fn synced(&self, bytes: usize, took: Duration) {
        self.wal_fsync.observe(took.as_secs_f64());
        self.wal_written.add(bytes as i64);
    }

    /// Bytes written to the log.
    pub(crate) fn wal_written(&self) -> u64 {
        self.wal_written.get() as u64
    }

    /// An entry's changes were written.
    pub(crate) fn committed(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }

    /// Space is being given back.
    pub(crate) fn defragmenting(&self) {
        self.defrag_inflight.inc();
    }

    /// It has been.
    pub(crate) fn defragmented(&self, took: Duration) {
        self.defrag_inflight.dec();
        self.defrag.observe(took.as_secs_f64());
    }

    /// A snapshot was sent.
    pub(crate) fn snapshot_sent(&self, took: Duration) {
        self.snapshot.observe(took.as_secs_f64());
    }
}

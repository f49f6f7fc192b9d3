//! What `/metrics` shows, under etcd's names, with real values only.
//!
//! Owns: the collectors of one member. Must not know: HTTP. A newcomer's trap: each member has a
//! registry of its own, because tests and `kijabi up` run several members in one process.

pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod rpc;

use std::time::Duration;

use kijabi_machine::{Applied, Outcome};
use kijabi_proto::etcdserverpb as pb;
use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::store::Standing;
use peers::PeerMetrics;
use process::ProcessMetrics;
use rpc::{Rpc, RpcMetrics};

/// The collectors of one member.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) rpc: RpcMetrics,
    pub(crate) proposals_pending: IntGauge,
    pub(crate) proposals_failed: IntCounter,
    pub(crate) read_indexes_failed: IntCounter,
    pub(crate) health_success: IntCounter,
    pub(crate) health_failures: IntCounter,
    proposals_applied: IntGauge,
    proposals_committed: IntGauge,
    has_leader: IntGauge,
    is_leader: IntGauge,
    is_learner: IntGauge,
    leader_changes: IntCounter,
    wal_fsync_seconds: Histogram,
    pub(crate) wal_write_bytes: IntCounter,
    db_total_bytes: IntGauge,
    db_in_use_bytes: IntGauge,
    quota_bytes: IntGauge,
    puts: IntCounter,
    deletes: IntCounter,
    txns: IntCounter,
    current_revision: IntGauge,
    events: IntCounter,
    /// What goes between members.
    pub(crate) peers: PeerMetrics,
    invariant_violations: IntGauge,
    process: ProcessMetrics,
    healthcheck: IntGaugeVec,
    healthchecks: IntCounterVec,
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: Result<C, prometheus::Error>,
) -> C {
    let collector = collector.expect("the name is a valid one");
    registry.register(Box::new(collector.clone())).expect("each name is registered once");
    collector
}

// === impl Metrics ===

impl Metrics {
    /// Of a member that serves no RPC.
    #[cfg(test)]
    pub(crate) fn new(member_id: u64, version: &str, quota_bytes: u64) -> Self {
        Self::of(member_id, version, quota_bytes, &[], false)
    }

    /// Of a member that serves `rpcs`; with `extensive`, their latencies are measured.
    pub(crate) fn of(
        member_id: u64,
        version: &str,
        quota_bytes: u64,
        rpcs: &[Rpc],
        extensive: bool,
    ) -> Self {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        let labelled = |name: &str, help: &str, label: &str, value: &str| {
            let vector = IntGaugeVec::new(Opts::new(name, help), &[label]);
            register(&registry, vector).with_label_values(&[value]).set(1);
        };
        labelled(
            "etcd_server_version",
            "The version reported to clients.",
            "server_version",
            version,
        );
        let id = format!("{member_id:x}");
        labelled("etcd_server_id", "This member's id in hexadecimal.", "server_id", &id);
        let fsync = HistogramOpts::new(
            "etcd_disk_wal_fsync_duration_seconds",
            "How long it takes to make a batch of the Raft log durable.",
        )
        .buckets(prometheus::exponential_buckets(0.001, 2.0, 14).expect("they grow"));
        let metrics = Self {
            proposals_pending: gauge("etcd_server_proposals_pending", "Proposals that wait."),
            proposals_failed: counter(
                "etcd_server_proposals_failed_total",
                "Proposals refused by Raft.",
            ),
            read_indexes_failed: counter(
                "etcd_server_read_indexes_failed_total",
                "Read barriers that failed.",
            ),
            health_success: counter("etcd_server_health_success", "Health checks that succeeded."),
            health_failures: counter("etcd_server_health_failures", "Health checks that failed."),
            proposals_applied: gauge(
                "etcd_server_proposals_applied_total",
                "The last applied log index.",
            ),
            proposals_committed: gauge(
                "etcd_server_proposals_committed_total",
                "The last committed log index.",
            ),
            has_leader: gauge("etcd_server_has_leader", "Whether a leader is known."),
            is_leader: gauge("etcd_server_is_leader", "Whether this member leads."),
            is_learner: gauge("etcd_server_is_learner", "Whether this member only learns."),
            leader_changes: counter("etcd_server_leader_changes_seen_total", "Changes of leader."),
            wal_fsync_seconds: register(&registry, Histogram::with_opts(fsync)),
            wal_write_bytes: counter(
                "etcd_disk_wal_write_bytes_total",
                "Bytes written to the Raft log.",
            ),
            db_total_bytes: gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes the database takes."),
            db_in_use_bytes: gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of it that live data takes.",
            ),
            quota_bytes: gauge("etcd_server_quota_backend_bytes", "Bytes the database may take."),
            puts: counter("etcd_mvcc_put_total", "Puts applied."),
            deletes: counter("etcd_mvcc_delete_total", "Deletes applied."),
            txns: counter("etcd_mvcc_txn_total", "Transactions applied."),
            current_revision: gauge(
                "etcd_debugging_mvcc_current_revision",
                "The current revision.",
            ),
            events: counter("etcd_debugging_mvcc_events_total", "Events published to watchers."),
            peers: PeerMetrics::new(&registry),
            invariant_violations: gauge("invariant_violations_total", "Invariants found broken."),
            process: ProcessMetrics::new(&registry),
            healthcheck: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("etcd_server_healthcheck", "The last result of each health check."),
                    &["type", "name"],
                ),
            ),
            healthchecks: register(
                &registry,
                IntCounterVec::new(
                    Opts::new("etcd_server_healthchecks_total", "Health checks by result."),
                    &["type", "name", "status"],
                ),
            ),
            rpc: RpcMetrics::new(&registry, rpcs, extensive),
            registry,
        };
        metrics.quota_bytes.set(quota_bytes as i64);
        metrics
    }

    /// The log's writer has synced `bytes`.
    pub(crate) fn synced(&self, bytes: usize, took: Duration) {
        self.wal_fsync_seconds.observe(took.as_secs_f64());
        self.wal_write_bytes.inc_by(bytes as u64);
    }

    /// An entry was applied.
    pub(crate) fn applied(&self, revision: i64, applied: &Applied) {
        self.current_revision.set(revision);
        let events: usize = applied.events.iter().map(|revision| revision.events.len()).sum();
        self.events.inc_by(events as u64);
        for outcome in applied.outcomes.iter().flatten() {
            match outcome {
                Outcome::Put(_) => self.puts.inc(),
                Outcome::DeleteRange(_) => self.deletes.inc(),
                Outcome::Txn(response) => {
                    self.txns.inc();
                    self.count_ops(response);
                }
                _ => {}
            }
        }
    }

    fn count_ops(&self, response: &pb::TxnResponse) {
        use pb::response_op::Response;
        for op in &response.responses {
            match &op.response {
                Some(Response::ResponsePut(_)) => self.puts.inc(),
                Some(Response::ResponseDeleteRange(_)) => self.deletes.inc(),
                Some(Response::ResponseTxn(nested)) => self.count_ops(nested),
                Some(Response::ResponseRange(_)) | None => {}
            }
        }
    }

    /// What is known of the cluster has changed.
    pub(crate) fn standing(&self, before: Standing, now: Standing, member_id: u64) {
        self.has_leader.set(i64::from(now.leader != 0));
        self.is_leader.set(i64::from(now.leader == member_id));
        self.is_learner.set(i64::from(now.is_learner));
        self.proposals_applied.set(now.applied_index as i64);
        self.proposals_committed.set(now.committed_index as i64);
        if now.leader != 0 && before.leader != now.leader {
            self.leader_changes.inc();
        }
    }

    /// The database was measured.
    pub(crate) fn database_size(&self, total: u64, in_use: u64) {
        self.db_total_bytes.set(total as i64);
        self.db_in_use_bytes.set(in_use as i64);
    }

    /// A health check has been run.
    pub(crate) fn health_checked(&self, kind: &str, name: &str, well: bool) {
        self.healthcheck.with_label_values(&[kind, name]).set(i64::from(well));
        let status = if well { "success" } else { "error" };
        self.healthchecks.with_label_values(&[kind, name, status]).inc();
    }

    /// Everything as Prometheus text.
    pub(crate) fn render(&self) -> Vec<u8> {
        self.invariant_violations.set(kijabi_base::invariant::violations() as i64);
        self.process.refresh();
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        text
    }
}

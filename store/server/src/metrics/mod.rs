//! What `/metrics` shows, under etcd's names, with real values only.
//!
//! Owns: the collectors of one member. Must not know: HTTP. A newcomer's trap: each member has a
//! registry of its own, because tests and `kijabi up` run several members in one process.

pub(crate) mod disk;
pub(crate) mod lease;
pub(crate) mod mvcc;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod rpc;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kijabi_machine::{Applied, Machine};
use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::config::Config;
use crate::store::Standing;
use crate::watch::Tally;
use disk::DiskMetrics;
use lease::LeaseMetrics;
use mvcc::MvccMetrics;
use peers::PeerMetrics;
use process::ProcessMetrics;
use rpc::{Rpc, RpcMetrics};

// Differs from etcd: what nothing here does has no metric, and a slow apply is a slow log entry.
/// The collectors of one member.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) rpc: RpcMetrics,
    pub(crate) disk: DiskMetrics,
    pub(crate) mvcc: MvccMetrics,
    pub(crate) lease: LeaseMetrics,
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
    db_total_bytes: IntGauge,
    db_in_use_bytes: IntGauge,
    quota_bytes: IntGauge,
    /// What goes between members.
    pub(crate) peers: PeerMetrics,
    cluster_version: IntGaugeVec,
    auth_revision: IntGauge,
    slow_applies: IntCounter,
    slow_apply: Duration,
    pub(crate) slow_read_indexes: IntCounter,
    pub(crate) snapshots_in_progress: IntGauge,
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

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
}

fn labelled_histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: Vec<f64>,
    labels: &[&str],
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets);
    register(registry, HistogramVec::new(options, labels))
}

fn exponential(start: f64, factor: f64, count: usize) -> Vec<f64> {
    prometheus::exponential_buckets(start, factor, count).expect("they grow")
}

/// Which features are on: 1, and which are not: 0.
fn show_gates(registry: &Registry, config: &Config) {
    let options = Opts::new("etcd_server_feature_enabled", "Whether a feature is on.");
    let gates = register(registry, IntGaugeVec::new(options, &["name", "stage"]));
    for (name, stage, on) in config.feature_gates.stages() {
        gates.with_label_values(&[name, stage]).set(i64::from(on));
    }
}

// === impl Metrics ===

impl Metrics {
    /// Of a member that serves no RPC.
    #[cfg(test)]
    pub(crate) fn new(member_id: u64, version: &str, quota_bytes: u64) -> Self {
        Self::of(member_id, version, &Config { quota_bytes, ..Config::default() }, &[])
    }

    /// Of a member that serves `rpcs`.
    pub(crate) fn of(member_id: u64, version: &str, config: &Config, rpcs: &[Rpc]) -> Self {
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
        show_gates(&registry, config);
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
            db_total_bytes: gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes the database takes."),
            db_in_use_bytes: gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of it that live data takes.",
            ),
            quota_bytes: gauge("etcd_server_quota_backend_bytes", "Bytes the database may take."),
            cluster_version: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("etcd_cluster_version", "The version the cluster runs."),
                    &["cluster_version"],
                ),
            ),
            peers: PeerMetrics::new(&registry, member_id),
            auth_revision: gauge(
                "etcd_debugging_auth_revision",
                "The revision of users and roles.",
            ),
            slow_applies: counter(
                "etcd_server_slow_apply_total",
                "Entries that took longer to apply than --warning-apply-duration.",
            ),
            slow_read_indexes: counter(
                "etcd_server_slow_read_indexes_total",
                "Read barriers that ran out of time.",
            ),
            snapshots_in_progress: gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "Whether a snapshot is being installed.",
            ),
            slow_apply: config.warning_apply,
            disk: DiskMetrics::new(&registry),
            mvcc: MvccMetrics::new(&registry),
            lease: LeaseMetrics::new(&registry),
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
            rpc: RpcMetrics::new(&registry, rpcs, config.extensive_metrics),
            registry,
        };
        metrics.quota_bytes.set(config.quota_bytes as i64);
        metrics
    }

    /// The log's writer has synced `bytes`.
    pub(crate) fn synced(&self, bytes: usize, took: Duration) {
        self.disk.synced(bytes, took);
    }

    /// An entry was applied.
    pub(crate) fn applied(&self, revision: i64, applied: &Applied) {
        self.mvcc.applied(revision, applied);
        self.lease.applied(applied);
    }

    /// An entry took this long to apply.
    pub(crate) fn apply_took(&self, index: u64, took: Duration) {
        if took > self.slow_apply {
            self.slow_applies.inc();
            tracing::warn!(index, ?took, expected = ?self.slow_apply, "apply entry took too long");
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

    /// What can be looked up when it is asked for.
    pub(crate) fn look(&self, machine: &Machine, tally: &Tally) {
        self.mvcc.look(machine, tally);
        self.peers.know(machine);
        self.auth_revision.set(machine.auth().revision() as i64);
        self.cluster_version.reset();
        // Without the patch, as etcd has it here.
        let version = machine.cluster_version();
        let version = format!("{}.{}", version.major, version.minor);
        self.cluster_version.with_label_values(&[&version]).set(1);
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

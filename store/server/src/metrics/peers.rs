//! What goes between members, under etcd's names.
//!
//! Owns: these collectors. Must not know: the messages. A newcomer's trap: the label is the other
//! member's id in hexadecimal, as etcd's dashboards expect it.

use std::time::Duration;

use kijabi_machine::Machine;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::register;

/// The collectors.
#[derive(Debug)]
pub(crate) struct PeerMetrics {
    local: String,
    known: IntGaugeVec,
    active: IntGaugeVec,
    disconnected: IntCounterVec,
    promoted: IntCounter,
    promotions_failed: IntCounterVec,
    heartbeat_failures: IntCounter,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    failures: IntCounterVec,
    round_trip_seconds: HistogramVec,
    snapshots_sent: IntCounterVec,
    snapshots_failed: IntCounterVec,
    snapshot_send_seconds: HistogramVec,
}

fn hexadecimal(id: u64) -> String {
    format!("{id:x}")
}

// === impl PeerMetrics ===

impl PeerMetrics {
    pub(super) fn new(registry: &Registry, member_id: u64) -> Self {
        let counters = |name: &str, help: &str, label: &str| {
            register(registry, IntCounterVec::new(Opts::new(name, help), &[label]))
        };
        let to = |name: &str, help: &str| counters(name, help, "To");
        let seconds = |name: &str, help: &str, first: f64| {
            let buckets = prometheus::exponential_buckets(first, 2.0, 15).expect("they grow");
            let options = HistogramOpts::new(name, help).buckets(buckets);
            register(registry, HistogramVec::new(options, &["To"]))
        };
        let heartbeats = IntCounter::new(
            "etcd_server_heartbeat_send_failures_total",
            "Heartbeats that were not answered in time.",
        );
        let ends = ["Local", "Remote"];
        let gauges = |name: &str, help: &str| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), &ends))
        };
        let disconnected = Opts::new(
            "etcd_network_disconnected_peers_total",
            "How often the last connection to a member was lost.",
        );
        Self {
            local: hexadecimal(member_id),
            known: gauges(
                "etcd_network_known_peers",
                "Members, and 0 for those that were removed.",
            ),
            active: gauges(
                "etcd_network_active_peers",
                "Whether there are connections to a member.",
            ),
            disconnected: register(registry, IntCounterVec::new(disconnected, &ends)),
            promoted: register(
                registry,
                IntCounter::new(
                    "etcd_server_learner_promote_successes",
                    "Learners that this member made voters as the leader.",
                ),
            ),
            promotions_failed: counters(
                "etcd_server_learner_promote_failures",
                "Learners that this member refused to make voters.",
                "Reason",
            ),
            heartbeat_failures: register(registry, heartbeats),
            sent_bytes: to(
                "etcd_network_peer_sent_bytes_total",
                "Bytes of entries sent to a member.",
            ),
            received_bytes: counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes of entries received from a member.",
                "From",
            ),
            failures: to(
                "etcd_network_peer_sent_failures_total",
                "Requests to a member that failed.",
            ),
            round_trip_seconds: seconds(
                "etcd_network_peer_round_trip_time_seconds",
                "How long a member takes to answer a heartbeat.",
                0.0001,
            ),
            snapshots_sent: to(
                "etcd_network_snapshot_send_success",
                "Snapshots a member has taken.",
            ),
            snapshots_failed: to(
                "etcd_network_snapshot_send_failures",
                "Snapshots a member has not taken.",
            ),
            snapshot_send_seconds: seconds(
                "etcd_network_snapshot_send_total_duration_seconds",
                "How long it took until a member had a snapshot installed.",
                0.1,
            ),
        }
    }

    /// The first connection to a member was made, or the last one is gone.
    pub(crate) fn active(&self, to: u64, active: bool) {
        let to = hexadecimal(to);
        self.active.with_label_values(&[&self.local, &to]).set(i64::from(active));
        if !active {
            self.disconnected.with_label_values(&[&self.local, &to]).inc();
        }
    }

    /// The members, and those that were.
    pub(super) fn know(&self, machine: &Machine) {
        let set = |id: u64, known: i64| {
            self.known.with_label_values(&[&self.local, &hexadecimal(id)]).set(known);
        };
        machine.members_removed().into_iter().for_each(|id| set(id, 0));
        machine.members().iter().for_each(|member| set(member.id, 1));
    }

    /// A learner was made a voter, or was refused.
    pub(crate) fn promoted(&self, result: Result<(), &'static str>) {
        match result {
            Ok(()) => self.promoted.inc(),
            Err(reason) => self.promotions_failed.with_label_values(&[reason]).inc(),
        }
    }

    /// Entries are on their way to a member.
    pub(crate) fn sent(&self, to: u64, bytes: usize) {
        self.sent_bytes.with_label_values(&[&hexadecimal(to)]).inc_by(bytes as u64);
    }

    /// Entries have come from a member.
    pub(crate) fn received(&self, from: u64, bytes: usize) {
        self.received_bytes.with_label_values(&[&hexadecimal(from)]).inc_by(bytes as u64);
    }

    /// A request to a member failed.
    pub(crate) fn failed(&self, to: u64) {
        self.failures.with_label_values(&[&hexadecimal(to)]).inc();
    }

    /// A heartbeat was not answered in time.
    pub(crate) fn heartbeat_failed(&self) {
        self.heartbeat_failures.inc();
    }

    /// A member has answered a heartbeat.
    pub(crate) fn round_trip(&self, to: u64, took: Duration) {
        let seconds = took.as_secs_f64();
        self.round_trip_seconds.with_label_values(&[&hexadecimal(to)]).observe(seconds);
    }

    /// A snapshot was sent, or was tried to be.
    pub(crate) fn snapshot_sent(&self, to: u64, took: Duration, taken: bool) {
        let to = hexadecimal(to);
        if taken {
            self.snapshots_sent.with_label_values(&[&to]).inc();
            self.snapshot_send_seconds.with_label_values(&[&to]).observe(took.as_secs_f64());
        } else {
            self.snapshots_failed.with_label_values(&[&to]).inc();
        }
    }
}

//! What goes between members, under etcd's names.
//!
//! Owns: these collectors. Must not know: the messages. A newcomer's trap: the label is the other
//! member's id in hexadecimal, as etcd's dashboards expect it.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

use super::register;

/// The collectors.
#[derive(Debug)]
pub(crate) struct PeerMetrics {
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
    pub(super) fn new(registry: &Registry) -> Self {
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
        Self {
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

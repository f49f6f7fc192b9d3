//! Flags of earlier versions that etcd 3.6 still takes.
//!
//! Owns: which flag or feature gate took their place. A newcomer's trap: an old flag and its
//! successor may not both be given.

use crate::config::gates;
use crate::config::table::{Kind, find};

/// What became of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Old {
    /// It has a new name.
    Renamed(&'static str),
    /// It is a feature gate.
    Gate(&'static str),
    /// It means nothing any more.
    Ignored,
}

/// Old names of flags.
pub(in crate::config) const OLD: &[(&str, &str)] = &[
    ("experimental-compact-hash-check-time", "compact-hash-check-time"),
    ("experimental-corrupt-check-time", "corrupt-check-time"),
    ("experimental-compaction-batch-limit", "compaction-batch-limit"),
    ("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
    ("experimental-warning-apply-duration", "warning-apply-duration"),
    ("experimental-warning-unary-request-duration", "warning-unary-request-duration"),
    ("experimental-bootstrap-defrag-threshold-megabytes", "bootstrap-defrag-threshold-megabytes"),
    ("experimental-memory-mlock", "memory-mlock"),
    ("experimental-snapshot-catchup-entries", "snapshot-catchup-entries"),
    // etcd knows this one in files only, by a slip.
    ("experimental-snapshot-catch-up-entries", "snapshot-catchup-entries"),
    ("experimental-compaction-sleep-interval", "compaction-sleep-interval"),
    ("experimental-downgrade-check-time", "downgrade-check-time"),
    ("experimental-peer-skip-client-san-verification", "peer-skip-client-san-verification"),
    ("experimental-enable-distributed-tracing", "enable-distributed-tracing"),
    ("experimental-distributed-tracing-address", "distributed-tracing-address"),
    ("experimental-distributed-tracing-service-name", "distributed-tracing-service-name"),
    ("experimental-distributed-tracing-instance-id", "distributed-tracing-instance-id"),
    ("experimental-distributed-tracing-sampling-rate", "distributed-tracing-sampling-rate"),
    ("experimental-max-learners", "max-learners"),
];

/// Flags that etcd has ignored for years; each may stand alone.
const IGNORED: &[&str] = &[
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
];

/// What became of the flag of that name, and what its values look like.
pub(in crate::config) fn old(name: &str) -> Option<(Old, Kind)> {
    if let Some((_, new)) = OLD.iter().find(|(old, _)| *old == name) {
        let kind = find(new).map_or(Kind::Text, |flag| flag.kind);
        return Some((Old::Renamed(new), kind));
    }
    if let Some((_, gate)) = gates::OLD_FLAGS.iter().find(|(old, _)| *old == name) {
        return Some((Old::Gate(gate), Kind::Bool));
    }
    IGNORED.contains(&name).then_some((Old::Ignored, Kind::Bool))
}

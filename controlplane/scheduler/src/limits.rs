//! Every bound of the scheduler by name.

use std::time::Duration;

/// First wait of a pod that could not be placed (kube-scheduler's `podInitialBackoffSeconds`).
pub const POD_BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest such wait (`podMaxBackoffSeconds`).
pub const POD_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod waits no longer than so for an event that might make it schedulable.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(5 * 60);
/// Bind requests in flight at a time.
pub const BINDS_IN_FLIGHT_MAX: usize = 64;
/// Status requests of pods that could not be placed, in flight at a time.
pub const STATUS_WRITES_IN_FLIGHT_MAX: usize = 16;
/// In clusters up to so many nodes all of them are looked at.
pub const NODES_TO_FIND_MIN: usize = 100;
/// Counters of pods by label selector kept up to date for topology spreading.
pub const COUNTERS_MAX: usize = 256;

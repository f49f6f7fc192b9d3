//! Every bound of the controllers by name.

use std::time::Duration;

/// Keys a controller works on at a time (kube-controller-manager's `--concurrent-*-syncs`).
pub(crate) const WORKERS: usize = 5;
/// Pods one ReplicaSet creates or deletes in one pass.
pub(crate) const BURST_REPLICAS: usize = 500;
/// The first batch of creations; each successful one doubles the next.
pub(crate) const SLOW_START: usize = 1;
/// Requests of one pass in flight at a time.
pub(crate) const REQUESTS_IN_FLIGHT: usize = 32;
/// How long a controller waits to see what it created or deleted before it looks again.
pub(crate) const EXPECTATION: Duration = Duration::from_secs(5 * 60);

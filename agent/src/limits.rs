//! Every bound of the agent by name. Must not know how a bound is enforced.
//!
//! Where a number is Kubernetes' own, the comment says so; changing it changes behaviour users see.

use std::time::Duration;

/// Pods a node takes (the kubelet's `maxPods`).
pub const PODS_MAX: u32 = 110;
/// How often the runtime is listed for changes (the kubelet's PLEG period).
pub const RELIST_EVERY: Duration = Duration::from_secs(1);
/// How often a worker looks at its pod although nothing seems to have changed (kubelet: 1 min).
pub const RESYNC_EVERY: Duration = Duration::from_secs(60);
/// First wait before a crashed container is started again (the kubelet's).
pub const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait before a crashed container is started again (the kubelet's).
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A container that ran this long starts over at [`BACKOFF_FIRST`] (the kubelet's).
pub const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(600);
/// How often the node's status is computed (the kubelet's `nodeStatusUpdateFrequency`).
pub const NODE_STATUS_EVERY: Duration = Duration::from_secs(10);
/// How often it is reported although it did not change (the kubelet's).
pub const NODE_REPORT_EVERY: Duration = Duration::from_secs(300);
/// Lifetime of the node's Lease (the kubelet's); renewed every quarter of it.
pub const LEASE_SECONDS: i32 = 40;
/// Events waiting to be sent; more are dropped, as the kubelet drops them.
pub const EVENT_QUEUE_MAX: usize = 1_000;
/// Recent events remembered so that a repeat is counted instead of created.
pub const EVENT_MEMORY_MAX: usize = 4_096;
/// Image pulls at one time on a node.
pub const PULLS_MAX: usize = 4;
/// Log rotation: largest size of the current file (the kubelet's `containerLogMaxSize`).
pub const LOG_BYTES_MAX: u64 = 10 << 20;
/// Log rotation: files kept (the kubelet's `containerLogMaxFiles`).
pub const LOG_FILES_MAX: usize = 5;
/// Termination message: bytes kept (Kubernetes').
pub const TERMINATION_MESSAGE_BYTES: usize = 4_096;
/// Termination message taken from the log: bytes and lines kept (Kubernetes').
pub const TERMINATION_LOG_BYTES: usize = 2_048;
/// See [`TERMINATION_LOG_BYTES`].
pub const TERMINATION_LOG_LINES: usize = 80;
/// Longest line of a log file that is read in one piece (containerd writes 16 KiB pieces).
pub const LOG_LINE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a probe's HTTP answer that are read (the kubelet's).
pub const PROBE_BODY_BYTES: usize = 10 * 1024;
/// Payload of one configMap, secret or projected volume (Kubernetes' object limit).
pub const VOLUME_PAYLOAD_BYTES: usize = 3 << 20;
/// Connections the node server holds at one time.
pub const SERVER_CONNECTIONS_MAX: usize = 256;
/// Time for a client of the node server to finish its TLS handshake.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Time for a client of the node server to send a request's headers.
pub const HEADER_MAX: Duration = Duration::from_secs(30);
/// Parts of a subPath.
pub const SUB_PATH_PARTS_MAX: usize = 64;
/// Time for containerd to answer on its socket after a start.
pub const CONTAINERD_START_MAX: Duration = Duration::from_secs(30);
/// Time for one call to the runtime that does not wait for a container.
pub const RUNTIME_CALL_MAX: Duration = Duration::from_secs(120);
/// Time for one image pull.
pub const PULL_MAX: Duration = Duration::from_secs(900);

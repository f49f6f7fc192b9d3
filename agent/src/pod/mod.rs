//! The pods of one node: one worker a pod, and who tells them that something changed.
//!
//! Owns: the workers, the relist of the runtime, the removal of what no pod needs any more. Must
//! not know: how a pod is brought forward ([`plan`]) or reported ([`status`]). A newcomer's trap: a
//! pod is known by its uid. A deleted and re-created pod of the same name is another one, and both
//! may have a worker at the same time.

mod admit;
pub mod backoff;
mod dispatch;
pub mod env;
mod execute;
pub(crate) mod fields;
mod files;
mod grpc;
mod hooks;
mod http;
mod image;
mod known;
pub mod plan;
mod probe;
mod report;
mod resources;
mod spec;
pub mod status;
mod terminate;
mod worker;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Container as Wanted;

use self::backoff::{Backoff, Millis};
pub use self::dispatch::run;
pub use self::known::Known;
use crate::api::ObjectSource;
use crate::events::Recorder;
use crate::runtime::Runtime;
use crate::volume::Volumes;

/// Why a container waits, as its status shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// A container that could not be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// When to try again.
    pub retry_at: Millis,
    /// What its status shows until then.
    pub held: Waiting,
}

/// What a container's probes have found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeState {
    /// The startup probe has succeeded.
    pub started: bool,
    /// The readiness probe succeeds.
    pub ready: bool,
    /// The startup probe has failed for good.
    pub startup_failed: bool,
    /// The liveness probe has failed for good.
    pub liveness_failed: bool,
}

/// What a worker remembers of its pod beside what the API and the runtime know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Restart back-offs, by container name.
    pub restarts: BTreeMap<String, Backoff>,
    /// Containers that could not be started, by name.
    pub failures: BTreeMap<String, Failure>,
    /// Pull back-offs, by image.
    pub pulls: BTreeMap<String, Backoff>,
    /// When to try for a sandbox again.
    pub sandbox_retry_at: Millis,
    /// Probes' findings, by container id.
    pub probes: BTreeMap<String, ProbeState>,
}

impl Local {
    /// Whether this run of a container counts as started.
    pub fn is_started(&self, wanted: &Wanted, id: &str) -> bool {
        wanted.startup_probe.is_none() || self.probes.get(id).is_some_and(|it| it.started)
    }

    /// Whether this run of a container is ready to serve.
    pub fn is_ready(&self, wanted: &Wanted, id: &str) -> bool {
        let ready = wanted.readiness_probe.is_none()
            || self.probes.get(id).is_some_and(|probes| probes.ready);
        ready && self.is_started(wanted, id)
    }
}

/// What of the node its pods' workers need.
#[derive(Clone, Debug)]
pub struct NodeContext {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// The runtime's name, for container ids (`containerd://…`).
    pub runtime_name: String,
    /// Most pods.
    pub pods_max: u32,
    /// CPU in thousandths and bytes of memory, for resourceFieldRef without a limit.
    pub allocatable: (i64, i64),
    /// DNS servers of the cluster.
    pub cluster_dns: Vec<IpAddr>,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// The cgroup above all pods.
    pub cgroup: String,
}

/// What all workers of a node share.
pub struct Shared {
    /// The API.
    pub source: Arc<dyn ObjectSource>,
    /// The runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Where events go.
    pub events: Recorder,
    /// The node.
    pub node: NodeContext,
    /// Pods' files; none on a simulated node.
    pub volumes: Option<Volumes>,
    /// How many images may be pulled at once.
    pub pulls: tokio::sync::Semaphore,
    /// The pods as the node server shows them.
    pub known: Known,
}

/// Why something could not be done for a pod. Shown to the user as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PodError {
    /// One word for the status, such as `CreateContainerConfigError`.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl PodError {
    /// An error with its word.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

//! A node as the scheduler sees it: what it has, what is taken, and the pods on it.
//!
//! Owns: the sums over a node's pods. Must not know: other nodes. A newcomer's trap: a node may be
//! here without its Node object, when a pod names a node not yet seen; then `present` is false.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as ApiNode, Taint};

use crate::pod::{HostPort, PodInfo};
use crate::resources::Resources;
use crate::selector::Labels;

/// The label that names a node's zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The label that names a node.
pub const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

/// One node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether the Node object is known.
    pub present: bool,
    /// Its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// What pods may use of it.
    pub allocatable: Resources,
    /// What its pods asked for.
    pub requested: Resources,
    /// What its pods count for in scores.
    pub scored: Resources,
    /// Ports taken on it.
    pub ports: Vec<HostPort>,
    /// Its pods by uid.
    pub pods: BTreeMap<String, Arc<PodInfo>>,
    /// How many of its pods keep others away from themselves.
    pub anti_affine_pods: usize,
    /// How many of its pods say anything about being near others or not.
    pub affine_pods: usize,
}

// === impl Node ===

impl Node {
    /// A node known only by name.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Takes over what the Node object says. True if that can matter to a pod.
    pub fn update(&mut self, node: &ApiNode) -> bool {
        let spec = node.spec.clone().unwrap_or_default();
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let allocatable = Resources::from_amounts(allocatable);
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        let unschedulable = spec.unschedulable.unwrap_or(false);
        let changed = !self.present
            || self.allocatable != allocatable
            || self.labels != labels
            || self.taints != taints
            || self.unschedulable != unschedulable;
        self.present = true;
        self.allocatable = allocatable;
        self.labels = labels;
        self.taints = taints;
        self.unschedulable = unschedulable;
        changed
    }

    /// Puts a pod on the node.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.scored.add(&pod.scored);
        self.ports.extend(pod.host_ports.iter().cloned());
        self.anti_affine_pods += usize::from(pod.pod_affinity.has_required_anti());
        self.affine_pods += usize::from(pod.pod_affinity.has_any());
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Takes a pod off the node.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested.subtract(&pod.requests);
        self.scored.subtract(&pod.scored);
        self.anti_affine_pods -= usize::from(pod.pod_affinity.has_required_anti());
        self.affine_pods -= usize::from(pod.pod_affinity.has_any());
        for port in &pod.host_ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }

    /// The node's zone, if it has one.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(ZONE_LABEL).map(String::as_str)
    }

    /// Whether nothing keeps it here.
    pub fn is_forgettable(&self) -> bool {
        !self.present && self.pods.is_empty()
    }
}

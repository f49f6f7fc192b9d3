//! The plugins, one file each, and the order in which they are asked.
//!
//! Owns: the default profile. Must not know: queues and binding. A newcomer's trap: the first filter
//! that refuses a node gives the reason users see, so the order is part of the behaviour.

pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod taint_toleration;

use crate::framework::{PrepareFilter, PrepareScore};

/// The filters of kube-scheduler's default profile, in its order.
///
/// Differs from Kubernetes: the plugins for volumes, for dynamic resources and for image locality
/// are not there yet; a pod's volumes and images do not influence its placement.
pub const FILTERS: &[PrepareFilter] = &[
    node_unschedulable::prepare,
    node_name::prepare,
    taint_toleration::prepare,
    node_affinity::prepare,
    node_ports::prepare,
    node_resources_fit::prepare,
    pod_topology_spread::filter::prepare,
    inter_pod_affinity::filter::prepare,
];

/// The scores of kube-scheduler's default profile.
pub const SCORES: &[PrepareScore] = &[
    taint_toleration::prepare_score,
    node_affinity::prepare_score,
    node_resources_fit::prepare_score,
    node_resources_balanced::prepare_score,
    pod_topology_spread::score::prepare,
    inter_pod_affinity::score::prepare,
];

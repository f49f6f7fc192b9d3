//! A pod as the scheduler sees it: everything the plugins ask of it, compiled once.
//!
//! Owns: reading the API object. Must not know: nodes. A newcomer's trap: this is made when the pod
//! arrives, not when it is scheduled, so nothing here may depend on other objects.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration, TopologySpreadConstraint};
use k8s_openapi::jiff::Timestamp;
use kijabi_client::Key;
use kube::core::{Expression, Selector};

use crate::resources::{self, Resources};
use crate::selector::{Labels, NodeSelector, Term};

/// What a toleration or a taint does to pods.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// See [`NO_SCHEDULE`].
pub const NO_EXECUTE: &str = "NoExecute";
/// See [`NO_SCHEDULE`].
pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";

/// A port on the node that a pod wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The address; `0.0.0.0` stands for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

/// A preference for nodes and how much it counts.
#[derive(Clone, Debug)]
pub struct Preference {
    /// 1 to 100.
    pub weight: i64,
    /// Which nodes.
    pub term: Term,
}

/// One topology spread constraint.
#[derive(Clone, Debug)]
pub struct Spread {
    /// How uneven it may be.
    pub max_skew: i64,
    /// The node label whose values are the domains.
    pub topology_key: String,
    /// Whether an uneven placement is refused (`DoNotSchedule`) or only scored worse.
    pub hard: bool,
    /// The pods that count.
    pub selector: Selector,
    /// Fewer domains than this count as a minimum of zero.
    pub min_domains: i64,
    /// Count only nodes that the pod's affinity and node selector admit.
    pub honor_affinity: bool,
    /// Count only nodes whose taints the pod tolerates.
    pub honor_taints: bool,
}

/// A pod, compiled.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// Namespace and name.
    pub key: Key,
    /// The pod's identity.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Higher goes first.
    pub priority: i32,
    /// When it was created.
    pub created: Timestamp,
    /// What it asks for.
    pub requests: Resources,
    /// What it counts for in scores.
    pub scored: Resources,
    /// Ports it wants on the node.
    pub host_ports: Vec<HostPort>,
    /// Taints it tolerates.
    pub tolerations: Vec<Toleration>,
    /// Labels its node must have.
    pub node_labels: Labels,
    /// The node affinity it requires.
    pub required_nodes: Option<NodeSelector>,
    /// The nodes it prefers.
    pub preferred_nodes: Vec<Preference>,
    /// Its own spread constraints.
    pub spreads: Vec<Spread>,
    /// The node it asks for or is on.
    pub node_name: Option<String>,
    /// The ReplicaSet or similar that owns it: kind and name.
    pub owner: Option<(String, String)>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether something else holds it back (`schedulingGates`).
    pub gated: bool,
    /// Affinity to other pods.
    pub pod_affinity: crate::plugins::inter_pod_affinity::Terms,
}

// === impl PodInfo ===

impl PodInfo {
    /// Compiles `pod`.
    pub fn compile(pod: &Pod) -> Arc<Self> {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let meta = &pod.metadata;
        let affinity = spec.affinity.as_ref();
        let nodes = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
        let labels = meta.labels.clone().unwrap_or_default();
        Arc::new(Self {
            key: Key::of(pod),
            uid: meta.uid.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0),
            requests: resources::requests_of(pod),
            scored: resources::scored_requests_of(pod),
            host_ports: host_ports(spec),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            node_labels: spec.node_selector.clone().unwrap_or_default(),
            required_nodes: nodes
                .and_then(|nodes| {
                    nodes.required_during_scheduling_ignored_during_execution.as_ref()
                })
                .map(NodeSelector::compile),
            preferred_nodes: nodes
                .iter()
                .flat_map(|nodes| {
                    nodes.preferred_during_scheduling_ignored_during_execution.iter().flatten()
                })
                .map(|preferred| Preference {
                    weight: i64::from(preferred.weight),
                    term: Term::compile(&preferred.preference),
                })
                .collect(),
            spreads: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(|constraint| Spread::compile(constraint, &labels))
                .collect(),
            node_name: spec.node_name.clone().filter(|name| !name.is_empty()),
            owner: meta
                .owner_references
                .iter()
                .flatten()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| (owner.kind.clone(), owner.name.clone())),
            terminating: meta.deletion_timestamp.is_some(),
            gated: spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
            pod_affinity: crate::plugins::inter_pod_affinity::Terms::compile(
                affinity,
                meta.namespace.as_deref().unwrap_or_default(),
                &labels,
            ),
            labels,
        })
    }

    /// Whether the pod tolerates a taint.
    pub fn tolerates(&self, key: &str, value: &str, effect: &str) -> bool {
        self.tolerations.iter().any(|toleration| tolerates(toleration, key, value, effect))
    }

    /// Whether the node's labels and name satisfy what the pod requires of them.
    pub fn admits_node(&self, name: &str, labels: &Labels) -> bool {
        self.node_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.required_nodes.as_ref().is_none_or(|nodes| nodes.matches(name, labels))
    }
}

// === impl Spread ===

impl Spread {
    fn compile(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = compile_selector(constraint.label_selector.clone());
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.extend([Expression::Equal(key.clone(), value.clone())]);
            }
        }
        let honored = |policy: &Option<String>, default: bool| {
            policy.as_deref().map_or(default, |policy| policy == "Honor")
        };
        Self {
            max_skew: i64::from(constraint.max_skew),
            topology_key: constraint.topology_key.clone(),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            selector,
            min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
            honor_affinity: honored(&constraint.node_affinity_policy, true),
            honor_taints: honored(&constraint.node_taints_policy, false),
        }
    }
}

/// A label selector; one that is absent or malformed matches nothing.
pub fn compile_selector(
    selector: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
) -> Selector {
    let nothing = || {
        [Expression::Exists(String::new()), Expression::DoesNotExist(String::new())]
            .into_iter()
            .collect()
    };
    selector.and_then(|selector| Selector::try_from(selector).ok()).unwrap_or_else(nothing)
}

/// Whether one toleration covers a taint.
pub fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: &str) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (wanted_key, wanted_effect) = (text(&toleration.key), text(&toleration.effect));
    if !(wanted_effect.is_empty() || wanted_effect == effect) {
        return false;
    }
    if !(wanted_key.is_empty() || wanted_key == key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => text(&toleration.value) == value,
        _ => false,
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let host_port = port.host_port.filter(|port| *port > 0)?;
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty());
            Some(HostPort {
                ip: ip.unwrap_or_else(|| "0.0.0.0".to_owned()),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: host_port,
            })
        })
        .collect()
}

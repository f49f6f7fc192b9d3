//! What a plugin is, and what it may answer.
//!
//! Owns: the traits of filters and scores, the reasons of refusal and their texts. Must not know:
//! any one plugin's workings. A newcomer's trap: a plugin is made afresh for each pod by its
//! `prepare` function; one that has nothing to say about the pod returns none and costs nothing.

use std::fmt;

use crate::cluster::{Cluster, Slot};
use crate::node::Node;
use crate::pod::PodInfo;

/// The most a plugin may score a node.
pub const SCORE_MAX: i64 = 100;

/// The plugins that can refuse a node, by their Kubernetes names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plugin {
    /// Cordoned nodes.
    NodeUnschedulable,
    /// `spec.nodeName`.
    NodeName,
    /// Taints.
    TaintToleration,
    /// `spec.nodeSelector` and required node affinity.
    NodeAffinity,
    /// Ports on the node.
    NodePorts,
    /// Room.
    NodeResourcesFit,
    /// Even spreading.
    PodTopologySpread,
    /// Nearness to other pods.
    InterPodAffinity,
}

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginSet(u16);

impl PluginSet {
    /// Adds one.
    pub fn insert(&mut self, plugin: Plugin) {
        self.0 |= 1 << plugin as u16;
    }

    /// Whether it is in.
    pub fn contains(self, plugin: Plugin) -> bool {
        self.0 & (1 << plugin as u16) != 0
    }

    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Which resources a node has too little of. Scalars are bits in the order of the pod's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shortage {
    /// No room for one more pod.
    pub pods: bool,
    /// Too little cpu.
    pub cpu: bool,
    /// Too little memory.
    pub memory: bool,
    /// Too little local disk.
    pub ephemeral: bool,
    /// Too little of the pod's n-th scalar resource.
    pub scalars: u64,
}

impl Shortage {
    /// Whether anything is short.
    pub fn is_any(self) -> bool {
        self != Self::default()
    }
}

/// Why a node was refused. Small and copied: filtering 5,000 nodes allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is cordoned.
    Unschedulable,
    /// It is not the node the pod names.
    NodeName,
    /// It has a taint the pod does not tolerate.
    Taint,
    /// Its labels are not what the pod requires.
    Affinity,
    /// The pod's affinity names other nodes.
    NotNamed,
    /// A port is taken.
    Ports,
    /// Something is short.
    Short(Shortage),
    /// It would be uneven.
    Spread,
    /// It lacks the label to spread by.
    SpreadLabel,
    /// The pods wanted near are not.
    PodAffinity,
    /// Pods to be kept away from are near.
    PodAntiAffinity,
    /// Pods near want this one kept away.
    ExistingAntiAffinity,
}

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who refused.
    pub plugin: Plugin,
    /// Why.
    pub reason: Reason,
    /// Whether evicting other pods could change it.
    pub resolvable: bool,
}

impl Refusal {
    /// A refusal that evicting pods could change.
    pub fn resolvable(plugin: Plugin, reason: Reason) -> Self {
        Self { plugin, reason, resolvable: true }
    }

    /// A refusal that no eviction changes.
    pub fn final_(plugin: Plugin, reason: Reason) -> Self {
        Self { plugin, reason, resolvable: false }
    }
}

/// What plugins look at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The pod to place.
    pub pod: &'a PodInfo,
    /// All nodes.
    pub cluster: &'a Cluster,
}

impl<'a> View<'a> {
    /// The node at `slot`.
    pub fn node(&self, slot: Slot) -> &'a Node {
        self.cluster.node(slot)
    }
}

/// A filter prepared for one pod.
pub trait Filter {
    /// Whether the pod may go to the node at `slot`.
    fn filter(&self, view: View<'_>, slot: Slot) -> Result<(), Refusal>;
}

/// A score prepared for one pod and the nodes that passed the filters.
pub trait Score {
    /// How much it counts.
    fn weight(&self) -> i64;

    /// How good the node at `slot` is; brought to 0..=100 by [`Self::normalize`].
    fn score(&self, view: View<'_>, slot: Slot) -> i64;

    /// Brings the scores of all nodes, in the order of the feasible ones, to 0..=100.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Makes a filter for a pod, or none if the pod does not concern it.
pub type PrepareFilter = fn(&PodInfo, &mut Cluster) -> Option<Box<dyn Filter>>;

/// Makes a score for a pod and its feasible nodes, or none if the pod does not concern it.
pub type PrepareScore = fn(&PodInfo, &mut Cluster, &[Slot]) -> Option<Box<dyn Score>>;

/// Brings scores to 0..=100 in proportion to the highest; `reverse` makes the lowest the best.
pub fn normalize_to_highest(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let share = if highest == 0 { 0 } else { *score * SCORE_MAX / highest };
        *score = if reverse { SCORE_MAX - share } else { share };
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unschedulable => "node(s) were unschedulable",
            Self::NodeName => "node(s) didn't match the requested node name",
            Self::Taint => "node(s) had untolerated taint(s)",
            Self::Affinity => "node(s) didn't match Pod's node affinity/selector",
            Self::NotNamed => "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            Self::Ports => "node(s) didn't have free ports for the requested pod ports",
            Self::Short(_) => "Insufficient resources",
            Self::Spread => "node(s) didn't match pod topology spread constraints",
            Self::SpreadLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Self::PodAffinity => "node(s) didn't match pod affinity rules",
            Self::PodAntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::ExistingAntiAffinity => {
                "node(s) didn't satisfy existing pods anti-affinity rules"
            }
        })
    }
}

/// The texts of a reason; room short of several resources has one for each.
pub fn texts_of(reason: Reason, pod: &PodInfo) -> Vec<String> {
    let Reason::Short(shortage) = reason else { return vec![reason.to_string()] };
    let named = [
        (shortage.pods, "Too many pods"),
        (shortage.cpu, "Insufficient cpu"),
        (shortage.memory, "Insufficient memory"),
        (shortage.ephemeral, "Insufficient ephemeral-storage"),
    ];
    let mut texts: Vec<String> =
        named.iter().filter(|(short, _)| *short).map(|(_, text)| (*text).to_owned()).collect();
    for (bit, (name, _)) in pod.requests.scalars.iter().enumerate().take(64) {
        if shortage.scalars & (1 << bit) != 0 {
            texts.push(format!("Insufficient {name}"));
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizing() {
        for (scores, reverse, expected) in [
            ([0, 5, 10], false, [0, 50, 100]),
            ([0, 5, 10], true, [100, 50, 0]),
            ([0, 0, 0], false, [0, 0, 0]),
            ([0, 0, 0], true, [100, 100, 100]),
        ] {
            let mut normalized = scores;
            normalize_to_highest(&mut normalized, reverse);
            assert_eq!(normalized, expected, "{scores:?} reverse={reverse}");
        }
    }

    #[test]
    fn plugin_sets() {
        let mut set = PluginSet::default();
        assert!(set.is_empty());
        set.insert(Plugin::NodePorts);
        assert!(set.contains(Plugin::NodePorts) && !set.contains(Plugin::NodeName));
    }
}

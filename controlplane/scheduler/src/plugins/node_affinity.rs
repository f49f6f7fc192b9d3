//! NodeAffinity: node selector, required and preferred node affinity.
//!
//! Owns: what a pod says about its node's labels. Must not know: other pods. A newcomer's trap: when
//! the affinity names its nodes one by one, the others are refused with a text of its own.

use crate::cluster::{Cluster, Slot};
use crate::framework::{Filter, Plugin, Reason, Refusal, Score, View, normalize_to_highest};
use crate::pod::PodInfo;

struct NodeAffinity {
    names: Option<Vec<String>>,
}

struct Preferred;

/// Concerns pods that require something of their node.
pub fn prepare(pod: &PodInfo, _: &mut Cluster) -> Option<Box<dyn Filter>> {
    if pod.node_labels.is_empty() && pod.required_nodes.is_none() {
        return None;
    }
    let names = pod.required_nodes.as_ref().and_then(|nodes| nodes.names());
    let names = names.map(|names| names.into_iter().map(str::to_owned).collect());
    Some(Box::new(NodeAffinity { names }))
}

/// Concerns pods that prefer nodes.
pub fn prepare_score(pod: &PodInfo, _: &mut Cluster, _: &[Slot]) -> Option<Box<dyn Score>> {
    (!pod.preferred_nodes.is_empty()).then(|| Box::new(Preferred) as Box<dyn Score>)
}

impl Filter for NodeAffinity {
    fn filter(&self, view: View<'_>, slot: Slot) -> Result<(), Refusal> {
        let node = view.node(slot);
        let named = self.names.as_ref().is_none_or(|names| names.contains(&node.name));
        if named && view.pod.admits_node(&node.name, &node.labels) {
            return Ok(());
        }
        let reason = if named { Reason::Affinity } else { Reason::NotNamed };
        Err(Refusal::final_(Plugin::NodeAffinity, reason))
    }
}

impl Score for Preferred {
    fn weight(&self) -> i64 {
        2
    }

    fn score(&self, view: View<'_>, slot: Slot) -> i64 {
        let node = view.node(slot);
        let matching = view
            .pod
            .preferred_nodes
            .iter()
            .filter(|one| one.term.matches(&node.name, &node.labels));
        matching.map(|one| one.weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_highest(scores, false);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, node, pod};
    use serde_json::json;

    #[test]
    fn required_and_preferred() {
        let nodes = || {
            [
                node("hdd", json!({"labels": {"disk": "hdd"}})),
                node("ssd", json!({"labels": {"disk": "ssd"}})),
            ]
        };
        let wants = |disk: &str| json!([{"key": "disk", "operator": "In", "values": [disk]}]);
        let required = |disk: &str| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": wants(disk)}]}}}})
        };
        let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "preference": {"matchExpressions": wants("hdd")}}]}}});
        for (spec, expected) in [
            (json!({"nodeSelector": {"disk": "ssd"}}), Some("ssd")),
            (json!({"nodeSelector": {"disk": "tape"}}), None),
            (required("hdd"), Some("hdd")),
            (required("tape"), None),
            (preferred, Some("hdd")),
        ] {
            let placed = World::of(&nodes()).place(&pod("p", spec.clone()));
            assert_eq!(placed.ok().as_deref(), expected, "{spec}");
        }
    }

    #[test]
    fn nodes_an_affinity_does_not_name_are_refused_in_its_own_words() {
        let spec = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gone"]}]}]}}}});
        let refused = World::of(&[node("n", json!({}))]).place(&pod("p", spec)).unwrap_err();
        assert!(
            refused.starts_with(
                "0/1 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. "
            ),
            "{refused}"
        );
    }
}

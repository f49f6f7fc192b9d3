//! The preferences, of the pod and of the pods already placed.
//!
//! Owns: summing weights by domain. Must not know: the required terms' refusals. A newcomer's trap: a
//! placed pod that requires to be near such pods counts as a preference of weight 1.

use std::collections::BTreeMap;

use super::Term;
use crate::cluster::{Cluster, Slot};
use crate::framework::{SCORE_MAX, Score, View};
use crate::pod::PodInfo;

/// What a placed pod's required affinity counts as (`hardPodAffinityWeight`).
const REQUIRED_WEIGHT: i64 = 1;

struct Preferred {
    /// Weight by topology key and value.
    domains: BTreeMap<(String, String), i64>,
}

/// Concerns pods with preferences, and all pods while any placed pod has terms.
pub fn prepare(pod: &PodInfo, cluster: &mut Cluster, _: &[Slot]) -> Option<Box<dyn Score>> {
    let own = !pod.pod_affinity.preferred.is_empty();
    if !own && !cluster.has_affine_pods() {
        return None;
    }
    let mut preferred = Preferred { domains: BTreeMap::new() };
    for slot in cluster.slots() {
        let node = cluster.node(slot);
        if !node.present || (!own && node.affine_pods == 0) {
            continue;
        }
        for placed in node.pods.values() {
            preferred.count(pod, placed, cluster, slot);
        }
    }
    if preferred.domains.is_empty() {
        return None;
    }
    Some(Box::new(preferred))
}

impl Preferred {
    fn count(&mut self, pod: &PodInfo, placed: &PodInfo, cluster: &Cluster, slot: Slot) {
        let labels = &cluster.node(slot).labels;
        let spaces = &cluster.namespaces;
        let mut add = |weight: i64, term: &Term| {
            if let Some(value) = labels.get(&term.topology_key) {
                *self.domains.entry((term.topology_key.clone(), value.clone())).or_default() +=
                    weight;
            }
        };
        for (weight, term) in &pod.pod_affinity.preferred {
            if term.means(placed, spaces) {
                add(*weight, term);
            }
        }
        for (weight, term) in &placed.pod_affinity.preferred {
            if term.means(pod, spaces) {
                add(*weight, term);
            }
        }
        for term in &placed.pod_affinity.required {
            if term.means(pod, spaces) {
                add(REQUIRED_WEIGHT, term);
            }
        }
    }
}

impl Score for Preferred {
    fn weight(&self) -> i64 {
        2
    }

    fn score(&self, view: View<'_>, slot: Slot) -> i64 {
        let labels = &view.node(slot).labels;
        let here = self.domains.iter().filter(|((key, value), _)| labels.get(key) == Some(value));
        here.map(|(_, weight)| weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let lowest = scores.iter().copied().min().unwrap_or(0);
        let span = scores.iter().copied().max().unwrap_or(0) - lowest;
        for score in scores {
            *score = if span == 0 { 0 } else { SCORE_MAX * (*score - lowest) / span };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, node, pod};
    use serde_json::json;

    #[test]
    fn preferences_pull_and_push() {
        let at = |name: &str| node(name, json!({"labels": {"host": name}}));
        let term = json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100,
            "podAffinityTerm": {"topologyKey": "host", "labelSelector": {"matchLabels": {"app": "web"}}}}]});
        for (kind, expected) in [("podAffinity", "a"), ("podAntiAffinity", "b")] {
            let mut world = World::of(&[at("a"), at("b")]);
            world.cluster.place(pod("web", json!({"labels": {"app": "web"}})), "a");
            let spec = json!({"affinity": {kind: term}});
            assert_eq!(world.place(&pod("p", spec)).unwrap(), expected, "{kind}");
        }
    }
}

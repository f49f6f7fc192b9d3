//! The soft constraints, the system's defaults among them: even placements score higher.
//!
//! Owns: the score and its scale. Must not know: the hard constraints. A newcomer's trap: hostnames
//! are counted node by node, other domains over all nodes, since domains reach past the feasible ones.

use std::collections::BTreeMap;

use super::{default_spreads, is_eligible};
use crate::cluster::{Cluster, CounterId, Slot};
use crate::framework::{SCORE_MAX, Score, View};
use crate::node::HOSTNAME_LABEL;
use crate::pod::{PodInfo, Spread};

/// A score no node can have: the node is left out.
const LEFT_OUT: i64 = -1;

struct Soft {
    spread: Spread,
    counter: CounterId,
    /// Matching pods by domain; unused for hostnames.
    by_domain: BTreeMap<String, i64>,
    /// Constraints over fewer domains weigh less.
    weight: f64,
}

struct SoftSpread {
    constraints: Vec<Soft>,
    /// Whether a node must have all the labels; not so for the system's defaults.
    needs_all_labels: bool,
}

/// Concerns pods with soft constraints, and pods without any that something groups.
pub fn prepare(pod: &PodInfo, cluster: &mut Cluster, feasible: &[Slot]) -> Option<Box<dyn Score>> {
    let own = !pod.spreads.is_empty();
    let spreads = if own {
        pod.spreads.iter().filter(|spread| !spread.hard).cloned().collect()
    } else {
        default_spreads(pod, cluster)
    };
    if spreads.is_empty() {
        return None;
    }
    let constraints = spreads
        .into_iter()
        .map(|spread| Soft {
            counter: cluster.counter(&pod.key.namespace, &spread.selector),
            spread,
            by_domain: BTreeMap::new(),
            weight: 0.0,
        })
        .collect();
    let mut score = SoftSpread { constraints, needs_all_labels: own };
    score.find_domains(cluster, feasible);
    score.count_domains(pod, cluster);
    Some(Box::new(score))
}

// === impl SoftSpread ===

impl SoftSpread {
    fn leaves_out(&self, labels: &crate::selector::Labels) -> bool {
        self.needs_all_labels
            && !self.constraints.iter().all(|soft| labels.contains_key(&soft.spread.topology_key))
    }

    /// The domains of the feasible nodes, and what each constraint weighs by their number.
    fn find_domains(&mut self, cluster: &Cluster, feasible: &[Slot]) {
        let nodes = || feasible.iter().map(|slot| &cluster.node(*slot).labels);
        let kept: Vec<_> = nodes().filter(|labels| !self.leaves_out(labels)).collect();
        for soft in &mut self.constraints {
            let domains = if soft.spread.topology_key == HOSTNAME_LABEL {
                kept.len()
            } else {
                let found = kept.iter().filter_map(|labels| labels.get(&soft.spread.topology_key));
                soft.by_domain = found.map(|domain| (domain.clone(), 0)).collect();
                soft.by_domain.len()
            };
            soft.weight = (domains as f64 + 2.0).ln();
        }
    }

    /// Counts over all nodes, for constraints other than by hostname.
    fn count_domains(&mut self, pod: &PodInfo, cluster: &mut Cluster) {
        if self.constraints.iter().all(|soft| soft.by_domain.is_empty()) {
            return;
        }
        cluster.order();
        for slot in cluster.slots() {
            let node = cluster.node(slot);
            if !node.present || self.leaves_out(&node.labels) {
                continue;
            }
            for soft in &mut self.constraints {
                let Some(domain) = node.labels.get(&soft.spread.topology_key) else { continue };
                let Some(count) = soft.by_domain.get_mut(domain) else { continue };
                if is_eligible(&soft.spread, pod, node) {
                    *count += cluster.counted(soft.counter, slot);
                }
            }
        }
    }
}

impl Score for SoftSpread {
    fn weight(&self) -> i64 {
        2
    }

    /// Lower is better until normalized.
    fn score(&self, view: View<'_>, slot: Slot) -> i64 {
        let labels = &view.node(slot).labels;
        if self.leaves_out(labels) {
            return LEFT_OUT;
        }
        let mut sum = 0.0;
        for soft in &self.constraints {
            let Some(domain) = labels.get(&soft.spread.topology_key) else { continue };
            let count = if soft.spread.topology_key == HOSTNAME_LABEL {
                view.cluster.counted(soft.counter, slot)
            } else {
                soft.by_domain.get(domain).copied().unwrap_or(0)
            };
            sum += count as f64 * soft.weight + (soft.spread.max_skew - 1) as f64;
        }
        sum.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let counted = || scores.iter().copied().filter(|score| *score != LEFT_OUT);
        let lowest = counted().min().unwrap_or(0);
        let highest = counted().max().unwrap_or(0);
        for score in scores {
            *score = match *score {
                LEFT_OUT => 0,
                _ if highest == 0 => SCORE_MAX,
                score => SCORE_MAX * (highest + lowest - score) / highest,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, node, pod};
    use serde_json::json;

    fn three() -> World {
        let named = |name: &str| node(name, json!({"labels": {"kubernetes.io/hostname": name}}));
        World::of(&[named("w1"), named("w2"), named("w3")])
    }

    /// 9 replicas of one ReplicaSet on 3 nodes: 3/3/3, whatever the random choices among equals.
    #[test]
    fn nine_replicas_on_three_nodes() {
        for seed in 0..50 {
            let mut world = three().seeded(seed);
            world.own("web-1", json!({"app": "web", "pod-template-hash": "1"}));
            for number in 0..9 {
                let labels = json!({"app": "web", "pod-template-hash": "1"});
                let replica = json!({"labels": labels, "owner": "web-1"});
                world.place(&pod(&format!("web-1-{number}"), replica)).unwrap();
            }
            assert_eq!(world.pods_by_node(), [("w1", 3), ("w2", 3), ("w3", 3)], "seed {seed}");
        }
    }

    #[test]
    fn pods_of_a_service_are_spread_without_an_owner() {
        let mut world = three();
        world.cluster.services.insert(
            kijabi_client::Key::new("default", "web"),
            [("app".to_owned(), "web".to_owned())].into(),
        );
        for number in 0..6 {
            world.place(&pod(&format!("p{number}"), json!({"labels": {"app": "web"}}))).unwrap();
        }
        assert_eq!(world.pods_by_node(), [("w1", 2), ("w2", 2), ("w3", 2)]);
    }

    #[test]
    fn zones_are_evened_out_too() {
        let at = |name: &str, zone: &str| {
            let labels =
                json!({"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone});
            node(name, json!({ "labels": labels }))
        };
        let mut world = World::of(&[at("a1", "a"), at("a2", "a"), at("a3", "a"), at("b1", "b")]);
        world.own("web-1", json!({"app": "web"}));
        for number in 0..4 {
            let replica = json!({"labels": {"app": "web"}, "owner": "web-1"});
            world.place(&pod(&format!("p{number}"), replica)).unwrap();
        }
        let in_zone_b = world.pods_by_node().iter().find(|(name, _)| *name == "b1").unwrap().1;
        assert!(in_zone_b >= 1, "{:?}", world.pods_by_node());
    }

    #[test]
    fn an_own_soft_constraint_is_scored_and_never_refuses() {
        let mut world = World::of(&[
            node("a", json!({"labels": {"rack": "1"}})),
            node("b", json!({"labels": {"rack": "2"}})),
        ]);
        let spec = json!({"labels": {"app": "web"}, "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "web"}}}]});
        for number in 0..4 {
            world.place(&pod(&format!("p{number}"), spec.clone())).unwrap();
        }
        assert_eq!(world.pods_by_node(), [("a", 2), ("b", 2)]);
    }
}

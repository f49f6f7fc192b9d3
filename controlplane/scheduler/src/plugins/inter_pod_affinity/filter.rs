//! The required terms, of the pod and of the pods already placed.
//!
//! Owns: counting by domain for one pod. Must not know: preferences. A newcomer's trap: the first of
//! a group that wants to be near itself may go anywhere, or no group could ever start.

use std::collections::BTreeMap;

use super::Term;
use crate::cluster::{Cluster, Slot};
use crate::framework::{Filter, Plugin, Reason, Refusal, View};
use crate::pod::PodInfo;

/// How many pods a term means, by topology key and value.
type Domains = BTreeMap<(String, String), i64>;

struct Required {
    near: Domains,
    away: Domains,
    kept_away_by: Domains,
    /// Whether the pod itself is meant by all its own terms.
    means_itself: bool,
}

/// Concerns pods with required terms, and all pods while any placed pod keeps others away.
pub fn prepare(pod: &PodInfo, cluster: &mut Cluster) -> Option<Box<dyn Filter>> {
    let terms = &pod.pod_affinity;
    let own = !terms.required.is_empty() || !terms.required_anti.is_empty();
    if !own && !cluster.has_anti_affine_pods() {
        return None;
    }
    let mut required = Required {
        near: Domains::new(),
        away: Domains::new(),
        kept_away_by: Domains::new(),
        means_itself: terms.required.iter().all(|term| term.means(pod, &cluster.namespaces)),
    };
    for slot in cluster.slots() {
        let node = cluster.node(slot);
        if !node.present || (!own && node.anti_affine_pods == 0) {
            continue;
        }
        for placed in node.pods.values() {
            required.count(pod, placed, cluster, slot);
        }
    }
    Some(Box::new(required))
}

// === impl Required ===

impl Required {
    fn count(&mut self, pod: &PodInfo, placed: &PodInfo, cluster: &Cluster, slot: Slot) {
        let labels = &cluster.node(slot).labels;
        let add = |domains: &mut Domains, term: &Term| {
            if let Some(value) = labels.get(&term.topology_key) {
                *domains.entry((term.topology_key.clone(), value.clone())).or_default() += 1;
            }
        };
        let spaces = &cluster.namespaces;
        for term in placed.pod_affinity.required_anti.iter().filter(|term| term.means(pod, spaces))
        {
            add(&mut self.kept_away_by, term);
        }
        let near = &pod.pod_affinity.required;
        if !near.is_empty() && near.iter().all(|term| term.means(placed, spaces)) {
            for term in near {
                add(&mut self.near, term);
            }
        }
        for term in pod.pod_affinity.required_anti.iter().filter(|term| term.means(placed, spaces))
        {
            add(&mut self.away, term);
        }
    }

    fn is_near(&self, view: View<'_>, slot: Slot) -> bool {
        let labels = &view.node(slot).labels;
        let terms = &view.pod.pod_affinity.required;
        if !terms.iter().all(|term| labels.contains_key(&term.topology_key)) {
            return false;
        }
        let starts_a_group = self.near.is_empty() && self.means_itself;
        starts_a_group || terms.iter().all(|term| counted(&self.near, term, view, slot) > 0)
    }
}

fn counted(domains: &Domains, term: &Term, view: View<'_>, slot: Slot) -> i64 {
    let value = view.node(slot).labels.get(&term.topology_key);
    value
        .and_then(|value| domains.get(&(term.topology_key.clone(), value.clone())))
        .copied()
        .unwrap_or(0)
}

impl Filter for Required {
    fn filter(&self, view: View<'_>, slot: Slot) -> Result<(), Refusal> {
        let plugin = Plugin::InterPodAffinity;
        if !self.is_near(view, slot) {
            return Err(Refusal::final_(plugin, Reason::PodAffinity));
        }
        let away = &view.pod.pod_affinity.required_anti;
        if away.iter().any(|term| counted(&self.away, term, view, slot) > 0) {
            return Err(Refusal::resolvable(plugin, Reason::PodAntiAffinity));
        }
        let labels = &view.node(slot).labels;
        if self.kept_away_by.keys().any(|(key, value)| labels.get(key) == Some(value)) {
            return Err(Refusal::resolvable(plugin, Reason::ExistingAntiAffinity));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, node, pod};
    use serde_json::{Value, json};

    fn term() -> Value {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]})
    }

    fn world() -> World {
        let at = |name: &str, zone: &str| node(name, json!({"labels": {"zone": zone}}));
        World::of(&[at("a1", "a"), at("a2", "a"), at("b1", "b")])
    }

    #[test]
    fn near_means_the_same_zone() {
        let mut world = world();
        world.cluster.place(pod("web", json!({"labels": {"app": "web"}})), "b1");
        let near = json!({"affinity": {"podAffinity": term()}});
        assert_eq!(world.place(&pod("p", near)).unwrap(), "b1");
    }

    #[test]
    fn the_first_of_a_group_may_go_anywhere_and_a_stranger_nowhere() {
        let near = |app: &str| json!({"labels": {"app": app}, "affinity": {"podAffinity": term()}});
        assert!(world().place(&pod("first", near("web"))).is_ok());
        let refused = world().place(&pod("stranger", near("db"))).unwrap_err();
        assert!(
            refused.starts_with(
                "0/3 nodes are available: 3 node(s) didn't match pod affinity rules. "
            ),
            "{refused}"
        );
    }

    #[test]
    fn away_holds_both_ways() {
        let mut world = world();
        let away = json!({"labels": {"app": "web"}, "affinity": {"podAntiAffinity": term()}});
        world.cluster.place(pod("shy", away.clone()), "b1");
        let placed = world.place(&pod("web", json!({"labels": {"app": "web"}}))).unwrap();
        assert!(placed.starts_with('a'));
        let refused = world.place(&pod("shy-too", away)).unwrap_err();
        assert!(
            refused.starts_with(
                "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. "
            ),
            "{refused}"
        );
        let refused = world
            .place(&pod("web2", json!({"labels": {"app": "web"}, "nodeSelector": {"zone": "b"}})))
            .unwrap_err();
        assert!(
            refused.contains("1 node(s) didn't satisfy existing pods anti-affinity rules"),
            "{refused}"
        );
    }
}

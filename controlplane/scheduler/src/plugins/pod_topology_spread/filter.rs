//! The hard constraints: a placement that would be more uneven than `maxSkew` is refused.
//!
//! Owns: counting by domain for one pod. Must not know: the soft constraints. A newcomer's trap: the
//! minimum is over the domains that count, and with fewer domains than `minDomains` it is zero.

use std::collections::BTreeMap;

use kube::core::SelectorExt as _;

use super::is_eligible;
use crate::cluster::{Cluster, Slot};
use crate::framework::{Filter, Plugin, Reason, Refusal, View};
use crate::pod::{PodInfo, Spread};

struct Domains {
    spread: Spread,
    matching: BTreeMap<String, i64>,
    least: i64,
    itself: i64,
}

struct HardSpread(Vec<Domains>);

/// Concerns pods with hard constraints.
pub fn prepare(pod: &PodInfo, cluster: &mut Cluster) -> Option<Box<dyn Filter>> {
    let hard: Vec<&Spread> = pod.spreads.iter().filter(|spread| spread.hard).collect();
    if hard.is_empty() {
        return None;
    }
    let all = hard.iter().map(|spread| count(spread, &hard, pod, cluster)).collect();
    Some(Box::new(HardSpread(all)))
}

/// Counts the matching pods in each domain of one constraint.
fn count(spread: &Spread, hard: &[&Spread], pod: &PodInfo, cluster: &mut Cluster) -> Domains {
    let counter = cluster.counter(&pod.key.namespace, &spread.selector);
    let slots = cluster.order().to_vec();
    let mut matching: BTreeMap<String, i64> = BTreeMap::new();
    for slot in slots {
        let node = cluster.node(slot);
        let has_all = hard.iter().all(|one| node.labels.contains_key(&one.topology_key));
        if !has_all || !is_eligible(spread, pod, node) {
            continue;
        }
        if let Some(domain) = node.labels.get(&spread.topology_key) {
            *matching.entry(domain.clone()).or_default() += cluster.counted(counter, slot);
        }
    }
    let enough = matching.len() as i64 >= spread.min_domains;
    let least = if enough { matching.values().copied().min().unwrap_or(0) } else { 0 };
    let itself = i64::from(spread.selector.matches(&pod.labels));
    Domains { spread: spread.clone(), matching, least, itself }
}

impl Filter for HardSpread {
    fn filter(&self, view: View<'_>, slot: Slot) -> Result<(), Refusal> {
        let plugin = Plugin::PodTopologySpread;
        for domains in &self.0 {
            let Some(domain) = view.node(slot).labels.get(&domains.spread.topology_key) else {
                return Err(Refusal::final_(plugin, Reason::SpreadLabel));
            };
            let there = domains.matching.get(domain).copied().unwrap_or(0);
            if there + domains.itself - domains.least > domains.spread.max_skew {
                return Err(Refusal::resolvable(plugin, Reason::Spread));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, node, pod};
    use serde_json::{Value, json};

    fn spread(key: &str, skew: i32) -> Value {
        json!({"labels": {"app": "web"}, "topologySpreadConstraints": [{
            "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}}]})
    }

    #[test]
    fn a_placement_beyond_the_skew_is_refused() {
        let zone = |name: &str, zone: &str| node(name, json!({"labels": {"zone": zone}}));
        let mut world = World::of(&[zone("a", "1"), zone("b", "2")]);
        let mut placed = Vec::new();
        for number in 0..4 {
            placed.push(world.place(&pod(&format!("p{number}"), spread("zone", 1))).unwrap());
        }
        placed.sort();
        assert_eq!(placed, ["a", "a", "b", "b"]);
        world.cordon("b");
        world.place(&pod("p5", spread("zone", 1))).unwrap();
        let refused = world.place(&pod("p6", spread("zone", 1))).unwrap_err();
        assert!(
            refused.starts_with(
                "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, \
             1 node(s) were unschedulable. "
            ),
            "{refused}"
        );
    }

    #[test]
    fn a_node_without_the_label_is_refused_in_its_own_words() {
        let refused =
            World::of(&[node("a", json!({}))]).place(&pod("p", spread("zone", 1))).unwrap_err();
        assert!(refused.contains("(missing required label)"), "{refused}");
    }
}

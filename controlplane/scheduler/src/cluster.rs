//! The scheduler's picture of the cluster: nodes, the pods on them, and pods assumed to be there.
//!
//! Owns: keeping the picture in step with the watch and with our own decisions. Must not know:
//! plugins. A newcomer's trap: an assumed pod counts at once, before the API has heard of it;
//! otherwise the next pod would be given the same room.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node as ApiNode;
use kube::core::{Selector, SelectorExt as _};

use crate::groups::{Owners, Services};
use crate::limits;
use crate::node::Node;
use crate::pod::PodInfo;
use crate::selector::Labels;

/// Where a node stands in the picture.
pub type Slot = usize;

struct Placement {
    slot: Slot,
    assumed: bool,
}

/// How many pods of a namespace match a selector, by node.
struct Counter {
    namespace: String,
    selector: Selector,
    by_slot: Vec<u32>,
    last_used: u64,
}

/// Names a counter; good for the cycle that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterId(usize);

/// The picture.
#[derive(Default)]
pub struct Cluster {
    nodes: Vec<Option<Node>>,
    by_name: BTreeMap<String, Slot>,
    placements: BTreeMap<String, Placement>,
    /// Slots of present nodes, zones taking turns.
    order: Vec<Slot>,
    order_is_stale: bool,
    counters: Vec<Counter>,
    uses: u64,
    anti_affine_pods: usize,
    affine_pods: usize,
    /// The labels of the namespaces, for affinity terms that select by them.
    pub namespaces: BTreeMap<String, Labels>,
    /// The selectors of Services.
    pub services: Services,
    /// The selectors of the owners of pods.
    pub owners: Owners,
    /// Where the next search for nodes begins, so that all nodes get their turn.
    pub next_start: usize,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.by_name.len()).finish_non_exhaustive()
    }
}

// === impl Cluster ===

impl Cluster {
    /// Takes over a Node object. True if that can matter to a pod.
    pub fn upsert_node(&mut self, node: &ApiNode) -> bool {
        let slot = self.slot_of(node.metadata.name.as_deref().unwrap_or_default());
        let Some(known) = self.nodes[slot].as_mut() else { return false };
        let changed = known.update(node);
        self.order_is_stale |= changed;
        changed
    }

    /// The Node object is gone; its pods stay until they go too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(&slot) = self.by_name.get(name) else { return };
        if let Some(node) = self.nodes[slot].as_mut() {
            node.present = false;
        }
        self.order_is_stale = true;
        self.forget_if_empty(slot);
    }

    /// Puts a pod where the API says it is.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.put(pod, node, false);
    }

    /// Puts a pod where we decided it should be, before the API knows.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.put(pod, node, true);
    }

    /// Takes a pod off unless the API has confirmed it: our decision did not come about.
    pub fn forget(&mut self, uid: &str) {
        if self.placements.get(uid).is_some_and(|placement| placement.assumed) {
            self.remove(uid);
        }
    }

    /// Takes a pod off. True if it was there.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some(placement) = self.placements.remove(uid) else { return false };
        let slot = placement.slot;
        if let Some(pod) = self.nodes[slot].as_mut().and_then(|node| node.remove_pod(uid)) {
            self.anti_affine_pods -= usize::from(pod.pod_affinity.has_required_anti());
            self.affine_pods -= usize::from(pod.pod_affinity.has_any());
            self.count(&pod, slot, false);
        }
        self.forget_if_empty(slot);
        true
    }

    /// Whether the pod is on a node, assumed or confirmed.
    pub fn holds(&self, uid: &str) -> bool {
        self.placements.contains_key(uid)
    }

    /// Slots of the nodes there are, zones taking turns.
    pub fn order(&mut self) -> &[Slot] {
        if self.order_is_stale {
            self.order = self.interleaved();
            self.order_is_stale = false;
        }
        &self.order
    }

    /// The last order computed, to be lent to a search that reads the cluster meanwhile.
    pub(crate) fn order_mut(&mut self) -> &mut Vec<Slot> {
        &mut self.order
    }

    /// The node at `slot`.
    pub fn node(&self, slot: Slot) -> &Node {
        self.nodes[slot].as_ref().expect("slots are only handed out for nodes that are there")
    }

    /// The slot of the node of this name, if the Node object is known.
    pub fn find(&self, name: &str) -> Option<Slot> {
        self.by_name.get(name).copied().filter(|slot| self.node(*slot).present)
    }

    /// Whether any pod keeps others away from itself.
    pub fn has_anti_affine_pods(&self) -> bool {
        self.anti_affine_pods > 0
    }

    /// Whether any pod says anything about being near others or not.
    pub fn has_affine_pods(&self) -> bool {
        self.affine_pods > 0
    }

    /// All nodes that have pods or a Node object.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.by_name.values().copied()
    }

    /// The counter of the pods in `namespace` that match `selector`, kept up to date from now on.
    pub fn counter(&mut self, namespace: &str, selector: &Selector) -> CounterId {
        self.uses += 1;
        let uses = self.uses;
        let known = self
            .counters
            .iter()
            .position(|one| one.namespace == namespace && one.selector == *selector);
        if let Some(at) = known {
            self.counters[at].last_used = uses;
            return CounterId(at);
        }
        let mut counter = Counter {
            namespace: namespace.to_owned(),
            selector: selector.clone(),
            by_slot: vec![0; self.nodes.len()],
            last_used: uses,
        };
        for (slot, node) in self.nodes.iter().enumerate() {
            let pods = node.iter().flat_map(|node| node.pods.values());
            counter.by_slot[slot] = pods.filter(|pod| counter.counts(pod)).count() as u32;
        }
        if self.counters.len() < limits::COUNTERS_MAX {
            self.counters.push(counter);
            return CounterId(self.counters.len() - 1);
        }
        // The one not asked for longest makes place; the ids of the others stay good.
        let oldest = (0..self.counters.len()).min_by_key(|at| self.counters[*at].last_used);
        let at = oldest.unwrap_or(0);
        self.counters[at] = counter;
        CounterId(at)
    }

    /// How many pods on the node at `slot` the counter counts.
    pub fn counted(&self, counter: CounterId, slot: Slot) -> i64 {
        self.counters[counter.0].by_slot.get(slot).copied().map_or(0, i64::from)
    }

    fn put(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) {
        self.remove(&pod.uid);
        let slot = self.slot_of(node);
        self.placements.insert(pod.uid.clone(), Placement { slot, assumed });
        self.anti_affine_pods += usize::from(pod.pod_affinity.has_required_anti());
        self.affine_pods += usize::from(pod.pod_affinity.has_any());
        self.count(&pod, slot, true);
        if let Some(node) = self.nodes[slot].as_mut() {
            node.add_pod(pod);
        }
    }

    fn count(&mut self, pod: &PodInfo, slot: Slot, added: bool) {
        for counter in &mut self.counters {
            if counter.by_slot.len() <= slot {
                counter.by_slot.resize(slot + 1, 0);
            }
            if counter.counts(pod) {
                let count = &mut counter.by_slot[slot];
                *count = if added { *count + 1 } else { count.saturating_sub(1) };
            }
        }
    }

    fn slot_of(&mut self, name: &str) -> Slot {
        if let Some(&slot) = self.by_name.get(name) {
            return slot;
        }
        let free = self.nodes.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.nodes.len());
        if free.is_none() {
            self.nodes.push(None);
        }
        self.nodes[slot] = Some(Node::named(name));
        self.by_name.insert(name.to_owned(), slot);
        slot
    }

    fn forget_if_empty(&mut self, slot: Slot) {
        let Some(node) = &self.nodes[slot] else { return };
        if node.is_forgettable() {
            self.by_name.remove(&node.name);
            self.nodes[slot] = None;
            self.order_is_stale = true;
        }
    }

    fn interleaved(&self) -> Vec<Slot> {
        let mut zones: BTreeMap<&str, Vec<Slot>> = BTreeMap::new();
        for &slot in self.by_name.values() {
            let node = self.node(slot);
            if node.present {
                zones.entry(node.zone().unwrap_or_default()).or_default().push(slot);
            }
        }
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        (0..longest)
            .flat_map(|turn| zones.values().filter_map(move |zone| zone.get(turn)))
            .copied()
            .collect()
    }
}

// === impl Counter ===

impl Counter {
    fn counts(&self, pod: &PodInfo) -> bool {
        !pod.terminating
            && pod.key.namespace == self.namespace
            && self.selector.matches(&pod.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    fn names(cluster: &mut Cluster) -> Vec<String> {
        let order = cluster.order().to_vec();
        order.into_iter().map(|slot| cluster.node(slot).name.clone()).collect()
    }

    #[test]
    fn zones_take_turns() {
        let mut cluster = Cluster::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")] {
            cluster.upsert_node(&node(name, json!({"labels": {ZONE: zone}})));
        }
        assert_eq!(names(&mut cluster), ["a1", "b1", "a2", "a3"]);
        cluster.remove_node("a1");
        assert_eq!(names(&mut cluster), ["a2", "b1", "a3"]);
    }

    const ZONE: &str = crate::node::ZONE_LABEL;

    #[test]
    fn an_assumed_pod_takes_room_until_it_is_forgotten_but_a_confirmed_one_stays() {
        let mut cluster = Cluster::default();
        cluster.upsert_node(&node("n", json!({})));
        let slot = cluster.find("n").unwrap();
        let one = pod("one", json!({"cpu": "1"}));
        cluster.assume(one.clone(), "n");
        assert_eq!(cluster.node(slot).requested.cpu_millis, 1_000);
        cluster.forget(&one.uid);
        assert_eq!(cluster.node(slot).requested.cpu_millis, 0);
        cluster.assume(one.clone(), "n");
        cluster.place(one.clone(), "n");
        cluster.forget(&one.uid);
        assert_eq!(cluster.node(slot).requested.cpu_millis, 1_000);
        assert!(cluster.remove(&one.uid) && !cluster.holds(&one.uid));
    }

    #[test]
    fn a_pod_may_come_before_its_node_and_outlive_it() {
        let mut cluster = Cluster::default();
        let one = pod("one", json!({"cpu": "1"}));
        cluster.place(one.clone(), "n");
        assert_eq!(cluster.find("n"), None);
        cluster.upsert_node(&node("n", json!({})));
        assert_eq!(cluster.node(cluster.find("n").unwrap()).requested.cpu_millis, 1_000);
        cluster.remove_node("n");
        assert!(cluster.holds(&one.uid) && cluster.order().is_empty());
        cluster.remove(&one.uid);
        assert!(cluster.by_name.is_empty());
    }

    #[test]
    fn counters_follow_pods_that_come_and_go() {
        let mut cluster = Cluster::default();
        cluster.upsert_node(&node("n", json!({})));
        let slot = cluster.find("n").unwrap();
        let web = |name: &str| pod(name, json!({"labels": {"app": "web"}}));
        cluster.place(web("one"), "n");
        let selector: Selector = [("app", "web")].into_iter().collect();
        let counter = cluster.counter("default", &selector);
        assert_eq!(cluster.counted(counter, slot), 1);
        cluster.place(web("two"), "n");
        cluster.place(pod("other", json!({"labels": {"app": "db"}})), "n");
        assert_eq!(cluster.counted(counter, slot), 2);
        cluster.place(pod("two", json!({"labels": {"app": "web"}, "terminating": true})), "n");
        assert_eq!(cluster.counted(counter, slot), 1, "pods that are going do not count");
        cluster.remove("uid-one");
        let again = cluster.counter("default", &selector);
        assert_eq!((again, cluster.counted(again, slot)), (counter, 0));
    }
}

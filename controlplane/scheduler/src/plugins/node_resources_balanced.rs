//! NodeResourcesBalancedAllocation: prefers nodes where cpu and memory fill up evenly.
//!
//! Owns: that one score. Must not know: whether the pod fits. A newcomer's trap: it counts what pods
//! asked for, not the assumed amounts LeastAllocated uses; pods that ask for nothing skip it.

use crate::cluster::{Cluster, Slot};
use crate::framework::{SCORE_MAX, Score, View};
use crate::pod::PodInfo;

struct Balanced;

/// Concerns pods that ask for something.
pub fn prepare_score(pod: &PodInfo, _: &mut Cluster, _: &[Slot]) -> Option<Box<dyn Score>> {
    (!pod.requests.is_nothing()).then(|| Box::new(Balanced) as Box<dyn Score>)
}

impl Score for Balanced {
    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, view: View<'_>, slot: Slot) -> i64 {
        let node = view.node(slot);
        let (all, taken, pod) = (&node.allocatable, &node.requested, &view.pod.requests);
        let cpu = share(taken.cpu_millis + pod.cpu_millis, all.cpu_millis);
        let memory = share(taken.memory_bytes + pod.memory_bytes, all.memory_bytes);
        // The standard deviation of two values is half of what lies between them.
        let deviation = match (cpu, memory) {
            (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
            _ => 0.0,
        };
        ((1.0 - deviation) * SCORE_MAX as f64) as i64
    }
}

fn share(taken: i64, all: i64) -> Option<f64> {
    (all > 0).then(|| (taken as f64 / all as f64).min(1.0))
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, node, pod};
    use serde_json::json;

    #[test]
    fn the_node_that_stays_even_wins() {
        // Both nodes are equally full on average, but only `b` gets even by a pod of much cpu.
        let mut world = World::of(&[node("a", json!({})), node("b", json!({}))]);
        world.cluster.place(pod("x", json!({"requests": {"cpu": "2", "memory": "1Gi"}})), "a");
        world.cluster.place(pod("y", json!({"requests": {"cpu": "1", "memory": "2Gi"}})), "b");
        let p = pod("p", json!({"requests": {"cpu": "1", "memory": "1Mi"}}));
        assert_eq!(world.place(&p).unwrap(), "b");
    }
}

//! NodeResourcesFit: a node must have room for what a pod asks; emptier nodes score higher.
//!
//! Owns: the comparison with what is left, and LeastAllocated. Must not know: what is really used. A
//! newcomer's trap: room is counted with what pods asked for, scores with an assumed amount where
//! they asked for nothing.

use crate::cluster::{Cluster, Slot};
use crate::framework::{Filter, Plugin, Reason, Refusal, SCORE_MAX, Score, Shortage, View};
use crate::pod::PodInfo;

struct Fit;

/// Concerns every pod.
pub fn prepare(_: &PodInfo, _: &mut Cluster) -> Option<Box<dyn Filter>> {
    Some(Box::new(Fit))
}

/// Concerns every pod.
pub fn prepare_score(_: &PodInfo, _: &mut Cluster, _: &[Slot]) -> Option<Box<dyn Score>> {
    Some(Box::new(Fit))
}

/// What is short on the node, and whether any of it is more than the whole node has.
fn shortage(view: View<'_>, slot: Slot) -> (Shortage, bool) {
    let node = view.node(slot);
    let wanted = &view.pod.requests;
    let mut short = Shortage {
        pods: node.pods.len() as i64 + 1 > node.allocatable.pods,
        ..Shortage::default()
    };
    let mut hopeless = false;
    let mut check = |wanted: i64, taken: i64, all: i64| {
        let is_short = wanted > 0 && wanted > all.saturating_sub(taken);
        hopeless |= is_short && wanted > all;
        is_short
    };
    let (all, taken) = (&node.allocatable, &node.requested);
    short.cpu = check(wanted.cpu_millis, taken.cpu_millis, all.cpu_millis);
    short.memory = check(wanted.memory_bytes, taken.memory_bytes, all.memory_bytes);
    short.ephemeral = check(wanted.ephemeral_bytes, taken.ephemeral_bytes, all.ephemeral_bytes);
    for (bit, (name, amount)) in wanted.scalars.iter().enumerate().take(64) {
        if check(*amount, taken.scalar(name), all.scalar(name)) {
            short.scalars |= 1 << bit;
        }
    }
    (short, hopeless)
}

impl Filter for Fit {
    fn filter(&self, view: View<'_>, slot: Slot) -> Result<(), Refusal> {
        let (short, hopeless) = shortage(view, slot);
        if !short.is_any() {
            return Ok(());
        }
        let reason = Reason::Short(short);
        Err(Refusal { plugin: Plugin::NodeResourcesFit, reason, resolvable: !hopeless })
    }
}

/// LeastAllocated: the mean share of cpu and memory that would be left.
impl Score for Fit {
    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, view: View<'_>, slot: Slot) -> i64 {
        let node = view.node(slot);
        let pod = &view.pod.scored;
        let shares = [
            left(node.allocatable.cpu_millis, node.scored.cpu_millis + pod.cpu_millis),
            left(node.allocatable.memory_bytes, node.scored.memory_bytes + pod.memory_bytes),
        ];
        let known: i64 = shares.iter().flatten().sum();
        let count = shares.iter().flatten().count() as i64;
        if count == 0 { 0 } else { known / count }
    }
}

/// The share left of `all`, or none if the node has none of it.
fn left(all: i64, taken: i64) -> Option<i64> {
    if all == 0 {
        return None;
    }
    if taken > all {
        return Some(0);
    }
    Some((i128::from(all - taken) * i128::from(SCORE_MAX) / i128::from(all)) as i64)
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, node, pod};
    use serde_json::json;

    #[test]
    fn what_fits_and_what_is_said_when_it_does_not() {
        let room = json!({"cpu": "2", "memory": "1Gi", "pods": "3", "example.com/gpu": "1"});
        for (asked, refusal) in [
            (json!({"cpu": "2", "memory": "1Gi"}), None),
            (json!({}), None),
            (json!({"cpu": "2001m"}), Some("1 Insufficient cpu.")),
            (
                json!({"cpu": "3", "memory": "2Gi"}),
                Some("1 Insufficient cpu, 1 Insufficient memory."),
            ),
            (json!({"example.com/gpu": "2"}), Some("1 Insufficient example.com/gpu.")),
            (json!({"example.com/tpu": "1"}), Some("1 Insufficient example.com/tpu.")),
        ] {
            let mut world = World::of(&[node("n", json!({"allocatable": room}))]);
            let placed = world.place(&pod("p", json!({"requests": asked.clone()})));
            match refusal {
                None => assert_eq!(placed.unwrap(), "n", "{asked}"),
                Some(text) => {
                    let message = placed.unwrap_err();
                    let start = format!("0/1 nodes are available: {text} ");
                    assert!(message.starts_with(&start), "{asked}: {message}");
                }
            }
        }
    }

    #[test]
    fn a_full_node_says_so() {
        let mut world = World::of(&[node("n", json!({"allocatable": {"cpu": "2", "pods": "1"}}))]);
        world.place(&pod("one", json!({}))).unwrap();
        let refused = world.place(&pod("two", json!({}))).unwrap_err();
        assert!(refused.starts_with("0/1 nodes are available: 1 Too many pods. "), "{refused}");
    }

    #[test]
    fn the_emptier_node_wins() {
        let mut world = World::of(&[node("a", json!({})), node("b", json!({}))]);
        world.cluster.place(pod("big", json!({"requests": {"cpu": "3", "memory": "3Gi"}})), "a");
        assert_eq!(world.place(&pod("p", json!({}))).unwrap(), "b");
    }
}

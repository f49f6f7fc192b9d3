//! Which pods go first when a ReplicaSet shrinks.
//!
//! Owns: the order, criterion by criterion. Must not know: how many go. A newcomer's trap: pods that
//! double up on a node go before pods that are alone on theirs, so that 9 on 3 nodes become 1 on each.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::pods::{condition, is_ready, node_of, phase_of, restarts_of};

/// What a pod says about how gladly it goes; lower goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// How many pods of the same owner, other than over ones, are on each node.
pub(crate) fn pods_by_node(related: &[Arc<Pod>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in related.iter().filter(|pod| crate::pods::is_active(pod)) {
        *counts.entry(node_of(pod).to_owned()).or_default() += 1;
    }
    counts
}

/// Sorts pods so that those to go first come first.
///
/// Differs from Kubernetes: a node's count falls with each pod of it that is to go, so that what is
/// left is spread evenly; there all pods of a node keep the count that stood at the beginning.
pub(crate) fn sort(pods: &mut [Arc<Pod>], by_node: &BTreeMap<String, usize>, now: Timestamp) {
    pods.sort_by(|one, other| before_crowd(one, other).then_with(|| after_crowd(one, other, now)));
    let mut left = by_node.clone();
    let mut ranked: Vec<(Arc<Pod>, usize)> = pods
        .iter()
        .map(|pod| {
            let count = left.get_mut(node_of(pod));
            let crowd = count.as_deref().copied().unwrap_or(0);
            if let Some(count) = count {
                *count = count.saturating_sub(1);
            }
            (pod.clone(), crowd)
        })
        .collect();
    ranked.sort_by(|(one, one_crowd), (other, other_crowd)| {
        before_crowd(one, other)
            .then_with(|| other_crowd.cmp(one_crowd))
            .then_with(|| after_crowd(one, other, now))
    });
    for (place, (pod, _)) in pods.iter_mut().zip(ranked) {
        *place = pod;
    }
}

/// The criteria that come before how crowded the node is.
fn before_crowd(one: &Pod, other: &Pod) -> Ordering {
    let is_assigned = |pod: &Pod| !node_of(pod).is_empty();
    is_assigned(one)
        .cmp(&is_assigned(other))
        .then_with(|| phase_rank(one).cmp(&phase_rank(other)))
        .then_with(|| is_ready(one).cmp(&is_ready(other)))
        .then_with(|| deletion_cost(one).cmp(&deletion_cost(other)))
}

/// The criteria that come after it.
fn after_crowd(one: &Pod, other: &Pod, now: Timestamp) -> Ordering {
    by_ready_time(one, other, now)
        .then_with(|| restarts_of(other).cmp(&restarts_of(one)))
        .then_with(|| by_age(created(one), created(other), now))
        .then_with(|| one.metadata.uid.cmp(&other.metadata.uid))
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase_of(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(DELETION_COST))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|at| at.0)
}

/// Two ready pods: the one that is ready for a shorter time goes first.
fn by_ready_time(one: &Pod, other: &Pod, now: Timestamp) -> Ordering {
    if !(is_ready(one) && is_ready(other)) {
        return Ordering::Equal;
    }
    let since = |pod: &Pod| {
        condition(pod, "Ready").and_then(|one| one.last_transition_time.as_ref()).map(|at| at.0)
    };
    by_age(since(one), since(other), now)
}

/// The younger first, unknown ages before all. Ages count by their order of magnitude, so that
/// among pods of about the same age chance (the uid) decides, not the second they started in.
fn by_age(one: Option<Timestamp>, other: Option<Timestamp>, now: Timestamp) -> Ordering {
    match (one, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(one), Some(other)) if one == other => Ordering::Equal,
        (Some(one), Some(other)) => magnitude(one, now).cmp(&magnitude(other, now)),
    }
}

fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let nanos = now.as_nanosecond() - since.as_nanosecond();
    if nanos > 0 { (nanos as f64).log2() as i64 } else { -1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, pod};
    use serde_json::{Value, json};

    /// `first` must go before `second`, whatever their uids.
    fn assert_order(first: Value, second: Value, related: &[Arc<Pod>]) {
        for (uid_of_first, uid_of_second) in [("a", "b"), ("b", "a")] {
            let one = pod(uid_of_first, first.clone());
            let other = pod(uid_of_second, second.clone());
            let mut pods = vec![other, one.clone()];
            sort(&mut pods, &pods_by_node(related), at(100_000));
            assert_eq!(pods[0].metadata.uid, one.metadata.uid, "{first} before {second}");
        }
    }

    #[test]
    fn the_criteria_in_their_order() {
        let ready = |since: i64| json!({"node": "n", "phase": "Running", "ready": since});
        let with = |mut base: Value, key: &str, value: Value| {
            base[key] = value;
            base
        };
        // Each row's first pod is worse by one criterion and better by all later ones.
        assert_order(json!({"cost": 9}), ready(0), &[]);
        assert_order(json!({"node": "n", "phase": "Pending", "cost": 9}), ready(0), &[]);
        assert_order(json!({"node": "n", "phase": "Running", "cost": 9}), ready(0), &[]);
        assert_order(
            with(ready(0), "cost", json!(-1)),
            with(ready(90_000), "restarts", json!(5)),
            &[],
        );
        assert_order(ready(90_000), with(ready(0), "restarts", json!(5)), &[]);
        assert_order(with(ready(0), "restarts", json!(5)), ready(0), &[]);
        assert_order(
            with(ready(0), "created", json!(90_000)),
            with(ready(0), "created", json!(0)),
            &[],
        );
    }

    #[test]
    fn pods_that_double_up_go_first() {
        let on = |node: &str| json!({"node": node, "phase": "Running", "ready": 0});
        let related: Vec<_> = [("x", "a"), ("y", "a"), ("z", "b")]
            .iter()
            .map(|(uid, node)| pod(uid, on(node)))
            .collect();
        assert_order(on("a"), on("b"), &related);
    }

    /// C8: nine pods, three on each of three nodes; taking away six leaves one on each.
    #[test]
    fn nine_on_three_nodes_become_one_on_each() {
        let mut left: Vec<_> = (0..9)
            .map(|number| {
                let node = format!("w{}", number % 3);
                pod(
                    &format!("uid{number}"),
                    json!({"node": node, "phase": "Running", "ready": number * 7}),
                )
            })
            .collect();
        let doomed = super::super::plan::choose(&left, &left.clone(), 6, at(1_000));
        left.retain(|pod| !doomed.iter().any(|one| one.metadata.uid == pod.metadata.uid));
        let nodes: std::collections::BTreeSet<_> = left.iter().map(|pod| node_of(pod)).collect();
        assert_eq!((left.len(), nodes.len()), (3, 3));
    }
}

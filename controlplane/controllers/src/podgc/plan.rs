//! Which pods nobody else will remove. Pure.
//!
//! Owns: the three reasons. Must not know: the API. A newcomer's trap: the limit on pods that are over
//! spares the youngest.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kijabi_client::time::millis_between;

use crate::pods::{is_over, node_of};

/// A node must be missing for so long before its pods are removed.
const QUARANTINE_MS: i64 = 40_000;
/// So many pods that are over may stay (`--terminated-pod-gc-threshold`).
const OVER_MAX: usize = 12_500;

/// Why a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its node is gone.
    NodeGone,
    /// It was deleted before it had a node, so no node will end it.
    NeverPlaced,
    /// Too many pods are over.
    TooManyOver,
}

/// A pod to remove.
#[derive(Clone, Debug)]
pub(crate) struct Doomed {
    pub(crate) pod: Arc<Pod>,
    pub(crate) why: Why,
}

/// Notes since when each node that pods name has been missing.
pub(crate) fn note_missing(
    missing_since: &mut BTreeMap<String, Timestamp>,
    pods: &[Arc<Pod>],
    is_there: impl Fn(&str) -> bool,
    now: Timestamp,
) {
    let mut still = BTreeMap::new();
    for pod in pods {
        let node = node_of(pod);
        if !node.is_empty() && !still.contains_key(node) && !is_there(node) {
            still.insert(node.to_owned(), missing_since.get(node).copied().unwrap_or(now));
        }
    }
    *missing_since = still;
}

/// The pods to remove now.
pub(crate) fn plan(
    pods: &[Arc<Pod>],
    missing_since: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Vec<Doomed> {
    let is_gone = |node: &str| {
        missing_since.get(node).is_some_and(|since| millis_between(*since, now) >= QUARANTINE_MS)
    };
    let mut doomed = Vec::new();
    let mut over = Vec::new();
    for pod in pods {
        let node = node_of(pod);
        if !node.is_empty() && is_gone(node) {
            doomed.push(Doomed { pod: pod.clone(), why: Why::NodeGone });
        } else if node.is_empty() && pod.metadata.deletion_timestamp.is_some() {
            doomed.push(Doomed { pod: pod.clone(), why: Why::NeverPlaced });
        } else if is_over(pod) {
            over.push(pod.clone());
        }
    }
    over.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0));
    let excess = over.len().saturating_sub(OVER_MAX);
    let too_many = over.into_iter().take(excess);
    doomed.extend(too_many.map(|pod| Doomed { pod, why: Why::TooManyOver }));
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, pod};
    use serde_json::json;

    #[test]
    fn who_goes_and_when() {
        let pods = [
            pod("on-gone", json!({"node": "gone", "phase": "Running"})),
            pod("on-there", json!({"node": "there", "phase": "Running"})),
            pod("deleted-unplaced", json!({"phase": "Pending", "deleted": 1})),
            pod("unplaced", json!({"phase": "Pending"})),
            pod("over", json!({"node": "there", "phase": "Succeeded"})),
        ];
        let mut missing = BTreeMap::new();
        let mut told = |second: i64| {
            note_missing(&mut missing, &pods, |node| node == "there", at(second));
            let doomed = plan(&pods, &missing, at(second));
            doomed
                .iter()
                .map(|one| format!("{} {:?}", one.pod.metadata.uid.as_ref().unwrap(), one.why))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(100), ["deleted-unplaced NeverPlaced"]);
        assert_eq!(told(139), ["deleted-unplaced NeverPlaced"]);
        assert_eq!(told(140), ["on-gone NodeGone", "deleted-unplaced NeverPlaced"]);
    }

    #[test]
    fn the_oldest_of_too_many_pods_that_are_over_go() {
        let pods: Vec<_> = (0..OVER_MAX + 2)
            .map(|number| {
                pod(
                    &format!("{number}"),
                    json!({"node": "n", "phase": "Failed", "created": number}),
                )
            })
            .collect();
        let doomed = plan(&pods, &BTreeMap::new(), at(0));
        let uids: Vec<_> = doomed.iter().map(|one| one.pod.metadata.uid.clone().unwrap()).collect();
        assert_eq!(uids, ["0", "1"]);
    }
}

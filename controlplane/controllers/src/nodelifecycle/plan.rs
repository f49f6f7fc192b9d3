//! What a node's silence and conditions mean for its conditions and taints. Pure.
//!
//! Owns: grace periods and which condition makes which taint. Must not know: the API. A newcomer's
//! trap: if no node at all is heard of, it is more likely us than them, and nothing is evicted.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kijabi_client::time::{millis_between, whole_seconds};

/// A node that reported before may be silent for so long (`--node-monitor-grace-period`).
const GRACE_MS: i64 = 50_000;
/// A node that never reported may take so long (`--node-startup-grace-period`).
const STARTUP_GRACE_MS: i64 = 60_000;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// Which condition, in which status, makes which NoSchedule taint.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// What was last heard of a node, and when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    heartbeat: Option<Time>,
    renewed: Option<Timestamp>,
    pub(crate) at: Timestamp,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    WriteConditions(Vec<NodeCondition>),
    NoteNotReady,
    MarkPodsNotReady,
    WriteTaints(Vec<Taint>),
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the node says it is ready.
pub(crate) fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Takes note of a new heartbeat or a renewed Lease.
pub(crate) fn listen(
    known: Option<&Heard>,
    node: &Node,
    lease: Option<&Lease>,
    now: Timestamp,
) -> Heard {
    let ready = condition(node, "Ready");
    let heartbeat = ready.and_then(|ready| ready.last_heartbeat_time.clone());
    let renewed = lease
        .and_then(|lease| lease.spec.as_ref())
        .and_then(|spec| spec.renew_time.as_ref())
        .map(|at| at.0);
    let created = node.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let at = match known {
        None if ready.is_none() => created.unwrap_or(now),
        None => now,
        Some(known) if known.heartbeat != heartbeat || known.renewed < renewed => now,
        Some(known) => known.at,
    };
    Heard { heartbeat, renewed, at }
}

/// The steps for one node that was last heard of at `heard`.
pub(crate) fn plan(
    node: &Node,
    heard: Timestamp,
    all_are_silent: bool,
    now: Timestamp,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut node = node.clone();
    let was_ready = is_ready(&node);
    let grace = if condition(&node, "Ready").is_some() { GRACE_MS } else { STARTUP_GRACE_MS };
    if millis_between(heard, now) > grace {
        let conditions = unknown(&node, now);
        let status = node.status.get_or_insert_default();
        if status.conditions.as_ref() != Some(&conditions) {
            status.conditions = Some(conditions.clone());
            steps.push(Step::WriteConditions(conditions));
        }
    }
    if was_ready && !is_ready(&node) {
        steps.push(Step::NoteNotReady);
    }
    let is_reported = condition(&node, "Ready").is_some();
    if is_reported && !is_ready(&node) {
        steps.push(Step::MarkPodsNotReady);
    }
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let wanted = taints(&node, &present, all_are_silent, now);
    if wanted != present && !matches!(steps.first(), Some(Step::WriteConditions(_))) {
        steps.push(Step::WriteTaints(wanted));
    }
    steps
}

/// The conditions with those the node should report turned unknown.
fn unknown(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let mut all =
        node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    for type_ in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match all.iter_mut().find(|condition| condition.type_ == type_) {
            None => all.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(whole_seconds(now)),
            }),
            Some(condition) if condition.status != "Unknown" => {
                "Unknown".clone_into(&mut condition.status);
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(whole_seconds(now));
            }
            Some(_) => {}
        }
    }
    all
}

/// The taints the node should have; those that are not ours stay as they are.
///
/// Differs from Kubernetes: nodes are tainted for eviction at once, not at a rate for each zone; only
/// when no node at all is ready is nothing evicted.
fn taints(node: &Node, present: &[Taint], all_are_silent: bool, now: Timestamp) -> Vec<Taint> {
    let status_of = |type_: &str| condition(node, type_).map(|condition| condition.status.as_str());
    let mut wanted: Vec<(&str, &str)> = TAINTS
        .iter()
        .filter(|(type_, status, _)| status_of(type_) == Some(status))
        .map(|(_, _, key)| (*key, NO_SCHEDULE))
        .collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    if !all_are_silent {
        match status_of("Ready") {
            Some("False") => wanted.push((NOT_READY, NO_EXECUTE)),
            Some("Unknown") => wanted.push((UNREACHABLE, NO_EXECUTE)),
            _ => {}
        }
    }
    let is_ours = |taint: &Taint| match taint.effect.as_str() {
        NO_SCHEDULE => {
            taint.key == UNSCHEDULABLE || TAINTS.iter().any(|(_, _, key)| *key == taint.key)
        }
        NO_EXECUTE => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    };
    // A node that has not reported yet keeps the taint it was registered with.
    let waits = status_of("Ready").is_none();
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut all: Vec<Taint> = present
        .iter()
        .filter(|taint| !is_ours(taint) || is_wanted(taint) || (waits && taint.key == NOT_READY))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !all.iter().any(|taint| taint.key == key && taint.effect == effect) {
            all.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(whole_seconds(now)),
                value: None,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, time};
    use serde_json::{Value, json};

    fn node(ready: &str, taints: Value, unschedulable: bool) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n", "creationTimestamp": time(0)},
            "spec": {"taints": taints, "unschedulable": unschedulable},
            "status": {"conditions": [
                {"type": "Ready", "status": ready, "lastHeartbeatTime": time(0)},
                {"type": "MemoryPressure", "status": "False"}]}}))
        .unwrap()
    }

    fn told(steps: &[Step]) -> Vec<String> {
        let tell = |step: &Step| match step {
            Step::WriteConditions(all) => {
                let each: Vec<_> =
                    all.iter().map(|one| format!("{}={}", one.type_, one.status)).collect();
                format!("conditions {}", each.join(" "))
            }
            Step::NoteNotReady => "note".to_owned(),
            Step::MarkPodsNotReady => "pods".to_owned(),
            Step::WriteTaints(all) => {
                let each: Vec<_> = all
                    .iter()
                    .map(|one| {
                        format!(
                            "{}:{}",
                            one.key.trim_start_matches("node.kubernetes.io/"),
                            one.effect
                        )
                    })
                    .collect();
                format!("taints {}", each.join(" "))
            }
        };
        steps.iter().map(tell).collect()
    }

    #[test]
    fn a_silent_node_becomes_unknown_then_unreachable() {
        let ready = node("True", json!([]), false);
        assert!(plan(&ready, at(0), false, at(50)).is_empty());
        let steps = plan(&ready, at(0), false, at(51));
        assert_eq!(
            told(&steps),
            [
                "conditions Ready=Unknown MemoryPressure=Unknown DiskPressure=Unknown PIDPressure=Unknown",
                "note",
                "pods"
            ]
        );
        // SYNC-1: what follows is planned from what was written, so a crash in between loses nothing.
        let mut after = ready;
        if let Step::WriteConditions(conditions) = &steps[0] {
            after.status.as_mut().unwrap().conditions = Some(conditions.clone());
        }
        assert_eq!(
            told(&plan(&after, at(0), false, at(56))),
            ["pods", "taints unreachable:NoSchedule unreachable:NoExecute"]
        );
        assert_eq!(
            told(&plan(&after, at(0), true, at(56))),
            ["pods", "taints unreachable:NoSchedule"]
        );
    }

    #[test]
    fn conditions_and_cordon_make_taints_and_others_taints_stay() {
        let own = json!([{"key": "mine", "effect": "NoSchedule"}]);
        for (ready, cordoned, expected) in [
            ("False", false, "taints mine:NoSchedule not-ready:NoSchedule not-ready:NoExecute"),
            ("True", true, "taints mine:NoSchedule unschedulable:NoSchedule"),
        ] {
            let steps = told(&plan(&node(ready, own.clone(), cordoned), at(0), false, at(1)));
            assert_eq!(steps.last().unwrap(), expected);
        }
        let recovered = json!([{"key": UNREACHABLE, "effect": "NoExecute"}, {"key": "mine", "effect": "NoSchedule"}]);
        assert_eq!(
            told(&plan(&node("True", recovered, false), at(0), false, at(1))),
            ["taints mine:NoSchedule"]
        );
    }

    #[test]
    fn a_renewed_lease_or_a_new_heartbeat_is_a_sign_of_life() {
        let lease = |second: i64| -> Lease {
            serde_json::from_value(json!({"spec": {"renewTime": at(second).to_string()}})).unwrap()
        };
        let node = node("True", json!([]), false);
        let first = listen(None, &node, Some(&lease(1)), at(10));
        assert_eq!(first.at, at(10));
        assert_eq!(listen(Some(&first), &node, Some(&lease(1)), at(20)).at, at(10));
        assert_eq!(listen(Some(&first), &node, Some(&lease(2)), at(20)).at, at(20));
        let mut beating = node;
        beating.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].last_heartbeat_time =
            Some(whole_seconds(at(15)));
        assert_eq!(listen(Some(&first), &beating, Some(&lease(1)), at(20)).at, at(20));
    }

    #[test]
    fn a_node_that_never_reported_has_its_own_grace_and_keeps_its_first_taint() {
        let registered: Node = serde_json::from_value(json!({
            "metadata": {"name": "n", "creationTimestamp": time(0)},
            "spec": {"taints": [{"key": NOT_READY, "effect": NO_SCHEDULE}]}}))
        .unwrap();
        let heard = listen(None, &registered, None, at(5));
        assert_eq!(heard.at, at(0));
        assert!(plan(&registered, heard.at, false, at(60)).is_empty());
        let steps = plan(&registered, heard.at, false, at(61));
        assert!(told(&steps)[0].starts_with("conditions Ready=Unknown"), "{steps:?}");
    }
}

//! Short ways to write objects in tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// A point in time, in seconds.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The same as an API object carries it.
pub(crate) fn time(second: i64) -> Value {
    json!(at(second).to_string())
}

/// A pod `pod-<uid>`. `extra`: node, phase, ready (since), cost, restarts, created, labels, deleted,
/// owner (uid of its ReplicaSet), ip.
pub(crate) fn pod(uid: &str, extra: Value) -> Arc<Pod> {
    let get = |key: &str| extra.get(key).cloned();
    let second = |key: &str| get(key).and_then(|value| value.as_i64());
    let cost = get("cost")
        .map(|cost| json!({"controller.kubernetes.io/pod-deletion-cost": cost.to_string()}));
    let owner = get("owner").map(|owner| {
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": owner, "controller": true}])
    });
    let ready = second("ready").map(
        |since| json!([{"type": "Ready", "status": "True", "lastTransitionTime": time(since)}]),
    );
    let restarts = json!([{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": second("restarts").unwrap_or(0)}]);
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {
                "namespace": "default", "name": format!("pod-{uid}"), "uid": uid,
                "labels": get("labels"), "annotations": cost, "ownerReferences": owner,
                "creationTimestamp": time(second("created").unwrap_or(0)),
                "deletionTimestamp": second("deleted").map(time),
            },
            "spec": {"nodeName": get("node"), "containers": []},
            "status": {"phase": get("phase"), "conditions": ready, "containerStatuses": restarts,
                "podIP": get("ip")},
        }))
        .unwrap(),
    )
}

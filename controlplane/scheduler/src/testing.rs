//! Short ways to write pods, nodes and clusters in tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kijabi_client::Key;
use kube::core::Selector;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::pod::PodInfo;
use crate::schedule::schedule;

/// A node with 4 cpus, 4 GiB and room for 110 pods. `extra`: labels, taints, allocatable.
pub(crate) fn node(name: &str, extra: Value) -> Node {
    let room = json!({"cpu": "4", "memory": "4Gi", "pods": "110", "ephemeral-storage": "10Gi"});
    let or = |key: &str, default: Value| extra.get(key).cloned().unwrap_or(default);
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": or("labels", json!({}))},
        "spec": {"taints": or("taints", json!([])), "unschedulable": or("unschedulable", json!(false))},
        "status": {"allocatable": or("allocatable", room)},
    }))
    .unwrap()
}

/// A pod in `default` with the uid `uid-<name>`. `extra`: labels, owner, terminating, requests
/// (or cpu alone), all else goes into the spec.
pub(crate) fn pod(name: &str, extra: Value) -> Arc<PodInfo> {
    let mut spec = extra.as_object().cloned().unwrap_or_default();
    let mut take = |key: &str| spec.remove(key);
    let labels = take("labels").unwrap_or(json!({}));
    let owner = take("owner").map(|owner| {
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "u", "controller": true}])
    });
    let deleted = take("terminating").map(|_| json!("2026-01-01T00:00:00Z"));
    let cpu = take("cpu").map(|cpu| json!({ "cpu": cpu }));
    let requests = take("requests").or(cpu).unwrap_or(json!({}));
    spec.insert(
        "containers".to_owned(),
        json!([{"name": "c", "resources": {"requests": requests}}]),
    );
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"),
            "labels": labels, "ownerReferences": owner, "deletionTimestamp": deleted},
        "spec": spec,
    }))
    .unwrap();
    PodInfo::compile(&pod)
}

/// A cluster and a fixed source of chance.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    chance: u64,
}

impl World {
    pub(crate) fn of(nodes: &[Node]) -> Self {
        let mut cluster = Cluster::default();
        for node in nodes {
            cluster.upsert_node(node);
        }
        Self { cluster, chance: 1 }
    }

    pub(crate) fn seeded(mut self, seed: u64) -> Self {
        self.chance = seed + 1;
        self
    }

    /// Schedules and assumes the pod; the node's name, or the message.
    pub(crate) fn place(&mut self, pod: &Arc<PodInfo>) -> Result<String, String> {
        let chance = &mut self.chance;
        let mut random = |below: u64| {
            *chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*chance >> 33) % below
        };
        let node =
            schedule(pod, &mut self.cluster, &mut random).map_err(|refused| refused.message)?;
        self.cluster.assume(pod.clone(), &node);
        Ok(node)
    }

    pub(crate) fn cordon(&mut self, name: &str) {
        let slot = self.cluster.find(name).unwrap();
        let labels = json!(self.cluster.node(slot).labels);
        self.cluster.upsert_node(&node(name, json!({"labels": labels, "unschedulable": true})));
    }

    pub(crate) fn own(&mut self, replica_set: &str, labels: Value) {
        let labels: std::collections::BTreeMap<String, String> =
            serde_json::from_value(labels).unwrap();
        let selector: Selector = labels.into_iter().collect();
        self.cluster.owners.insert("ReplicaSet", Key::new("default", replica_set), selector);
    }

    pub(crate) fn pods_by_node(&mut self) -> Vec<(&str, usize)> {
        self.cluster.order();
        let mut all: Vec<_> = self
            .cluster
            .slots()
            .map(|slot| self.cluster.node(slot))
            .map(|node| (node.name.as_str(), node.pods.len()))
            .collect();
        all.sort_unstable();
        all
    }
}

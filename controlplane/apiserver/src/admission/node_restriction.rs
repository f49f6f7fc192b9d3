//! NodeRestriction: a node agent changes its own node, its own pods and its own lease only.
//!
//! Owns: what of them it may change. Must not know: what it may read (`authz/node.rs`). A
//! newcomer's trap: labels decide where secrets-bearing pods are scheduled, so an agent must not be
//! able to label or taint itself into getting them.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use super::{Attributes, ObjectAt, Objects, Operation, Plugin};
use crate::authz::names_another_object;
use crate::status::ApiError;
use crate::user::NODES;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
/// Labels below Kubernetes' domains that an agent may set on its node.
const NODE_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
];
const NODE_LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The plugin.
pub(super) struct NodeRestriction {
    objects: Arc<dyn Objects>,
}

impl NodeRestriction {
    pub(super) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// An eviction names a pod that is not part of the request.
    async fn check_eviction(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        let Some(node) = attributes.user.node() else { return Ok(()) };
        let (namespace, name) = (attributes.namespace, attributes.name);
        let at = ObjectAt { group: "", plural: "pods", namespace, name };
        let pod = self.objects.get_live(at).await?;
        let Some(pod) = pod else { return Err(ApiError::not_found(attributes.resource(), name)) };
        if pod["spec"]["nodeName"] == node {
            return Ok(());
        }
        let why = format!("node {node:?} can only evict pods with spec.nodeName set to itself");
        Err(attributes.forbidden(&why))
    }
}

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let checked = check(attributes, Some(object));
        let is_eviction = (attributes.kind.plural, attributes.subresource) == ("pods", "eviction");
        if checked.is_ok() && is_eviction {
            return Box::pin(self.check_eviction(attributes));
        }
        Box::pin(std::future::ready(checked))
    }

    fn validate<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let is_delete = attributes.operation == Operation::Delete;
        let outcome = if is_delete { check(attributes, object) } else { Ok(()) };
        Box::pin(std::future::ready(outcome))
    }
}

fn check(attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), ApiError> {
    if !attributes.user.is_in(NODES) {
        return Ok(());
    }
    let Some(node) = attributes.user.node() else {
        let why = format!("could not determine node from user {:?}", attributes.user.name);
        return Err(attributes.forbidden(&why));
    };
    let refused = match (attributes.kind.group, attributes.kind.plural) {
        ("", "pods") => pod(attributes, node, object),
        ("", "nodes") => own_node(attributes, node, object),
        ("coordination.k8s.io", "leases") => lease(attributes, node, object),
        _ => None,
    };
    refused.map_or(Ok(()), |why| Err(attributes.forbidden(&why)))
}

fn is_on(pod: Option<&Value>, node: &str) -> bool {
    pod.is_none_or(|pod| pod["spec"]["nodeName"] == node)
}

fn pod(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Option<String> {
    let own =
        |what: &str| format!("node {node:?} can only {what} with spec.nodeName set to itself");
    match (attributes.subresource, attributes.operation) {
        ("", Operation::Create) => created_pod(node, object?),
        ("", Operation::Delete) => {
            let stored = attributes.old.or(object);
            (!is_on(stored, node)).then(|| own("delete pods"))
        }
        ("status", Operation::Update) => {
            if !is_on(attributes.old, node) {
                return Some(own("update pod status for pods"));
            }
            let (old, new) = (attributes.old?, object?);
            (!same(&old["metadata"]["labels"], &new["metadata"]["labels"]))
                .then(|| format!("node {node:?} cannot update labels through pod status"))
        }
        ("eviction", Operation::Delete) => {
            (!is_on(attributes.old.or(object), node)).then(|| own("evict pods"))
        }
        // Which pod it is about is looked up after this.
        ("eviction", Operation::Create) => None,
        ("", _) => Some(format!("unexpected operation on pods by node {node:?}")),
        (other, _) => Some(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        )),
    }
}

fn created_pod(node: &str, pod: &Value) -> Option<String> {
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        return Some(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if !is_on(Some(pod), node) {
        return Some(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    let owners = pod["metadata"]["ownerReferences"].as_array();
    for owner in owners.into_iter().flatten() {
        let is_self = owner["kind"] == "Node" && owner["name"] == node;
        if !is_self {
            return Some(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
    }
    names_another_object(&pod["spec"])
        .map(|what| format!("node {node:?} can not create pods that reference {what}"))
}

fn own_node(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Option<String> {
    let name = match attributes.name {
        "" => object?["metadata"]["name"].as_str().unwrap_or_default(),
        name => name,
    };
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let new = object?;
    let labels = |node: Option<&Value>| {
        node.and_then(|node| node["metadata"]["labels"].as_object().cloned()).unwrap_or_default()
    };
    let (was, is) = (labels(attributes.old), labels(Some(new)));
    let changed = was.keys().chain(is.keys()).filter(|key| was.get(*key) != is.get(*key));
    let mut forbidden: Vec<&str> =
        changed.map(String::as_str).filter(|label| is_restricted(label)).collect();
    forbidden.sort_unstable();
    forbidden.dedup();
    match attributes.operation {
        Operation::Create => {
            if !forbidden.is_empty() {
                let list = forbidden.join(", ");
                return Some(format!(
                    "node {node:?} is not allowed to set the following labels: {list}"
                ));
            }
            let owned =
                new["metadata"]["ownerReferences"].as_array().is_some_and(|o| !o.is_empty());
            owned.then(|| format!("node {node:?} is not allowed to set ownerReferences"))
        }
        Operation::Update => {
            let old = attributes.old?;
            if !same(&old["metadata"]["ownerReferences"], &new["metadata"]["ownerReferences"]) {
                return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            if !same(&old["spec"]["taints"], &new["spec"]["taints"]) {
                return Some(format!("node {node:?} is not allowed to modify taints"));
            }
            (!forbidden.is_empty()).then(|| {
                let list = forbidden.join(", ");
                format!("is not allowed to modify labels: {list}")
            })
        }
        Operation::Delete => None,
    }
}

/// Labels below Kubernetes' own domains, but for those that describe the machine.
fn is_restricted(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return false };
    let below = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    if below("node-restriction.kubernetes.io") {
        return true;
    }
    (below("kubernetes.io") || below("k8s.io"))
        && !NODE_LABELS.contains(&label)
        && !NODE_LABEL_DOMAINS.iter().any(|allowed| below(allowed))
}

fn lease(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Option<String> {
    if attributes.namespace != LEASES {
        return Some(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    let name = match attributes.name {
        "" => object?["metadata"]["name"].as_str().unwrap_or_default(),
        name => name,
    };
    (name != node)
        .then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

/// Equal, where absent, null and empty are one.
fn same(a: &Value, b: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    a == b || (is_empty(a) && is_empty(b))
}

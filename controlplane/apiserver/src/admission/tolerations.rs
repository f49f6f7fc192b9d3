//! DefaultTolerationSeconds and TaintNodesByCondition: pods outlive a short absence of their node,
//! and a new node gets no pods before it is ready.
//!
//! Owns: those two defaults. Must not know: who taints nodes later. A newcomer's trap: a toleration
//! with an empty key or effect covers all keys or effects, so nothing is added beside it.

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use crate::status::ApiError;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const SECONDS: i64 = 300;

/// The plugin for pods.
pub(super) struct DefaultTolerationSeconds;

/// The plugin for nodes.
pub(super) struct TaintNodesByCondition;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let writes = attributes.operation != Operation::Delete;
        if writes && attributes.is_object("", "pods") && object["spec"].is_object() {
            for key in [NOT_READY, UNREACHABLE] {
                tolerate(&mut object["spec"], key);
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let creates = attributes.operation == Operation::Create;
        if creates && attributes.is_object("", "nodes") {
            taint(object);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn tolerate(spec: &mut Value, key: &str) {
    let covers = |toleration: &Value| {
        let text = |field: &str| toleration[field].as_str().unwrap_or_default().to_owned();
        let (its_key, its_effect) = (text("key"), text("effect"));
        (its_key.is_empty() || its_key == key)
            && (its_effect.is_empty() || its_effect == "NoExecute")
    };
    if spec["tolerations"].as_array().into_iter().flatten().any(covers) {
        return;
    }
    let added = json!({
        "key": key,
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": SECONDS,
    });
    match spec.get_mut("tolerations").and_then(Value::as_array_mut) {
        Some(list) => list.push(added),
        None => spec["tolerations"] = json!([added]),
    }
}

fn taint(node: &mut Value) {
    if node["spec"].is_null() {
        node["spec"] = json!({});
    }
    let Some(spec) = node["spec"].as_object_mut() else { return };
    let taints = spec.entry("taints").or_insert_with(|| json!([]));
    if taints.is_null() {
        *taints = json!([]);
    }
    let Some(list) = taints.as_array_mut() else { return };
    let has = list.iter().any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule");
    if !has {
        list.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

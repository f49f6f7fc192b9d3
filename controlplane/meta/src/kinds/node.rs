//! Nodes.
//!
//! Owns: the rules of core/v1 Node. Must not know: what the agent reports or admission adds. A
//! newcomer's trap: roles are labels, and a node's capacity may change through the status only.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::{Change, Look, Repeats, same};
use super::show::{self, NONE, UNKNOWN, or};
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Nodes.
#[derive(Debug)]
pub struct Node;

impl Strategy for Node {
    fn default(&self, object: &mut Value) {
        let status = object.child("status");
        if !status.has("allocatable") && status.has("capacity") {
            let capacity = status["capacity"].clone();
            status.put("allocatable", capacity);
        }
        for taint in object.child("spec").items_mut("taints") {
            if taint.get("timeAdded").is_some_and(Value::is_null) {
                taint.drop_field("timeAdded");
            }
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let spec = object.get_or_null("spec");
        let mut errors = taints(spec);
        errors.extend(resources(object));
        errors.extend(pod_cidrs(spec));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let (spec, old_spec) = (object.get_or_null("spec"), old.get_or_null("spec"));
        let mut errors = addresses(object);
        let cidrs = (spec.list("podCIDRs"), old_spec.list("podCIDRs"));
        if !cidrs.1.is_empty() && cidrs.0 != cidrs.1 {
            errors.push(FieldError::forbidden(
                "spec.podCIDRs",
                "node updates may not change podCIDR except from \"\" to valid",
            ));
        }
        errors.extend(resources(object));
        let ids = (spec.text("providerID"), old_spec.text("providerID"));
        if !ids.1.is_empty() && ids.0 != ids.1 {
            errors.push(FieldError::forbidden(
                "spec.providerID",
                "node updates may not change providerID except from \"\" to valid",
            ));
        }
        if !same(spec.get_or_null("taints"), old_spec.get_or_null("taints")) {
            errors.extend(taints(spec));
        }
        if spec.text("externalID") != old_spec.text("externalID") {
            errors.push(FieldError::forbidden("spec.externalID", "may not be updated"));
        }
        errors
    }

    fn validate_status_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_update(object, old)
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let spec = object.get_or_null("spec");
        let mut all = Vec::new();
        if spec.has("configSource") {
            all.push("spec.configSource: the feature is no longer supported".into());
        }
        if !spec.text("externalID").is_empty() {
            let text = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
            all.push(text.into());
        }
        all
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        let unschedulable = object.get_or_null("spec").flag("unschedulable");
        (field == "spec.unschedulable").then(|| unschedulable.to_string())
    }

    fn is_selectable(&self, field: &str) -> bool {
        field == "spec.unschedulable"
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let status = object.get_or_null("status");
        let facts = status.get_or_null("nodeInfo");
        vec![
            show::name(object),
            state(object).into(),
            roles(object).into(),
            show::age(object, now),
            facts.text("kubeletVersion").into(),
            address(status, "InternalIP").into(),
            address(status, "ExternalIP").into(),
            or(facts.text("osImage"), UNKNOWN).into(),
            or(facts.text("kernelVersion"), UNKNOWN).into(),
            or(facts.text("containerRuntimeVersion"), UNKNOWN).into(),
        ]
    }
}

fn state(object: &Value) -> String {
    let conditions = object.get_or_null("status").list("conditions");
    let ready = conditions.iter().rfind(|one| one.text("type") == "Ready");
    let mut text = match ready.map(|one| one.text("status")) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    }
    .to_owned();
    if object.get_or_null("spec").flag("unschedulable") {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(object: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in object.get_or_null("metadata").entries("labels") {
        let role = key.strip_prefix("node-role.kubernetes.io/").unwrap_or("");
        if !role.is_empty() {
            roles.insert(role);
        } else if key == "kubernetes.io/role" {
            roles.extend(value.as_str().filter(|role| !role.is_empty()));
        }
    }
    or(&roles.into_iter().collect::<Vec<_>>().join(","), NONE).into()
}

fn address<'a>(status: &'a Value, kind: &str) -> &'a str {
    let found = status.list("addresses").iter().find(|one| one.text("type") == kind);
    or(found.map_or("", |one| one.text("address")), NONE)
}

fn addresses(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all = object.get_or_null("status").list("addresses");
    let repeats = Repeats::of(all, ToString::to_string);
    for (index, one) in all.iter().enumerate() {
        if repeats.at(index) {
            errors.push(FieldError::duplicate(format!("status.addresses[{index}]"), one));
        }
    }
    errors
}

fn resources(object: &Value) -> Vec<FieldError> {
    let status = object.get_or_null("status");
    let mut errors = Vec::new();
    for list in ["capacity", "allocatable"] {
        for (name, amount) in status.entries(list) {
            let path = format!("status.{list}.{name}");
            errors.extend(super::pod::resource_check::quantity_of(&path, name, amount));
        }
    }
    errors
}

fn pod_cidrs(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all: Vec<_> = spec.list("podCIDRs").iter().filter_map(Value::as_str).collect();
    for (index, value) in all.iter().enumerate() {
        errors.extend(check::cidr(&format!("spec.podCIDRs[{index}]"), value));
    }
    let families = all.iter().filter(|one| one.contains(':')).count();
    if all.len() > 2 || (all.len() == 2 && families != 1) {
        let shown = Value::from(all.clone());
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid("spec.podCIDRs", &shown, detail));
    }
    errors
}

/// What is wrong with a node's taints.
fn taints(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all = spec.list("taints");
    let repeats =
        Repeats::of(all, |one| (one.text("key").to_owned(), one.text("effect").to_owned()));
    for (index, taint) in all.iter().enumerate() {
        let path = format!("spec.taints[{index}]");
        errors.extend(check::qualified_name(&format!("{path}.key"), taint.text("key")));
        let value = taint.text("value");
        errors.extend(check::texts(
            &format!("{path}.value"),
            value,
            crate::name::label_value(value),
        ));
        errors.extend(effect(&format!("{path}.effect"), taint.text("effect"), false));
        if repeats.at(index) {
            let mut error = FieldError::duplicate(path, taint);
            error.message.push_str(": taints must be unique by key and effect pair");
            errors.push(error);
        }
    }
    errors
}

/// The effect of a taint or toleration.
pub(crate) fn effect(path: &str, effect: &str, may_be_empty: bool) -> Vec<FieldError> {
    const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
    match effect {
        "" if may_be_empty => Vec::new(),
        "" => vec![FieldError::required(path, "")],
        other => check::one_of(path, other, EFFECTS),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows() {
        let node = json!({"metadata": {"name": "n", "labels": {
            "node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "False"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian"}}});
        let row = Node.row(&node, Timestamp::UNIX_EPOCH);
        assert_eq!(
            row,
            [
                "n",
                "NotReady,SchedulingDisabled",
                "control-plane,worker",
                "<unknown>",
                "v1.36.0",
                "10.0.0.1",
                "<none>",
                "Debian",
                "<unknown>",
                "<unknown>"
            ]
        );
    }

    #[test]
    fn taints_are_unique_and_known() {
        let node = json!({"spec": {"taints": [
            {"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"},
            {"key": "b", "effect": "Never"}, {"key": "c"}]}});
        let got: Vec<_> = Node.validate_create(&node).iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "spec.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
                "spec.taints[2].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
                "spec.taints[3].effect: Required value",
            ]
        );
    }

    #[test]
    fn what_an_update_may_not_change() {
        let old = json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}});
        let new = json!({"spec": {"podCIDRs": ["10.0.1.0/24"], "providerID": "b"}});
        let got: Vec<_> =
            Node.validate_update(&new, &old).iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
            ]
        );
    }
}

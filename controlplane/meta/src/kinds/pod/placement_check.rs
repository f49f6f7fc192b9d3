//! What is wrong with the fields that say where a pod may run.
//!
//! Owns: the checks on affinity, tolerations, topology spread and scheduling gates. Must not know:
//! nodes. A newcomer's trap: an empty toleration key needs the operator `Exists`.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::check;
use crate::kinds::look::{Look, Repeats};
use crate::kinds::node;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const BAD_OPERATOR: &str = "not a valid selector operator";

/// The `affinity` of a pod.
pub(super) fn affinity(affinity: &Value, path: &str) -> Vec<FieldError> {
    let nodes = affinity.get_or_null("nodeAffinity");
    let at = format!("{path}.nodeAffinity");
    let mut errors = Vec::new();
    if nodes.has(REQUIRED) {
        errors.extend(node_selector(nodes.get_or_null(REQUIRED), &format!("{at}.{REQUIRED}")));
    }
    for (index, term) in nodes.list(PREFERRED).iter().enumerate() {
        let path = format!("{at}.{PREFERRED}[{index}]");
        errors.extend(weight(term, &path));
        let preference = term.get_or_null("preference");
        errors.extend(node_selector_term(preference, &format!("{path}.preference")));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.get_or_null(kind);
        for (index, term) in pods.list(REQUIRED).iter().enumerate() {
            errors.extend(pod_term(term, &format!("{path}.{kind}.{REQUIRED}[{index}]")));
        }
        for (index, term) in pods.list(PREFERRED).iter().enumerate() {
            let path = format!("{path}.{kind}.{PREFERRED}[{index}]");
            errors.extend(weight(term, &path));
            let inner = term.get_or_null("podAffinityTerm");
            errors.extend(pod_term(inner, &format!("{path}.podAffinityTerm")));
        }
    }
    errors
}

fn weight(term: &Value, path: &str) -> Vec<FieldError> {
    let weight = term.int("weight");
    if (1..=100).contains(&weight) {
        return Vec::new();
    }
    let detail = "must be in the range 1-100";
    vec![FieldError::invalid(format!("{path}.weight"), &weight.into(), detail)]
}

/// A node selector: at least one term.
pub(crate) fn node_selector(selector: &Value, path: &str) -> Vec<FieldError> {
    let path = format!("{path}.nodeSelectorTerms");
    let terms = selector.list("nodeSelectorTerms");
    if terms.is_empty() {
        return vec![FieldError::required(path, "must have at least one node selector term")];
    }
    let one = |(index, term)| node_selector_term(term, &format!("{path}[{index}]"));
    terms.iter().enumerate().flat_map(one).collect()
}

fn node_selector_term(term: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, requirement) in term.list("matchExpressions").iter().enumerate() {
        errors.extend(node_requirement(requirement, &format!("{path}.matchExpressions[{index}]")));
    }
    for (index, requirement) in term.list("matchFields").iter().enumerate() {
        errors.extend(field_requirement(requirement, &format!("{path}.matchFields[{index}]")));
    }
    errors
}

fn node_requirement(requirement: &Value, path: &str) -> Vec<FieldError> {
    let values = requirement.list("values");
    let at = format!("{path}.values");
    let mut errors = match requirement.text("operator") {
        "In" | "NotIn" if values.is_empty() => vec![FieldError::required(
            at.clone(),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )],
        "Exists" | "DoesNotExist" if !values.is_empty() => vec![FieldError::forbidden(
            at.clone(),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )],
        "Gt" | "Lt" if values.len() != 1 => vec![FieldError::required(
            at.clone(),
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        )],
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => Vec::new(),
        other => vec![check::invalid(format!("{path}.operator"), other, BAD_OPERATOR)],
    };
    errors.extend(check::qualified_name(&format!("{path}.key"), requirement.text("key")));
    for (index, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        let texts = crate::name::label_value(value);
        errors.extend(check::texts(&format!("{at}[{index}]"), value, texts));
    }
    errors
}

fn field_requirement(requirement: &Value, path: &str) -> Vec<FieldError> {
    let values = requirement.list("values");
    let mut errors = match requirement.text("operator") {
        "In" | "NotIn" if values.len() != 1 => vec![FieldError::required(
            format!("{path}.values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        )],
        "In" | "NotIn" => Vec::new(),
        other => vec![check::invalid(format!("{path}.operator"), other, BAD_OPERATOR)],
    };
    let key = requirement.text("key");
    if key != "metadata.name" {
        let detail = "not a valid field selector key";
        errors.push(check::invalid(format!("{path}.key"), key, detail));
        return errors;
    }
    for (index, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        errors.extend(check::dns_subdomain(&format!("{path}.values[{index}]"), value));
    }
    errors
}

fn pod_term(term: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["labelSelector", "namespaceSelector"] {
        errors.extend(check::label_selector(&format!("{path}.{field}"), term.get_or_null(field)));
    }
    for name in term.list("namespaces").iter().filter_map(Value::as_str) {
        errors.extend(check::dns_label(&format!("{path}.namespace"), name));
    }
    errors.extend(label_keys(term, path, "matchLabelKeys"));
    errors.extend(label_keys(term, path, "mismatchLabelKeys"));
    errors.extend(topology_key(term, path));
    errors
}

fn topology_key(term: &Value, path: &str) -> Vec<FieldError> {
    let key = term.text("topologyKey");
    let path = format!("{path}.topologyKey");
    let mut errors = Vec::new();
    if key.is_empty() {
        errors.push(FieldError::required(path.clone(), "can not be empty"));
    }
    errors.extend(check::qualified_name(&path, key));
    errors
}

fn label_keys(term: &Value, path: &str, field: &str) -> Vec<FieldError> {
    let keys = term.list(field);
    let mut errors = Vec::new();
    if !keys.is_empty() && !term.has("labelSelector") {
        let detail = "must not be specified when labelSelector is not set";
        errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
    }
    for (index, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        errors.extend(check::qualified_name(&format!("{path}.{field}[{index}]"), key));
    }
    errors
}

/// The `tolerations` of a pod.
pub(super) fn tolerations(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, one) in spec.list("tolerations").iter().enumerate() {
        let path = format!("{path}[{index}]");
        let (key, operator, value) = (one.text("key"), one.text("operator"), one.text("value"));
        let at = format!("{path}.operator");
        if !key.is_empty() {
            errors.extend(check::qualified_name(&format!("{path}.key"), key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(check::invalid(at.clone(), operator, detail));
        }
        if one.has("tolerationSeconds") && one.text("effect") != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(check::invalid(format!("{path}.effect"), one.text("effect"), detail));
        }
        match operator {
            "Equal" | "" => {
                let texts = crate::name::label_value(value);
                if !texts.is_empty() {
                    errors.push(check::invalid(at, value, &texts.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(check::invalid(at, value, detail));
            }
            "Exists" => {}
            other => errors.extend(check::one_of(&at, other, &["Equal", "Exists"])),
        }
        errors.extend(node::effect(&format!("{path}.effect"), one.text("effect"), true));
    }
    errors
}

/// The `schedulingGates` of a pod.
pub(super) fn scheduling_gates(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let gates = spec.list("schedulingGates");
    let repeats = Repeats::by(gates, "name");
    for (index, gate) in gates.iter().enumerate() {
        let (path, name) = (format!("{path}[{index}]"), gate.text("name"));
        errors.extend(check::qualified_name(&path, name));
        if repeats.at(index) {
            errors.push(FieldError::duplicate(path, &name.into()));
        }
    }
    errors
}

/// The `topologySpreadConstraints` of a pod.
pub(super) fn spread(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all = spec.list("topologySpreadConstraints");
    let repeats = Repeats::of(all, |one| {
        (one.text("topologyKey").to_owned(), one.text("whenUnsatisfiable").to_owned())
    });
    let positive = |path: String, value: i64| {
        let wrong = value <= 0;
        wrong.then(|| FieldError::invalid(path, &value.into(), "must be greater than zero"))
    };
    for (index, one) in all.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let (key, when) = (one.text("topologyKey"), one.text("whenUnsatisfiable"));
        errors.extend(positive(format!("{path}.maxSkew"), one.int("maxSkew")));
        errors.extend(topology_key(one, &path));
        let whens = ["DoNotSchedule", "ScheduleAnyway"];
        errors.extend(check::one_of(&format!("{path}.whenUnsatisfiable"), when, &whens));
        if repeats.at(index) {
            let path = format!("{path}.{{topologyKey, whenUnsatisfiable}}");
            errors.push(FieldError::duplicate(path, &format!("{{{key}, {when}}}").into()));
        }
        if let Some(domains) = one.int_opt("minDomains") {
            let path = format!("{path}.minDomains");
            errors.extend(positive(path.clone(), domains));
            if when != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
                );
                errors.push(FieldError::invalid(path, &domains.into(), &detail));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if one.has(field) {
                let policies = ["Honor", "Ignore"];
                errors.extend(check::one_of(
                    &format!("{path}.{field}"),
                    one.text(field),
                    &policies,
                ));
            }
        }
        errors.extend(label_keys(one, &path, "matchLabelKeys"));
        let selector = one.get_or_null("labelSelector");
        errors.extend(check::label_selector(&format!("{path}.labelSelector"), selector));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn bad_tolerations() {
        for (toleration, wanted) in [
            (json!({"operator": "Exists"}), vec![]),
            (json!({"key": "a", "value": "b"}), vec![]),
            (
                json!({"value": "b"}),
                vec![
                    "t[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                ],
            ),
            (
                json!({"key": "a", "operator": "Like"}),
                vec![
                    "t[0].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\"",
                ],
            ),
            (
                json!({"key": "a", "tolerationSeconds": 3}),
                vec![
                    "t[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
                ],
            ),
            (
                json!({"key": "a", "effect": "Now"}),
                vec![
                    "t[0].effect: Unsupported value: \"Now\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
                ],
            ),
        ] {
            let got = tolerations(&json!({"tolerations": [toleration]}), "t");
            assert_eq!(shown(&got), wanted, "{toleration}");
        }
    }

    #[test]
    fn bad_affinity() {
        let affinity_of = json!({
            "nodeAffinity": {REQUIRED: {}, PREFERRED: [{"weight": 0, "preference": {
                "matchExpressions": [{"key": "a", "operator": "Gt", "values": []}],
                "matchFields": [{"key": "spec.x", "operator": "In", "values": ["n"]}]}}]},
            "podAntiAffinity": {REQUIRED: [{"labelSelector": {}}]}});
        assert_eq!(
            shown(&affinity(&affinity_of, "a")),
            [
                format!(
                    "a.nodeAffinity.{REQUIRED}.nodeSelectorTerms: Required value: must have at least one node selector term"
                ),
                format!(
                    "a.nodeAffinity.{PREFERRED}[0].weight: Invalid value: 0: must be in the range 1-100"
                ),
                format!(
                    "a.nodeAffinity.{PREFERRED}[0].preference.matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
                ),
                format!(
                    "a.nodeAffinity.{PREFERRED}[0].preference.matchFields[0].key: Invalid value: \"spec.x\": not a valid field selector key"
                ),
                format!(
                    "a.podAntiAffinity.{REQUIRED}[0].topologyKey: Required value: can not be empty"
                ),
                format!(
                    "a.podAntiAffinity.{REQUIRED}[0].topologyKey: Invalid value: \"\": name part must be non-empty"
                ),
                format!(
                    "a.podAntiAffinity.{REQUIRED}[0].topologyKey: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
                ),
            ]
        );
    }

    #[test]
    fn bad_spread() {
        let one = json!({"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
            "minDomains": 2});
        let spec = json!({"topologySpreadConstraints": [one, {"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "ScheduleAnyway"}]});
        assert_eq!(
            shown(&spread(&spec, "s")),
            [
                "s[0].maxSkew: Invalid value: 0: must be greater than zero",
                "s[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
                "s[1].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, ScheduleAnyway}\"",
            ]
        );
    }
}

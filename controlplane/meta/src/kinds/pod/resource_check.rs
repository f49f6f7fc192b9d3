//! What is wrong with limits and requests.
//!
//! Owns: which resource names and amounts are allowed. Must not know: how much a node has. A
//! newcomer's trap: extended resources (`example.com/gpu`) and huge pages cannot be overcommitted,
//! so their request must equal their limit.

use std::collections::BTreeSet;

use serde_json::Value;

use super::resources::{amount, container_requests};
use crate::field::FieldError;
use crate::kinds::check;
use crate::kinds::look::{Look, Repeats};

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const WHOLE: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && crate::name::label_key(&format!("requests.{name}")).is_empty()
}

fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// The name of a resource that a container may have.
fn container_resource(path: &str, name: &str) -> Vec<FieldError> {
    let errors = check::qualified_name(path, name);
    if !errors.is_empty() {
        return errors;
    }
    let refuse = |detail: &str| vec![check::invalid(path, name, detail)];
    let mut errors = Vec::new();
    if !name.contains('/') {
        if !STANDARD.contains(&name) && !is_huge_page(name) {
            errors.extend(refuse("must be a standard resource type or fully qualified"));
        }
        let for_containers = matches!(name, "cpu" | "memory" | "ephemeral-storage");
        if !for_containers && !is_huge_page(name) {
            errors.extend(refuse("must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.extend(refuse("doesn't follow extended resource name standard"));
    }
    errors
}

/// The name of a resource that a quota may limit.
pub(crate) fn quota_resource(path: &str, name: &str) -> Vec<FieldError> {
    let mut errors = check::qualified_name(path, name);
    if errors.is_empty() && !name.contains('/') {
        let huge = is_huge_page(name.strip_prefix("requests.").unwrap_or(name));
        if !STANDARD.contains(&name) && !huge {
            let detail = "must be a standard resource type or fully qualified";
            errors.push(check::invalid(path, name, detail));
            errors.push(check::invalid(path, name, "must be a standard resource for quota"));
        }
    }
    errors
}

/// An amount of a resource: not negative, and whole where parts make no sense.
pub(crate) fn quantity_of(path: &str, name: &str, value: &Value) -> Vec<FieldError> {
    let Some(amount) = amount(value) else { return Vec::new() };
    let mut errors = Vec::new();
    if amount.sign() < 0 {
        errors.push(FieldError::invalid(path, value, check::NOT_NEGATIVE));
    }
    if (WHOLE.contains(&name) || is_extended(name)) && !amount.is_whole() {
        errors.push(FieldError::invalid(path, value, "must be an integer"));
    }
    errors
}

/// The `resources` of a container.
pub(super) fn container(resources: &Value, claims: &BTreeSet<&str>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in resources.entries("limits") {
        let path = format!("{path}.limits[{name}]");
        errors.extend(container_resource(&path, name));
        errors.extend(quantity_of(&path, name, value));
    }
    for (name, value) in resources.entries("requests") {
        let at = format!("{path}.requests[{name}]");
        errors.extend(container_resource(&at, name));
        errors.extend(quantity_of(&at, name, value));
        errors.extend(against_limit(resources, name, value, path));
    }
    let lists = ["limits", "requests"];
    let any = |wanted: fn(&str) -> bool| {
        lists.iter().any(|list| resources.entries(list).iter().any(|(name, _)| wanted(name)))
    };
    if any(is_huge_page) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
    let asked = resources.list("claims");
    let repeats =
        Repeats::of(asked, |one| (one.text("name").to_owned(), one.text("request").to_owned()));
    for (index, claim) in asked.iter().enumerate() {
        let (name, request) = (claim.text("name"), claim.text("request"));
        let path = format!("{path}.claims[{index}]");
        if name.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if repeats.at(index) {
            let key = if request.is_empty() { name.into() } else { format!("{name}/{request}") };
            errors.push(FieldError::duplicate(path, &key.into()));
        } else if !claims.contains(name) {
            errors.push(FieldError::not_found(path, &name.into()));
        }
    }
    errors
}

fn against_limit(resources: &Value, name: &str, value: &Value, path: &str) -> Vec<FieldError> {
    let limits = resources.get_or_null("limits");
    if !limits.has(name) {
        if may_overcommit(name) {
            return Vec::new();
        }
        let detail = "Limit must be set for non overcommitable resources";
        return vec![FieldError::required(format!("{path}.limits"), detail)];
    }
    let limit = limits.get_or_null(name);
    let (Some(asked), Some(most)) = (amount(value), amount(limit)) else { return Vec::new() };
    let refuse = |how: &str| {
        let detail = format!("must be {how} {name} limit of {most}");
        vec![FieldError::invalid(format!("{path}.requests"), value, &detail)]
    };
    if asked != most && !may_overcommit(name) {
        return refuse("equal to");
    }
    if asked > most {
        return refuse("less than or equal to");
    }
    Vec::new()
}

/// The `resources` of a whole pod.
pub(super) fn pod_level(spec: &Value, path: &str) -> Vec<FieldError> {
    if !spec.has("resources") {
        return Vec::new();
    }
    let resources = spec.get_or_null("resources");
    let supported = |name: &str| matches!(name, "cpu" | "memory") || is_huge_page(name);
    let mut errors = Vec::new();
    for list in ["limits", "requests"] {
        for (name, value) in resources.entries(list) {
            let at = format!("{path}.{list}[{name}]");
            if supported(name) {
                errors.extend(quantity_of(&at, name, value));
            } else {
                let names = ["cpu", "hugepages-", "memory"];
                errors.push(FieldError::not_supported(at, &name.into(), &names));
            }
            if list == "requests" && supported(name) {
                errors.extend(against_limit(resources, name, value, path));
            }
        }
    }
    for (name, sum) in container_requests(spec) {
        let asked = resources.get_or_null("requests").get_or_null(&name);
        if amount(asked).is_some_and(|asked| asked < sum) {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            let at = format!("{path}.requests[{name}]");
            errors.push(FieldError::invalid(at, asked, &detail));
        }
    }
    if !resources.list("claims").is_empty() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(format!("{path}.claims"), detail));
    }
    errors
}

/// The `overhead` of a pod.
pub(super) fn overhead(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in spec.entries("overhead") {
        let path = format!("{path}.limits[{name}]");
        errors.extend(container_resource(&path, name));
        errors.extend(quantity_of(&path, name, value));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_rule_has_its_words() {
        for (resources, wanted) in [
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}), vec![]),
            (
                json!({"limits": {"cpu": "-1"}}),
                vec!["r.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"],
            ),
            (
                json!({"limits": {"cpus": "1"}}),
                vec![
                    "r.limits[cpus]: Invalid value: \"cpus\": must be a standard resource type or fully qualified",
                    "r.limits[cpus]: Invalid value: \"cpus\": must be a standard resource for containers",
                ],
            ),
            (
                json!({"limits": {"pods": "1"}}),
                vec![
                    "r.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
                ],
            ),
            (
                json!({"limits": {"example.com/gpu": "500m"}}),
                vec!["r.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer"],
            ),
            (
                json!({"requests": {"example.com/gpu": "1"}}),
                vec![
                    "r.limits: Required value: Limit must be set for non overcommitable resources",
                ],
            ),
            (
                json!({"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}}),
                vec![
                    "r.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2",
                ],
            ),
            (
                json!({"limits": {"hugepages-2Mi": "2Mi"}}),
                vec!["r: Forbidden: HugePages require cpu or memory"],
            ),
            (json!({"claims": [{"name": "c"}]}), vec!["r.claims[0]: Not found: \"c\""]),
        ] {
            let got: Vec<_> = container(&resources, &BTreeSet::new(), "r")
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(got, wanted, "{resources}");
        }
    }
}

//! CPU, memory and the like: rounding, pod-level defaults, the QoS class.
//!
//! Owns: what is worked out from `resources`. Must not know: whether the figures are allowed
//! (`container_check.rs`). A newcomer's trap: one amount has several canonical texts
//! (`1k`, `1E3`), so amounts are compared as amounts, never as texts.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kinds::look::{Change, Look};
use crate::quantity::Quantity;

/// The amount of a quantity field; the schema has refused what is none.
pub(crate) fn amount(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// Rounds limits and requests up to a thousandth.
pub(crate) fn round_up(resources: &mut Value) {
    for list in ["limits", "requests"] {
        let Some(list) = resources.child_if(list).and_then(Value::as_object_mut) else { continue };
        for value in list.values_mut() {
            let rounded =
                amount(value).map(|amount| (amount, Quantity::from_milli(amount.milli())));
            if let Some((amount, rounded)) = rounded
                && amount != rounded
            {
                *value = rounded.to_string().into();
            }
        }
    }
}

fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Requests of the whole pod that are missing: the sum of its containers' requests, or the limit.
pub(crate) fn default_pod_level(spec: &mut Value) {
    if !spec.has("resources") {
        return;
    }
    let sums = container_requests(spec);
    let resources = spec.child("resources");
    let limits = resources.get_or_null("limits").as_object().cloned().unwrap_or_default();
    let mut requests = resources.get_or_null("requests").as_object().cloned().unwrap_or_default();
    for (name, sum) in sums {
        if is_pod_level(&name) && !requests.contains_key(&name) {
            requests.insert(name, sum.to_string().into());
        }
    }
    for (name, limit) in limits {
        if is_pod_level(&name) && !requests.contains_key(&name) {
            requests.insert(name, limit);
        }
    }
    if !requests.is_empty() {
        resources.put("requests", requests);
    }
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(container: &Value) -> Amounts {
    container
        .get_or_null("resources")
        .entries("requests")
        .into_iter()
        .filter_map(|(name, value)| amount(value).map(|amount| (name.to_owned(), amount)))
        .collect()
}

fn add(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        let sum = to.get(name).map_or(*amount, |have| have.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        if to.get(name).is_none_or(|have| have < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// What the containers ask for together: all that run at once, or the largest init step.
pub(crate) fn container_requests(spec: &Value) -> BTreeMap<String, Quantity> {
    let mut sum = Amounts::new();
    for container in spec.list("containers") {
        add(&mut sum, &amounts(container));
    }
    let (mut beside, mut step) = (Amounts::new(), Amounts::new());
    for container in spec.list("initContainers") {
        let mut asked = amounts(container);
        if container.text("restartPolicy") == "Always" {
            add(&mut sum, &asked);
            add(&mut beside, &asked);
            asked.clone_from(&beside);
        } else {
            add(&mut asked, &beside);
        }
        raise(&mut step, &asked);
    }
    raise(&mut sum, &step);
    sum
}

/// The QoS class of a pod that is being created.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    let level = spec.get_or_null("resources");
    let pod_level = computes(level, "limits").len() + computes(level, "requests").len() > 0;
    let all: Vec<&Value> = if pod_level {
        vec![level]
    } else {
        ["containers", "initContainers"]
            .iter()
            .flat_map(|list| spec.list(list))
            .map(|container| container.get_or_null("resources"))
            .collect()
    };
    let (mut any, mut guaranteed) = (false, !all.is_empty());
    for resources in all {
        let (limits, requests) = (computes(resources, "limits"), computes(resources, "requests"));
        any |= !limits.is_empty() || !requests.is_empty();
        guaranteed &= limits.len() == 2 && limits == requests;
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// CPU and memory that are not zero.
fn computes<'a>(resources: &'a Value, list: &str) -> BTreeMap<&'a str, Quantity> {
    resources
        .entries(list)
        .into_iter()
        .filter(|(name, _)| matches!(*name, "cpu" | "memory"))
        .filter_map(|(name, value)| amount(value).map(|amount| (name, amount)))
        .filter(|(_, amount)| !amount.is_zero())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn qos_classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (containers, inits, class) in [
            (json!([{}]), json!([]), "BestEffort"),
            (json!([{"resources": {"limits": {"cpu": "0"}}}]), json!([]), "BestEffort"),
            (json!([{"resources": {"requests": {"cpu": "1"}}}]), json!([]), "Burstable"),
            (json!([{"resources": {"limits": both, "requests": both}}]), json!([]), "Guaranteed"),
            (
                json!([{"resources": {"limits": both, "requests": both}}, {}]),
                json!([]),
                "Burstable",
            ),
            (json!([{"resources": {"limits": both, "requests": both}}]), json!([{}]), "Burstable"),
            (
                json!([{"resources": {"limits": both, "requests": {"cpu": "1", "memory": "1Mi"}}}]),
                json!([]),
                "Burstable",
            ),
        ] {
            let spec = json!({"containers": containers, "initContainers": inits});
            assert_eq!(qos_class(&spec), class, "{spec}");
        }
    }

    #[test]
    fn init_containers_count_as_the_largest_step() {
        let ask = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut beside = ask("100m");
        beside["restartPolicy"] = "Always".into();
        let spec = json!({"containers": [ask("200m"), ask("300m")],
            "initContainers": [beside, ask("2")]});
        assert_eq!(container_requests(&spec)["cpu"].to_string(), "2100m");
    }
}

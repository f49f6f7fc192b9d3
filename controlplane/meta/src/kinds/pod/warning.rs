//! What a pod or template is warned about: it is taken, but likely not meant.
//!
//! Owns: the texts of `Warning` headers. Must not know: errors. A newcomer's trap: a later variable
//! of the same name hides the earlier one, and `kubectl apply` drops one of them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::resources::amount;
use crate::kinds::look::{Look, Repeats};

/// Labels that have newer names: the old one, since when it is old, the new one.
const OLD_LABELS: &[(&str, &str, &str)] = &[
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// Warnings about a new pod.
pub(super) fn pod(object: &Value) -> Vec<String> {
    let name = object.get_or_null("metadata").text("name");
    let mut all = dns_label_is_better(name, "the Pod's hostname");
    all.extend(spec(object.get_or_null("spec"), "spec"));
    all
}

/// Warnings about a kind with a pod template: when it is new, or its spec has changed.
pub(crate) fn with_template(object: &Value, old: Option<&Value>) -> Vec<String> {
    let generation = |one: &Value| one.get_or_null("metadata").int("generation");
    let mut all = Vec::new();
    match old {
        Some(old) if generation(old) == generation(object) => return all,
        Some(_) => {}
        None => {
            let name = object.get_or_null("metadata").text("name");
            all.extend(dns_label_is_better(name, "Pod names and hostnames"));
        }
    }
    let template = object.get_or_null("spec").get_or_null("template").get_or_null("spec");
    all.extend(spec(template, "spec.template.spec"));
    all
}

fn dns_label_is_better(name: &str, use_of_it: &str) -> Vec<String> {
    let wrong = crate::name::dns1123_label(name);
    if wrong.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in {use_of_it}, which can result in surprising behavior; \
         a DNS label is recommended: [{}]",
        wrong.join(" ")
    )]
}

fn old_label(path: &str, key: &str) -> Option<String> {
    let (_, since, new) = OLD_LABELS.iter().find(|(old, ..)| *old == key)?;
    Some(format!("{path}: deprecated since {since}; use \"{new}\" instead"))
}

fn spec(spec: &Value, path: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (key, _) in spec.entries("nodeSelector") {
        all.extend(old_label(&format!("{path}.nodeSelector[{key}]"), key));
    }
    for (index, one) in spec.list("topologySpreadConstraints").iter().enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{index}].topologyKey");
        all.extend(old_label(&path, one.text("topologyKey")));
    }
    for (index, volume) in spec.list("volumes").iter().enumerate() {
        if volume.has("gitRepo") {
            all.push(format!("{path}.volumes[{index}].gitRepo: deprecated in v1.11"));
        }
    }
    for (index, secret) in spec.list("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            let path = format!("{path}.imagePullSecrets[{index}].name");
            all.push(format!("{path}: invalid empty name \"\""));
        }
    }
    if spec.int("terminationGracePeriodSeconds") < 0 {
        all.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in spec.list(list).iter().enumerate() {
            all.extend(of_container(container, &format!("{path}.{list}[{index}]")));
        }
    }
    all.extend(repeated_ports(spec, path));
    all
}

fn of_container(container: &Value, path: &str) -> Vec<String> {
    let mut all = Vec::new();
    let resources = container.get_or_null("resources");
    for list in ["limits", "requests"] {
        for name in ["memory", "ephemeral-storage"] {
            let value = resources.get_or_null(list).get_or_null(name);
            if let Some(given) = amount(value).filter(|given| !given.is_whole()) {
                all.push(format!(
                    "{path}.resources.{list}[{name}]: fractional byte value \"{given}\" is invalid, must be an integer"
                ));
            }
        }
    }
    let variables = container.list("env");
    let repeats = Repeats::by(variables, "name");
    for (index, variable) in variables.iter().enumerate() {
        let name = variable.text("name");
        if repeats.at(index) {
            all.push(format!(
                "{path}.env[{index}]: hides previous definition of \"{name}\", which may be dropped when using apply"
            ));
        }
    }
    all
}

/// Ports of one pod that are defined twice, in the same container or in two.
fn repeated_ports(spec: &Value, path: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (index, container) in spec.list("containers").iter().enumerate() {
        for (at, port) in container.list("ports").iter().enumerate() {
            let here = format!("{path}.containers[{index}].ports[{at}]");
            let key = format!(
                "{} {} {} {}",
                port.int("containerPort"),
                port.int("hostPort"),
                port.text("protocol"),
                port.text("hostIP")
            );
            match seen.get(&key) {
                Some(first) => all.push(format!("{here}: duplicate port definition with {first}")),
                None => {
                    seen.insert(key, here);
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_likely_not_meant() {
        let template = json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{"env": [{"name": "A"}, {"name": "A"}],
                "resources": {"limits": {"memory": "500m"}},
                "ports": [{"containerPort": 80}, {"containerPort": 80}]}]});
        let object = json!({"metadata": {"name": "a.b", "generation": 1},
            "spec": {"template": {"spec": template}}});
        assert_eq!(
            with_template(&object, None),
            [
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
                "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.template.spec.containers[0].resources.limits[memory]: fractional byte value \"500m\" is invalid, must be an integer",
                "spec.template.spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.template.spec.containers[0].ports[1]: duplicate port definition with spec.template.spec.containers[0].ports[0]",
            ]
        );
        assert_eq!(with_template(&object, Some(&object)), [""; 0]);
    }
}

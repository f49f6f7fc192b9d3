//! What is wrong with a Service.
//!
//! Owns: the checks on a Service's fields and on what an update may change. Must not know: which
//! addresses and ports are free. A newcomer's trap: errors come in Kubernetes' order, which is
//! neither the order of the fields nor of the types.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{is_externally_accessible, is_headless, needs_health_check_port};
use crate::field::FieldError;
use crate::kinds::look::{Look, Repeats};
use crate::kinds::{check, golang};

const KUBELET_PORT: i64 = 10250;
const CLIENT_IP_SECONDS_MAX: i64 = 86400;

/// Checks a whole Service, `metadata` apart.
pub(super) fn service(object: &Value) -> Vec<FieldError> {
    let spec = object.get_or_null("spec");
    let kind = spec.text("type");
    let mut errors = Vec::new();
    if spec.list("ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    errors.extend(of_type(spec));
    errors.extend(ports(spec));
    errors.extend(check::labels("spec.selector", spec, "selector"));
    errors.extend(session_affinity(spec));
    errors.extend(cluster_ips(spec));
    for (index, ip) in spec.list("externalIPs").iter().enumerate() {
        let (path, ip) = (format!("spec.externalIPs[{index}]"), ip.as_str().unwrap_or(""));
        let wrong = check::ip(&path, ip);
        errors.extend(if wrong.is_empty() { check::endpoint_ip(&path, ip) } else { wrong });
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    errors.extend(if kind.is_empty() {
        vec![FieldError::required("spec.type", "")]
    } else {
        check::one_of("spec.type", kind, &types)
    });
    errors.extend(node_ports(spec));
    errors.extend(same_ports(spec));
    errors.extend(load_balancer(spec));
    errors.extend(traffic(spec));
    errors
}

fn of_type(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let no_headless = |kind: &str| {
        let detail = format!("may not be set to 'None' for {kind} services");
        check::invalid("spec.clusterIPs[0]", "None", &detail)
    };
    match spec.text("type") {
        "LoadBalancer" => {
            for (index, port) in spec.list("ports").iter().enumerate() {
                if port.int("port") == KUBELET_PORT {
                    let detail = format!(
                        "may not expose port {KUBELET_PORT} externally since it is used by kubelet"
                    );
                    let path = format!("spec.ports[{index}]");
                    errors.push(FieldError::invalid(path, &KUBELET_PORT.into(), &detail));
                }
            }
            if is_headless(spec) {
                errors.push(no_headless("LoadBalancer"));
            }
        }
        "NodePort" if is_headless(spec) => errors.push(no_headless("NodePort")),
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if spec.has(field) && spec[field] != Value::Array(Vec::new()) {
                    let detail = "may not be set for ExternalName services";
                    errors.push(FieldError::forbidden(format!("spec.{field}"), detail));
                }
            }
            let name = spec.text("externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.push(FieldError::required("spec.externalName", ""));
            } else {
                errors.extend(check::dns_subdomain("spec.externalName", name));
            }
        }
        _ => {}
    }
    errors
}

fn ports(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    let ports = spec.list("ports");
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = port.text("name");
        if !name.is_empty() {
            errors.extend(check::dns_label(&format!("{path}.name"), name));
            if !names.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
            }
        } else if ports.len() > 1 {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        errors.extend(check::port(&format!("{path}.port"), port.int("port")));
        let protocol = format!("{path}.protocol");
        errors.extend(check::one_of(&protocol, port.text("protocol"), check::PROTOCOLS));
        let target = port.get_or_null("targetPort");
        errors.extend(check::port_or_name(&format!("{path}.targetPort"), target));
        if port.has("appProtocol") {
            let at = format!("{path}.appProtocol");
            errors.extend(check::qualified_name(&at, port.text("appProtocol")));
        }
    }
    errors
}

fn session_affinity(spec: &Value) -> Vec<FieldError> {
    let affinity = spec.text("sessionAffinity");
    let mut errors = match affinity {
        "" => vec![FieldError::required("spec.sessionAffinity", "")],
        other => check::one_of("spec.sessionAffinity", other, &["ClientIP", "None"]),
    };
    let path = "spec.sessionAffinityConfig";
    let detail = "when session affinity type is ClientIP";
    match affinity {
        "ClientIP" => {
            let config = spec.get_or_null("sessionAffinityConfig");
            let client = config.get_or_null("clientIP");
            if !config.is_object() {
                errors.push(FieldError::required(path, detail));
            } else if !client.is_object() {
                errors.push(FieldError::required(format!("{path}.clientIP"), detail));
            } else if let Some(seconds) = client.int_opt("timeoutSeconds") {
                if !(1..=CLIENT_IP_SECONDS_MAX).contains(&seconds) {
                    let detail =
                        format!("must be greater than 0 and less than {CLIENT_IP_SECONDS_MAX}");
                    let path = format!("{path}.clientIP.timeoutSeconds");
                    errors.push(FieldError::invalid(path, &seconds.into(), &detail));
                }
            } else {
                let path = format!("{path}.clientIP.timeoutSeconds");
                errors.push(FieldError::required(path, detail));
            }
        }
        "None" if spec.has("sessionAffinityConfig") => {
            let detail = "must not be set when session affinity is None";
            errors.push(FieldError::forbidden(path, detail));
        }
        _ => {}
    }
    errors
}

fn cluster_ips(spec: &Value) -> Vec<FieldError> {
    if spec.text("type") == "ExternalName" {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let path = "spec.clusterIPs";
    let (ip, all) = (spec.text("clusterIP"), spec.list("clusterIPs"));
    let shown = spec.get_or_null("clusterIPs");
    match (ip, all.first()) {
        ("", None) => {}
        ("", Some(_)) => {
            let detail = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(path, shown, detail));
        }
        (_, None) => errors.push(FieldError::required(path, "")),
        (ip, Some(first)) if first != ip => {
            errors.push(FieldError::invalid(path, shown, "first value must match `clusterIP`"));
        }
        _ => {}
    }
    errors.extend(families(spec));
    let mut bad = false;
    for (index, ip) in all.iter().enumerate() {
        if index == 0 && ip == "None" {
            if all.len() > 1 {
                bad = true;
                let detail = "'None' must be the first and only value";
                errors.push(FieldError::invalid(path, shown, detail));
            }
            continue;
        }
        let wrong = check::ip(&format!("{path}[{index}]"), ip.as_str().unwrap_or(""));
        bad |= !wrong.is_empty();
        errors.extend(wrong);
    }
    if all.len() > 2 {
        errors.push(FieldError::invalid(path, shown, "may only hold up to 2 values"));
    }
    if bad {
        return errors;
    }
    let six = |ip: &Value| ip.as_str().is_some_and(check::is_ipv6);
    if all.len() == 2 && all.iter().filter(|ip| six(ip)).count() != 1 {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, shown, detail));
    }
    if errors.is_empty() && !is_headless(spec) {
        for (index, (ip, family)) in all.iter().zip(spec.list("ipFamilies")).enumerate() {
            let wanted = if six(ip) { "IPv6" } else { "IPv4" };
            if family != wanted {
                let family = family.as_str().unwrap_or("");
                let detail =
                    format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
                errors.push(FieldError::invalid(format!("{path}[{index}]"), ip, &detail));
            }
        }
    }
    errors
}

fn families(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let families = spec.list("ipFamilies");
    let repeats = Repeats::of(families, ToString::to_string);
    for (index, family) in families.iter().enumerate() {
        let path = format!("spec.ipFamilies[{index}]");
        errors.extend(check::one_of(&path, family.as_str().unwrap_or(""), &["IPv4", "IPv6"]));
        if repeats.at(index) {
            errors.push(FieldError::duplicate(path, family));
        }
    }
    if spec.has("ipFamilyPolicy") {
        let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.extend(check::one_of("spec.ipFamilyPolicy", spec.text("ipFamilyPolicy"), &policies));
    }
    errors
}

fn node_ports(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, port) in spec.list("ports").iter().enumerate() {
        let number = port.int("nodePort");
        if number == 0 {
            continue;
        }
        let path = format!("spec.ports[{index}].nodePort");
        if spec.text("type") == "ClusterIP" {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(path.clone(), detail));
        }
        if !taken.insert((port.text("protocol"), number)) {
            errors.push(FieldError::duplicate(path, &number.into()));
        }
    }
    errors
}

fn same_ports(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, port) in spec.list("ports").iter().enumerate() {
        let key = serde_json::json!({"protocol": port.text("protocol"), "port": port.int("port")});
        if !taken.insert(key.to_string()) {
            let shown = golang::compact("ServicePort", &key);
            errors.push(FieldError::duplicate_text(format!("spec.ports[{index}]"), &shown));
        }
    }
    errors
}

fn load_balancer(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let balanced = spec.text("type") == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec.list("loadBalancerSourceRanges");
    if !ranges.is_empty() && !balanced {
        errors.push(FieldError::forbidden("spec.loadBalancerSourceRanges", only));
    }
    for (index, range) in ranges.iter().enumerate() {
        let path = format!("spec.loadBalancerSourceRanges[{index}]");
        errors.extend(check::cidr(&path, range.as_str().unwrap_or("").trim()));
    }
    let path = "spec.allocateLoadBalancerNodePorts";
    match (balanced, spec.has("allocateLoadBalancerNodePorts")) {
        (false, true) => errors.push(FieldError::forbidden(path, only)),
        (true, false) => errors.push(FieldError::required(path, "")),
        _ => {}
    }
    if spec.has("loadBalancerClass") {
        if balanced {
            let class = spec.text("loadBalancerClass");
            errors.extend(check::qualified_name("spec.loadBalancerClass", class));
        } else {
            errors.push(FieldError::forbidden("spec.loadBalancerClass", only));
        }
    }
    errors
}

fn traffic(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = "spec.externalTrafficPolicy";
    let policy = spec.text("externalTrafficPolicy");
    match (is_externally_accessible(spec), policy) {
        (false, "") => {}
        (false, policy) => {
            let detail = "may only be set for externally-accessible services";
            errors.push(check::invalid(path, policy, detail));
        }
        (true, "") => errors.push(FieldError::required(path, "")),
        (true, policy) => errors.extend(check::one_of(path, policy, &["Cluster", "Local"])),
    }
    let health = spec.int("healthCheckNodePort");
    if health != 0 {
        let path = "spec.healthCheckNodePort";
        if needs_health_check_port(spec) {
            errors.extend(check::port(path, health));
        } else {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(path, &health.into(), detail));
        }
    }
    let path = "spec.internalTrafficPolicy";
    match (spec.text("type"), spec.has("internalTrafficPolicy")) {
        ("NodePort" | "LoadBalancer" | "ClusterIP", false) => {
            errors.push(FieldError::required(path, ""));
        }
        (_, true) => {
            let policy = spec.text("internalTrafficPolicy");
            errors.extend(check::one_of(path, policy, &["Cluster", "Local"]));
        }
        _ => {}
    }
    if spec.has("trafficDistribution") {
        let ways = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        let wanted = spec.text("trafficDistribution");
        errors.extend(check::one_of("spec.trafficDistribution", wanted, &ways));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::Strategy;
    use crate::kinds::service::Service;

    fn shown(spec: Value) -> Vec<String> {
        let mut object = json!({"spec": spec});
        Service.default(&mut object);
        Service.prepare_create(&mut object);
        service(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_rule_has_its_words() {
        let one_port = json!([{"port": 80}]);
        for (spec, wanted) in [
            (json!({"ports": one_port}), vec![]),
            (json!({"clusterIP": "None"}), vec![]),
            (json!({"type": "ExternalName"}), vec!["spec.externalName: Required value"]),
            (
                json!({"type": "ExternalName", "externalName": "a.", "clusterIP": "10.0.0.1"}),
                vec!["spec.clusterIPs: Forbidden: may not be set for ExternalName services"],
            ),
            (
                json!({"type": "NodePort", "clusterIP": "None", "ports": one_port}),
                vec![
                    "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
                ],
            ),
            (
                json!({"type": "LoadBalancer", "ports": [{"port": 10250}]}),
                vec![
                    "spec.ports[0]: Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet",
                ],
            ),
            (
                json!({"ports": [{"port": 80, "nodePort": 30000}]}),
                vec![
                    "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                ],
            ),
            (
                json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 80}]}),
                vec![
                    "spec.ports[1].name: Duplicate value: \"a\"",
                    "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
                ],
            ),
            (
                json!({"sessionAffinity": "Sticky", "ports": one_port}),
                vec![
                    "spec.sessionAffinity: Unsupported value: \"Sticky\": supported values: \"ClientIP\", \"None\"",
                ],
            ),
            (
                json!({"sessionAffinity": "ClientIP", "ports": one_port,
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}),
                vec![
                    "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
                ],
            ),
            (
                json!({"externalTrafficPolicy": "Local", "ports": one_port}),
                vec![
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                ],
            ),
            (
                json!({"ports": one_port, "clusterIPs": ["10.0.0.1"]}),
                vec![
                    "spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified",
                ],
            ),
            (
                json!({"ports": one_port, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv6"]}),
                vec![
                    "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
                ],
            ),
            (
                json!({"ports": one_port, "loadBalancerSourceRanges": ["10.0.0.0/8"]}),
                vec![
                    "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                ],
            ),
            (
                json!({"ports": one_port, "selector": {"a": "b c"}}),
                vec![
                    "spec.selector: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                ],
            ),
        ] {
            assert_eq!(shown(spec.clone()), wanted, "{spec}");
        }
    }
}

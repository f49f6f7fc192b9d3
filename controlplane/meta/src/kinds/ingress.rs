//! Ingresses.
//!
//! Owns: the rules of networking.k8s.io/v1 Ingress. Must not know: ingress controllers. A
//! newcomer's trap: a path must start with a slash unless its type leaves it to the controller.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::look::{Change, Look, bump_generation_if, same};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Ingresses.
#[derive(Debug)]
pub struct Ingress;

impl Strategy for Ingress {
    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"loadBalancer": {}}));
        object.child("metadata").put("generation", 1);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
        let changed = !same(object.get_or_null("spec"), old.get_or_null("spec"));
        bump_generation_if(changed, object, old);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let spec = object.get_or_null("spec");
        let mut errors = Vec::new();
        if spec.list("rules").is_empty() && !spec.has("defaultBackend") {
            let detail = "either `defaultBackend` or `rules` must be specified";
            let shown = spec.get_or_null("rules");
            errors.push(FieldError::invalid("spec", shown, detail));
        }
        for (index, tls) in spec.list("tls").iter().enumerate() {
            for (at, host) in tls.list("hosts").iter().enumerate() {
                let path = format!("spec.tls[{index}].hosts[{at}]");
                errors.extend(host_name(&path, host.as_str().unwrap_or("")));
            }
            let secret = tls.text("secretName");
            if !secret.is_empty() {
                let path = format!("spec.tls[{index}].secretName");
                errors.extend(check::dns_subdomain(&path, secret));
            }
        }
        for (index, rule) in spec.list("rules").iter().enumerate() {
            errors.extend(one_rule(rule, &format!("spec.rules[{index}]")));
        }
        if spec.has("defaultBackend") {
            errors.extend(backend(spec.get_or_null("defaultBackend"), "spec.defaultBackend"));
        }
        if spec.has("ingressClassName") {
            let class = spec.text("ingressClassName");
            errors.extend(check::dns_subdomain("spec.ingressClassName", class));
        }
        errors
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate_create(object)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = object.get_or_null("spec");
        let hosts: Vec<String> = spec
            .list("rules")
            .iter()
            .map(|rule| rule.text("host").to_owned())
            .filter(|host| !host.is_empty())
            .collect();
        let status = object.get_or_null("status").get_or_null("loadBalancer");
        let addresses: Vec<&str> = status
            .list("ingress")
            .iter()
            .map(|one| show::or(one.text("ip"), one.text("hostname")))
            .filter(|one| !one.is_empty())
            .collect();
        vec![
            show::name(object),
            show::or(spec.text("ingressClassName"), show::NONE).into(),
            show::or(&show::first_three(&hosts), "*").into(),
            addresses.join(",").into(),
            if spec.list("tls").is_empty() { "80" } else { "80, 443" }.into(),
            show::age(object, now),
        ]
    }
}

fn host_name(path: &str, host: &str) -> Vec<FieldError> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return vec![check::invalid(path, host, "must be a DNS name, not an IP address")];
    }
    if host.contains('*') {
        return check::texts(path, host, crate::name::wildcard_dns1123_subdomain(host));
    }
    check::dns_subdomain(path, host)
}

fn one_rule(rule: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !rule.text("host").is_empty() {
        errors.extend(host_name(&format!("{path}.host"), rule.text("host")));
    }
    if !rule.has("http") {
        return errors;
    }
    let path = format!("{path}.http.paths");
    let paths = rule.get_or_null("http").list("paths");
    if paths.is_empty() {
        errors.push(FieldError::required(path.clone(), ""));
    }
    for (index, one) in paths.iter().enumerate() {
        errors.extend(http_path(one, &format!("{path}[{index}]")));
    }
    errors
}

fn http_path(one: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = format!("{path}.path");
    let place = one.text("path");
    match one.text("pathType") {
        "Exact" | "Prefix" => {
            if !place.starts_with('/') {
                errors.push(check::invalid(at.clone(), place, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if place.contains(bad) {
                    let detail = format!("must not contain '{bad}'");
                    errors.push(check::invalid(at.clone(), place, &detail));
                }
            }
            for bad in ["/..", "/."] {
                if place.ends_with(bad) {
                    let detail = format!("cannot end with '{bad}'");
                    errors.push(check::invalid(at.clone(), place, &detail));
                }
            }
        }
        "ImplementationSpecific" => {
            if !place.is_empty() && !place.starts_with('/') {
                errors.push(check::invalid(at, place, "must be an absolute path"));
            }
        }
        "" => {
            errors.push(FieldError::required(
                format!("{path}.pathType"),
                "pathType must be specified",
            ));
        }
        other => {
            let types = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.extend(check::one_of(&format!("{path}.pathType"), other, &types));
        }
    }
    errors.extend(backend(one.get_or_null("backend"), &format!("{path}.backend")));
    errors
}

fn backend(one: &Value, path: &str) -> Vec<FieldError> {
    let (service, resource) = (one.has("service"), one.has("resource"));
    if service && resource {
        let detail = "cannot set both resource and service backends";
        return vec![check::invalid(path, "", detail)];
    }
    if resource {
        return Vec::new();
    }
    if !service {
        let detail = "must set one of resource or service";
        return vec![FieldError::required(path, detail)];
    }
    let service = one.get_or_null("service");
    let mut errors = Vec::new();
    let at = format!("{path}.service.name");
    match service.text("name") {
        "" => errors.push(FieldError::required(at, "")),
        name => errors.extend(check::texts(&at, name, crate::name::dns1035_label(name))),
    }
    let port = service.get_or_null("port");
    let at = format!("{path}.service.port");
    match (port.text("name"), port.int("number")) {
        ("", 0) => errors.push(FieldError::required(at, "port name or number is required")),
        ("", number) => errors.extend(check::port(&format!("{at}.number"), number)),
        (name, 0) => {
            let texts = crate::name::port_name(name);
            errors.extend(check::texts(&format!("{at}.name"), name, texts));
        }
        _ => errors.push(check::invalid(path, "", "cannot set both port name & port number")),
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_words() {
        let ingress = json!({"spec": {"rules": [{"host": "10.0.0.1", "http": {"paths": [
            {"path": "x//y", "pathType": "Exact", "backend": {}},
            {"pathType": "Near", "backend": {"service": {"name": "s", "port": {}}}},
            {"backend": {"service": {"name": "s", "port": {"name": "a", "number": 1}}}}]}}]}});
        let got: Vec<_> =
            Ingress.validate_create(&ingress).iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
                "spec.rules[0].http.paths[0].path: Invalid value: \"x//y\": must be an absolute path",
                "spec.rules[0].http.paths[0].path: Invalid value: \"x//y\": must not contain '//'",
                "spec.rules[0].http.paths[0].backend: Required value: must set one of resource or service",
                "spec.rules[0].http.paths[1].pathType: Unsupported value: \"Near\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
                "spec.rules[0].http.paths[1].backend.service.port: Required value: port name or number is required",
                "spec.rules[0].http.paths[2].pathType: Required value: pathType must be specified",
                "spec.rules[0].http.paths[2].backend: Invalid value: \"\": cannot set both port name & port number",
            ]
        );
    }
}

//! EndpointSlices.
//!
//! Owns: the rules of discovery.k8s.io/v1 EndpointSlice. Must not know: which service a slice
//! belongs to. A newcomer's trap: the generation grows with anything but metadata.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::{Change, Look, Repeats, bump_generation_if, same};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20000;
const ZONES_MAX: usize = 8;

/// The rules of EndpointSlices.
#[derive(Debug)]
pub struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, object: &mut Value) {
        for port in object.items_mut("ports") {
            port.default_to("name", "");
            port.default_to("protocol", "TCP");
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.child("metadata").put("generation", 1);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        let fields = ["addressType", "endpoints", "ports"];
        let changed = fields.iter().any(|one| !same(object.get_or_null(one), old.get_or_null(one)));
        bump_generation_if(changed, object, old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let kind = object.text("addressType");
        let mut errors = match kind {
            "" => vec![FieldError::required("addressType", "")],
            other => check::one_of("addressType", other, &["FQDN", "IPv4", "IPv6"]),
        };
        let endpoints = object.list("endpoints");
        if endpoints.len() > ENDPOINTS_MAX {
            errors.push(check::too_many("endpoints", endpoints.len(), ENDPOINTS_MAX));
            return errors;
        }
        for (index, one) in endpoints.iter().enumerate() {
            errors.extend(endpoint(&format!("endpoints[{index}]"), one, kind));
        }
        errors.extend(ports(object));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(object);
        let (new, old) = (object.get_or_null("addressType"), old.get_or_null("addressType"));
        errors.extend(check::immutable("addressType", new, old));
        errors
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = object
            .list("ports")
            .iter()
            .map(|port| match port.int_opt("port") {
                Some(number) => number.to_string(),
                None if port.has("name") => port.text("name").into(),
                None => "*".into(),
            })
            .collect();
        let addresses: Vec<String> = object
            .list("endpoints")
            .iter()
            .flat_map(|one| one.list("addresses"))
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect();
        let cell = |all: &[String]| Value::from(show::or(&show::first_three(all), "<unset>"));
        vec![
            show::name(object),
            object.text("addressType").into(),
            cell(&ports),
            cell(&addresses),
            show::age(object, now),
        ]
    }
}

fn endpoint(path: &str, one: &Value, kind: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let addresses = one.list("addresses");
    if addresses.is_empty() {
        let detail = "must contain at least 1 address";
        errors.push(FieldError::required(format!("{path}.addresses"), detail));
    } else if addresses.len() > ADDRESSES_MAX {
        let path = format!("{path}.addresses");
        errors.push(check::too_many(&path, addresses.len(), ADDRESSES_MAX));
    }
    for (index, value) in addresses.iter().enumerate() {
        let path = format!("{path}.addresses[{index}]");
        errors.extend(address(&path, value.as_str().unwrap_or(""), kind));
    }
    if one.has("nodeName") {
        errors.extend(check::dns_subdomain(&format!("{path}.nodeName"), one.text("nodeName")));
    }
    for key in one.entries("deprecatedTopology").iter().map(|(key, _)| *key) {
        let at = format!("{path}.deprecatedTopology");
        errors.extend(check::qualified_name(&at, key));
    }
    if one.has("hostname") {
        errors.extend(check::dns_label(&format!("{path}.hostname"), one.text("hostname")));
    }
    errors.extend(hints(path, one.get_or_null("hints")));
    errors
}

fn address(path: &str, value: &str, kind: &str) -> Vec<FieldError> {
    let mut errors = match kind {
        "IPv4" | "IPv6" => check::ip(path, value),
        "FQDN" => return fqdn(path, value),
        _ => return Vec::new(),
    };
    if errors.is_empty() {
        if kind == "IPv4" && !check::is_ipv4(value) {
            errors.push(check::invalid(path, value, "must be an IPv4 address"));
        }
        if kind == "IPv6" && !check::is_ipv6(value) {
            errors.push(check::invalid(path, value, "must be an IPv6 address"));
        }
        errors.extend(check::endpoint_ip(path, value));
    }
    errors
}

fn fqdn(path: &str, value: &str) -> Vec<FieldError> {
    if value.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let name = value.strip_suffix('.').unwrap_or(value);
    let texts = crate::name::dns1123_subdomain(name);
    if !texts.is_empty() {
        return vec![check::invalid(path, name, &texts.join(","))];
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return vec![check::invalid(path, name, detail)];
    }
    for label in name.split('.') {
        let texts = crate::name::dns1123_label(label);
        if !texts.is_empty() {
            return vec![check::invalid(path, label, &texts.join(","))];
        }
    }
    Vec::new()
}

fn hints(path: &str, hints: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (list, most) in [("forZones", ZONES_MAX), ("forNodes", ZONES_MAX)] {
        let all = hints.list(list);
        let path = format!("{path}.hints.{list}");
        if all.len() > most {
            errors.push(check::too_many(&path, all.len(), most));
            continue;
        }
        let repeats = Repeats::by(all, "name");
        for (index, one) in all.iter().enumerate() {
            let path = format!("{path}[{index}].name");
            let name = one.text("name");
            if repeats.at(index) {
                errors.push(FieldError::duplicate(path, &name.into()));
            } else if list == "forZones" {
                errors.extend(check::texts(&path, name, crate::name::label_value(name)));
            } else {
                errors.extend(check::dns_subdomain(&path, name));
            }
        }
    }
    errors
}

fn ports(object: &Value) -> Vec<FieldError> {
    let ports = object.list("ports");
    if ports.len() > PORTS_MAX {
        return vec![check::too_many("ports", ports.len(), PORTS_MAX)];
    }
    let mut errors = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("ports[{index}]");
        let name = port.text("name");
        if !name.is_empty() {
            errors.extend(check::dns_label(&format!("{path}.name"), name));
        }
        if !names.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
        let protocol = format!("{path}.protocol");
        errors.extend(check::one_of(&protocol, port.text("protocol"), check::PROTOCOLS));
        if port.has("appProtocol") {
            let at = format!("{path}.appProtocol");
            errors.extend(check::qualified_name(&at, port.text("appProtocol")));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn slices_are_checked() {
        let mut object = json!({"addressType": "IPv4", "endpoints": [
            {"addresses": []}, {"addresses": ["2001:db8::1"]}, {"addresses": ["127.0.0.1"]},
            {"addresses": ["10.0.0.1"], "hostname": "A", "hints": {"forZones": [
                {"name": "a"}, {"name": "a"}]}}],
            "ports": [{"port": 80}, {"port": 81}, {"name": "x", "protocol": "X"}]});
        EndpointSlice.default(&mut object);
        let got: Vec<_> =
            EndpointSlice.validate_create(&object).iter().map(|one| one.field.clone()).collect();
        assert_eq!(
            got,
            [
                "endpoints[0].addresses",
                "endpoints[1].addresses[0]",
                "endpoints[2].addresses[0]",
                "endpoints[3].hostname",
                "endpoints[3].hints.forZones[1].name",
                "ports[1].name",
                "ports[2].protocol"
            ]
        );
    }

    #[test]
    fn the_generation_follows_the_endpoints() {
        let old = json!({"metadata": {"generation": 3}, "endpoints": []});
        let mut new = json!({"metadata": {"generation": 3, "labels": {"a": "b"}}});
        EndpointSlice.prepare_update(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 3);
        new["endpoints"] = json!([{"addresses": ["10.0.0.1"]}]);
        EndpointSlice.prepare_update(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 4);
    }
}

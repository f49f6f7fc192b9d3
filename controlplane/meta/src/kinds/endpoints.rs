//! Endpoints.
//!
//! Owns: the rules of core/v1 Endpoints. Must not know: who writes them. A newcomer's trap: the
//! kind is deprecated, and every answer about it carries a warning.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::{Change, Look};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Endpoints.
#[derive(Debug)]
pub struct Endpoints;

// Differs from Kubernetes: subsets are kept as they are written; there they are regrouped so that
// each set of ports stands once, in an order that follows from a hash.
impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in object.items_mut("subsets") {
            for port in subset.items_mut("ports") {
                port.default_text("protocol", "TCP");
            }
        }
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (index, subset) in object.list("subsets").iter().enumerate() {
            let path = format!("subsets[{index}]");
            let lists = ["addresses", "notReadyAddresses"];
            if lists.iter().all(|list| subset.list(list).is_empty()) {
                let detail = "must specify `addresses` or `notReadyAddresses`";
                errors.push(FieldError::required(path.clone(), detail));
            }
            for list in lists {
                for (index, one) in subset.list(list).iter().enumerate() {
                    errors.extend(address(&format!("{path}.{list}[{index}]"), one));
                }
            }
            let ports = subset.list("ports");
            for (index, one) in ports.iter().enumerate() {
                errors.extend(port(&format!("{path}.ports[{index}]"), one, ports.len() > 1));
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate_create(object)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![show::name(object), addresses(object).into(), show::age(object, now)]
    }

    fn may_create_on_update(&self) -> bool {
        true
    }
}

fn addresses(object: &Value) -> String {
    let subsets = object.list("subsets");
    if subsets.is_empty() {
        return show::NONE.into();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ips = || subset.list("addresses").iter().map(|one| one.text("ip"));
        for port in subset.list("ports") {
            all.extend(ips().map(|ip| show::host_port(ip, port.int("port"))));
        }
        if subset.list("ports").is_empty() {
            all.extend(ips().map(str::to_owned));
        }
    }
    show::first_three(&all)
}

fn address(path: &str, one: &Value) -> Vec<FieldError> {
    let ip = one.text("ip");
    let mut errors = check::ip(&format!("{path}.ip"), ip);
    if !one.text("hostname").is_empty() {
        errors.extend(check::dns_label(&format!("{path}.hostname"), one.text("hostname")));
    }
    if one.has("nodeName") {
        errors.extend(check::dns_subdomain(&format!("{path}.nodeName"), one.text("nodeName")));
    }
    if errors.is_empty() {
        errors.extend(check::endpoint_ip(&format!("{path}.ip"), ip));
    }
    errors
}

fn port(path: &str, one: &Value, needs_name: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = one.text("name");
    if !name.is_empty() {
        errors.extend(check::dns_label(&format!("{path}.name"), name));
    } else if needs_name {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    errors.extend(check::port(&format!("{path}.port"), one.int("port")));
    errors.extend(check::one_of(
        &format!("{path}.protocol"),
        one.text("protocol"),
        check::PROTOCOLS,
    ));
    if one.has("appProtocol") {
        errors
            .extend(check::qualified_name(&format!("{path}.appProtocol"), one.text("appProtocol")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_show_three_addresses() {
        let cell = |subsets: Value| {
            Endpoints.row(&json!({"subsets": subsets}), Timestamp::UNIX_EPOCH)[1].clone()
        };
        let ips = json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]);
        assert_eq!(cell(json!([])), "<none>");
        assert_eq!(cell(json!([{"notReadyAddresses": ips}])), "");
        assert_eq!(cell(json!([{"addresses": ips}])), "10.0.0.1,10.0.0.2");
        let two_ports = json!([{"addresses": ips, "ports": [{"port": 80}, {"port": 443}]}]);
        assert_eq!(cell(two_ports), "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more...");
        let six = json!([{"addresses": [{"ip": "2001:db8::1"}], "ports": [{"port": 80}]}]);
        assert_eq!(cell(six), "[2001:db8::1]:80");
    }

    #[test]
    fn subsets_are_checked() {
        let mut object = json!({"subsets": [
            {"ports": [{"port": 80}]},
            {"addresses": [{"ip": "127.0.0.1"}, {"ip": "x"}],
             "ports": [{"port": 0, "name": "A"}, {"port": 80}]}]});
        Endpoints.default(&mut object);
        let got: Vec<_> =
            Endpoints.validate_create(&object).iter().map(|one| one.field.clone()).collect();
        assert_eq!(
            got,
            [
                "subsets[0]",
                "subsets[1].addresses[0].ip",
                "subsets[1].addresses[1].ip",
                "subsets[1].ports[0].name",
                "subsets[1].ports[0].port",
                "subsets[1].ports[1].name"
            ]
        );
    }
}

//! NetworkPolicies.
//!
//! Owns: the rules of networking.k8s.io/v1 NetworkPolicy. Must not know: packets. A newcomer's
//! trap: the policy types that are not given follow from which rules are.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::{Change, Look, bump_generation_if, same};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of NetworkPolicies.
#[derive(Debug)]
pub struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        let spec = object.child("spec");
        if spec.list("policyTypes").is_empty() {
            let mut types = vec!["Ingress"];
            if !spec.list("egress").is_empty() {
                types.push("Egress");
            }
            spec.put("policyTypes", types);
        }
        for list in ["ingress", "egress"] {
            for rule in spec.items_mut(list) {
                for port in rule.items_mut("ports") {
                    port.default_to("protocol", "TCP");
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.child("metadata").put("generation", 1);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        let changed = !same(object.get_or_null("spec"), old.get_or_null("spec"));
        bump_generation_if(changed, object, old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let spec = object.get_or_null("spec");
        let selector = spec.get_or_null("podSelector");
        let mut errors = check::label_selector("spec.podSelector", selector);
        for (list, peers) in [("ingress", "from"), ("egress", "to")] {
            for (index, rule) in spec.list(list).iter().enumerate() {
                let path = format!("spec.{list}[{index}]");
                for (index, one) in rule.list("ports").iter().enumerate() {
                    errors.extend(port(one, &format!("{path}.ports[{index}]")));
                }
                for (index, one) in rule.list(peers).iter().enumerate() {
                    errors.extend(peer(one, &format!("{path}.{peers}[{index}]")));
                }
            }
        }
        let types = spec.list("policyTypes");
        if types.len() > 2 {
            let shown = spec.get_or_null("policyTypes");
            let detail = "may not specify more than two policyTypes";
            errors.push(FieldError::invalid("spec.policyTypes", shown, detail));
            return errors;
        }
        for (index, one) in types.iter().enumerate() {
            let path = format!("spec.policyTypes[{index}]");
            errors.extend(check::one_of(&path, one.as_str().unwrap_or(""), &["Egress", "Ingress"]));
        }
        errors
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate_create(object)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let selector = object.get_or_null("spec").get_or_null("podSelector");
        vec![show::name(object), show::selector_cell(selector).into(), show::age(object, now)]
    }
}

fn port(one: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if one.has("protocol") {
        let path = format!("{path}.protocol");
        errors.extend(check::one_of(&path, one.text("protocol"), check::PROTOCOLS));
    }
    if one.has("port") {
        let port = one.get_or_null("port");
        errors.extend(check::port_or_name(&format!("{path}.port"), port));
        if let Some(end) = one.int_opt("endPort") {
            let path = format!("{path}.endPort");
            match port.as_i64() {
                None => {
                    let detail = "may not be specified when `port` is non-numeric";
                    errors.push(FieldError::invalid(path, &end.into(), detail));
                }
                Some(port) if end < port => {
                    let detail = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(path, &end.into(), detail));
                }
                Some(_) => errors.extend(check::port(&path, end)),
            }
        }
    } else if let Some(end) = one.int_opt("endPort") {
        let detail = "may not be specified when `port` is not specified";
        errors.push(FieldError::invalid(format!("{path}.endPort"), &end.into(), detail));
    }
    errors
}

fn peer(one: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["podSelector", "namespaceSelector"] {
        errors.extend(check::label_selector(&format!("{path}.{field}"), one.get_or_null(field)));
    }
    let selectors = one.has("podSelector") || one.has("namespaceSelector");
    if one.has("ipBlock") {
        let block = one.get_or_null("ipBlock");
        let at = format!("{path}.ipBlock");
        if block.text("cidr").is_empty() {
            errors.push(FieldError::required(format!("{at}.cidr"), ""));
        } else {
            errors.extend(check::cidr(&format!("{at}.cidr"), block.text("cidr")));
        }
        for (index, except) in block.list("except").iter().enumerate() {
            let path = format!("{at}.except[{index}]");
            errors.extend(check::cidr(&path, except.as_str().unwrap_or("")));
        }
        if selectors {
            let detail = "may not specify both ipBlock and another peer";
            errors.push(FieldError::forbidden(path, detail));
        }
    } else if !selectors {
        errors.push(FieldError::required(path, "must specify a peer"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_rule_has_its_words() {
        let mut policy = json!({"spec": {"podSelector": {}, "policyTypes": ["Sideways"], "ingress": [{
            "ports": [{"port": "http", "endPort": 5}, {"port": 80, "endPort": 79}],
            "from": [{}, {"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]}});
        NetworkPolicy.default(&mut policy);
        let got: Vec<_> =
            NetworkPolicy.validate_create(&policy).iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "spec.ingress[0].ports[0].endPort: Invalid value: 5: may not be specified when `port` is non-numeric",
                "spec.ingress[0].ports[1].endPort: Invalid value: 79: must be greater than or equal to `port`",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
                "spec.policyTypes[0]: Unsupported value: \"Sideways\": supported values: \"Egress\", \"Ingress\"",
            ]
        );
    }

    #[test]
    fn policy_types_follow_the_rules() {
        let mut policy = json!({"spec": {"egress": [{}]}});
        NetworkPolicy.default(&mut policy);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    }
}

//! What an update of a Service may not change, and what its status may say.
//!
//! Owns: those checks. Must not know: which addresses are free. A newcomer's trap: the first
//! address and family are fixed for life, the second may come and go with the family policy.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::check;
use crate::kinds::look::{Look, same};

/// Checks an update, and the new Service as a whole.
pub(super) fn update(object: &Value, old: &Value) -> Vec<FieldError> {
    let (spec, before) = (object.get_or_null("spec"), old.get_or_null("spec"));
    let mut errors = Vec::new();
    if spec.text("type") != "ExternalName" && before.text("type") != "ExternalName" {
        errors.extend(kept_addresses(spec, before));
        errors.extend(kept_families(spec, before));
    }
    if spec.text("type") == "LoadBalancer"
        && before.text("type") == "LoadBalancer"
        && !same(spec.get_or_null("loadBalancerClass"), before.get_or_null("loadBalancerClass"))
    {
        let class = spec.get_or_null("loadBalancerClass");
        let detail = "may not change once set";
        errors.push(FieldError::invalid("spec.loadBalancerClass", class, detail));
    }
    errors.extend(super::check::service(object));
    errors
}

fn kept_addresses(spec: &Value, before: &Value) -> Vec<FieldError> {
    let (new, old) = (spec.list("clusterIPs"), before.list("clusterIPs"));
    let shown = spec.get_or_null("clusterIPs");
    let fixed = |index: usize| {
        let path = format!("spec.clusterIPs[{index}]");
        FieldError::invalid(path, shown, "may not change once set")
    };
    let mut errors = Vec::new();
    if new.is_empty() && !old.is_empty() {
        let detail = "primary clusterIP can not be unset";
        errors.push(FieldError::invalid("spec.clusterIPs[0]", shown, detail));
    }
    for (index, (new, old)) in new.iter().zip(old).enumerate() {
        if new != old {
            errors.push(fixed(index));
        }
    }
    if new.len() == 1 && old.len() == 2 && spec.text("ipFamilyPolicy") != "SingleStack" {
        let policy = spec.get_or_null("ipFamilyPolicy");
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, detail));
    }
    errors
}

fn kept_families(spec: &Value, before: &Value) -> Vec<FieldError> {
    let (new, old) = (spec.list("ipFamilies"), before.list("ipFamilies"));
    let shown = spec.get_or_null("ipFamilies");
    match (new.first(), old.first()) {
        (None, Some(_)) => vec![FieldError::invalid(
            "spec.ipFamilies[0]",
            shown,
            "primary ipFamily can not be unset",
        )],
        (Some(new), Some(old)) if new != old => {
            vec![FieldError::invalid("spec.ipFamilies[0]", shown, "may not change once set")]
        }
        _ => Vec::new(),
    }
}

/// Checks an update through `/status`.
pub(super) fn status(object: &Value) -> Vec<FieldError> {
    let path = "status.loadBalancer.ingress";
    let mut errors = Vec::new();
    let ingress = object["status"]["loadBalancer"].list("ingress");
    if !ingress.is_empty() && object.get_or_null("spec").text("type") != "LoadBalancer" {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        return vec![FieldError::forbidden(path, detail)];
    }
    for (index, one) in ingress.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if !one.text("ip").is_empty() {
            errors.extend(check::ip(&format!("{path}.ip"), one.text("ip")));
        }
        match (one.text("ip"), one.has("ipMode")) {
            ("", true) => errors.push(FieldError::forbidden(
                format!("{path}.ipMode"),
                "may not be specified when `ip` is not set",
            )),
            (_, true) => errors.extend(check::one_of(
                &format!("{path}.ipMode"),
                one.text("ipMode"),
                &["Proxy", "VIP"],
            )),
            _ => {}
        }
        let host = one.text("hostname");
        if !host.is_empty() {
            let path = format!("{path}.hostname");
            errors.extend(check::dns_subdomain(&path, host));
            if host.parse::<std::net::IpAddr>().is_ok() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(check::invalid(path, host, detail));
            }
        }
    }
    errors
}

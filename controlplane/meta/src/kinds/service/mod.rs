//! Services.
//!
//! Owns: defaults, what an update carries over, and the row of core/v1 Service. Must not know: how
//! addresses and node ports are handed out; it only says who needs them. A newcomer's trap:
//! `clusterIP` is the first of `clusterIPs`; a client may set either, and both must agree after.

mod check;
mod update_check;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::look::{Change, Look, same};
use super::show::{self, NONE, or};
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Services.
#[derive(Debug)]
pub struct Service;

impl Strategy for Service {
    fn default(&self, object: &mut Value) {
        let spec = object.child("spec");
        spec.default_text("sessionAffinity", "None");
        if spec.text("sessionAffinity") == "None" {
            spec.drop_field("sessionAffinityConfig");
        }
        if spec.text("sessionAffinity") == "ClientIP"
            && spec["sessionAffinityConfig"]["clientIP"].int_opt("timeoutSeconds").is_none()
        {
            let config = json!({"clientIP": {"timeoutSeconds": 10800}});
            spec.put("sessionAffinityConfig", config);
        }
        spec.default_text("type", "ClusterIP");
        for port in spec.items_mut("ports") {
            port.default_text("protocol", "TCP");
            let target = port.get_or_null("targetPort");
            if target.is_null() || target == 0 || target == "" {
                let number = port.int("port");
                port.put("targetPort", number);
            }
        }
        if is_externally_accessible(spec) {
            spec.default_text("externalTrafficPolicy", "Cluster");
        }
        if matches!(spec.text("type"), "ClusterIP" | "NodePort" | "LoadBalancer") {
            spec.default_to("internalTrafficPolicy", "Cluster");
        }
        if spec.text("type") == "LoadBalancer" {
            spec.default_to("allocateLoadBalancerNodePorts", true);
            let status = object.child("status").child("loadBalancer");
            for ingress in status.items_mut("ingress") {
                if !ingress.text("ip").is_empty() {
                    ingress.default_to("ipMode", "VIP");
                }
            }
        }
        object.child("status").child("loadBalancer");
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"loadBalancer": {}}));
        let spec = object.child("spec");
        let ip = spec.text("clusterIP").to_owned();
        if !ip.is_empty() && spec.list("clusterIPs").is_empty() {
            spec.put("clusterIPs", vec![ip]);
        }
        default_families(spec);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
        let before = old.get_or_null("spec");
        let spec = object.child("spec");
        agree_on_cluster_ip(spec, before);
        drop_what_the_type_lost(spec, before);
        keep_what_was_allocated(spec, before);
        default_families(spec);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        check::service(object)
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        update_check::update(object, old)
    }

    fn validate_status_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        update_check::status(object)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        super::check::dns1035_name(name, prefix)
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let spec = object.get_or_null("spec");
        let kind = spec.text("type");
        let mut all: Vec<String> = Vec::new();
        if is_headless(spec) {
            for (field, given) in [
                ("loadBalancerIP", !spec.text("loadBalancerIP").is_empty()),
                ("externalIPs", !spec.list("externalIPs").is_empty()),
                ("SessionAffinity", spec.text("sessionAffinity") != "None"),
            ] {
                if given {
                    all.push(format!("spec.{field} is ignored for headless services"));
                }
            }
        }
        if kind != "ExternalName" && !spec.text("externalName").is_empty() {
            all.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
        }
        if kind == "ExternalName" && !spec.list("externalIPs").is_empty() {
            all.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
        }
        all
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        let spec = object.get_or_null("spec");
        match field {
            "spec.clusterIP" => Some(spec.text("clusterIP").into()),
            "spec.type" => Some(spec.text("type").into()),
            _ => None,
        }
    }

    fn is_selectable(&self, field: &str) -> bool {
        matches!(field, "spec.clusterIP" | "spec.type")
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = object.get_or_null("spec");
        let ip = match spec.list("clusterIPs").first() {
            Some(first) => first.as_str().unwrap_or(""),
            None => spec.text("clusterIP"),
        };
        vec![
            show::name(object),
            spec.text("type").into(),
            or(ip, NONE).into(),
            external_ip(object).into(),
            or(&ports(spec), NONE).into(),
            show::age(object, now),
            show::labels(spec, "selector").into(),
        ]
    }
}

/// Whether the service gets a cluster IP.
pub fn needs_cluster_ip(spec: &Value) -> bool {
    spec.text("type") != "ExternalName"
}

/// Whether the service's ports get node ports.
pub fn needs_node_ports(spec: &Value) -> bool {
    match spec.text("type") {
        "NodePort" => true,
        "LoadBalancer" => spec.flag("allocateLoadBalancerNodePorts"),
        _ => false,
    }
}

/// Whether the service gets a health check node port.
pub fn needs_health_check_port(spec: &Value) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

/// Whether the service has no cluster IP by its own wish.
pub(crate) fn is_headless(spec: &Value) -> bool {
    spec.list("clusterIPs").len() == 1 && spec["clusterIPs"][0] == "None"
}

pub(crate) fn is_externally_accessible(spec: &Value) -> bool {
    match spec.text("type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    }
}

/// The IP families of a service in a cluster that has IPv4 services.
fn default_families(spec: &mut Value) {
    if !needs_cluster_ip(spec) {
        return;
    }
    let selects = spec.size("selector") > 0;
    if is_headless(spec) && !selects {
        spec.default_to("ipFamilyPolicy", "RequireDualStack");
        let mut families = spec.list("ipFamilies").to_vec();
        if families.is_empty() {
            families.push("IPv4".into());
        }
        if families.len() == 1 && spec.text("ipFamilyPolicy") != "SingleStack" {
            let other = if families.iter().any(|one| one == "IPv4") { "IPv6" } else { "IPv4" };
            families.push(other.into());
        }
        spec.put("ipFamilies", families);
        return;
    }
    spec.default_to("ipFamilyPolicy", "SingleStack");
    if spec.list("ipFamilies").is_empty() {
        let six = |ip: &Value| ip.as_str().is_some_and(super::check::is_ipv6);
        let family = if spec.list("clusterIPs").first().is_some_and(six) { "IPv6" } else { "IPv4" };
        spec.put("ipFamilies", vec![family]);
    }
}

/// What was set through one of `clusterIP` and `clusterIPs` is carried to the other.
fn agree_on_cluster_ip(spec: &mut Value, before: &Value) {
    let same_ip = spec.text("clusterIP") == before.text("clusterIP");
    let same_ips = spec.list("clusterIPs") == before.list("clusterIPs");
    if !same_ip && same_ips {
        let ip = spec.text("clusterIP").to_owned();
        if ip.is_empty() {
            spec.drop_field("clusterIPs");
        } else {
            let mut ips = spec.list("clusterIPs").to_vec();
            match ips.first_mut() {
                Some(first) => *first = ip.into(),
                None => ips.push(ip.into()),
            }
            spec.put("clusterIPs", ips);
        }
    } else if same_ip && !same_ips && spec.list("clusterIPs").is_empty() {
        spec.drop_field("clusterIP");
    }
}

/// Fields that only the old type had go, unless the client changed them.
fn drop_what_the_type_lost(spec: &mut Value, before: &Value) {
    let lost = |needs: fn(&Value) -> bool, spec: &Value| needs(before) && !needs(spec);
    let unchanged = |spec: &Value, fields: &[&str]| {
        fields.iter().all(|field| same(spec.get_or_null(field), before.get_or_null(field)))
    };
    let addresses = ["clusterIP", "clusterIPs"];
    if lost(needs_cluster_ip, spec) && unchanged(spec, &addresses) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.drop_field(field);
        }
    }
    let node_ports =
        |spec: &Value| spec.list("ports").iter().map(|one| one.int("nodePort")).collect::<Vec<_>>();
    if lost(needs_node_ports, spec) && node_ports(spec) == node_ports(before) {
        for port in spec.items_mut("ports") {
            port.drop_field("nodePort");
        }
    }
    for (needs, field) in [
        (needs_health_check_port as fn(&Value) -> bool, "healthCheckNodePort"),
        (|spec| spec.text("type") == "LoadBalancer", "allocateLoadBalancerNodePorts"),
        (|spec| spec.text("type") == "LoadBalancer", "loadBalancerClass"),
        (is_externally_accessible, "externalTrafficPolicy"),
        (needs_cluster_ip, "internalTrafficPolicy"),
    ] {
        if lost(needs, spec) && unchanged(spec, &[field]) {
            spec.drop_field(field);
        }
    }
}

/// A client that replaces a service need not repeat what was allocated to it.
fn keep_what_was_allocated(spec: &mut Value, before: &Value) {
    if needs_cluster_ip(before) && needs_cluster_ip(spec) {
        if spec.text("clusterIP").is_empty() {
            spec.copy_field("clusterIP", before);
        }
        if spec.list("clusterIPs").is_empty() && spec.text("clusterIP") == before.text("clusterIP")
        {
            spec.copy_field("clusterIPs", before);
        }
        if spec.list("ipFamilies").is_empty() && !spec.has("ipFamilyPolicy") {
            spec.copy_field("ipFamilies", before);
            spec.copy_field("ipFamilyPolicy", before);
        }
    }
    if needs_node_ports(before) && needs_node_ports(spec) {
        let used: BTreeSet<i64> =
            spec.list("ports").iter().map(|one| one.int("nodePort")).collect();
        let key = |one: &Value| (one.int("port"), one.text("protocol").to_owned());
        let free: BTreeMap<_, &Value> = before
            .list("ports")
            .iter()
            .rev()
            .filter(|one| !used.contains(&one.int("nodePort")))
            .map(|one| (key(one), one))
            .collect();
        for port in spec.items_mut("ports") {
            if port.int("nodePort") != 0 {
                continue;
            }
            let twin = free.get(&key(port)).copied();
            if let Some(twin) = twin {
                port.copy_field("nodePort", twin);
            }
        }
    }
    if needs_health_check_port(before)
        && needs_health_check_port(spec)
        && spec.int("healthCheckNodePort") == 0
    {
        spec.copy_field("healthCheckNodePort", before);
    }
}

fn external_ip(object: &Value) -> String {
    let spec = object.get_or_null("spec");
    let mut external: Vec<&str> =
        spec.list("externalIPs").iter().filter_map(Value::as_str).collect();
    match spec.text("type") {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.into(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let ingress = object["status"]["loadBalancer"].list("ingress");
            let mut all: Vec<&str> =
                ingress.iter().map(|one| or(one.text("ip"), one.text("hostname"))).collect();
            all.retain(|one| !one.is_empty());
            all.sort_unstable();
            all.dedup();
            all.append(&mut external);
            or(&all.join(","), "<pending>").into()
        }
        "ExternalName" => spec.text("externalName").into(),
        _ => show::UNKNOWN.into(),
    }
}

fn ports(spec: &Value) -> String {
    let one = |port: &Value| {
        let (number, protocol) = (port.int("port"), port.text("protocol"));
        match port.int("nodePort") {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    };
    spec.list("ports").iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(old: &Value, new: Value) -> Value {
        let mut new = json!({"spec": new});
        Service.default(&mut new);
        Service.prepare_update(&mut new, &json!({"spec": old}));
        new["spec"].take()
    }

    #[test]
    fn a_replaced_service_keeps_its_addresses_and_ports() {
        let old = json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]});
        let new = updated(&old, json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}));
        assert_eq!(new["clusterIPs"], json!(["10.0.0.1"]));
        assert_eq!(new["ports"][0]["nodePort"], 30001);
        assert_eq!(new["ports"][1].get("nodePort"), None);
    }

    #[test]
    fn a_changed_type_drops_what_it_had() {
        let old = json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]});
        let mut wish = old.clone();
        wish["type"] = "ClusterIP".into();
        let new = updated(&old, wish.clone());
        assert_eq!(new["ports"][0].get("nodePort"), None);
        assert_eq!(new.get("externalTrafficPolicy"), None);
        wish["type"] = "ExternalName".into();
        wish["externalName"] = "example.com".into();
        let new = updated(&old, wish);
        assert_eq!((new.get("clusterIP"), new.get("ipFamilies")), (None, None));
    }

    #[test]
    fn the_external_address_of_each_type() {
        let cell = |spec: Value, ingress: Value| {
            external_ip(&json!({"spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}))
        };
        let balanced = json!({"type": "LoadBalancer", "externalIPs": ["192.0.2.1"]});
        assert_eq!(cell(json!({"type": "ClusterIP"}), json!([])), "<none>");
        assert_eq!(cell(json!({"type": "LoadBalancer"}), json!([])), "<pending>");
        assert_eq!(
            cell(balanced, json!([{"hostname": "b.example.com"}, {"ip": "192.0.2.9"}])),
            "192.0.2.9,b.example.com,192.0.2.1"
        );
    }

    #[test]
    fn a_headless_service_without_selector_has_both_families() {
        let mut object = json!({"spec": {"clusterIP": "None"}});
        Service.default(&mut object);
        Service.prepare_create(&mut object);
        assert_eq!(object["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
        assert_eq!(object["spec"]["ipFamilyPolicy"], "RequireDualStack");
    }
}

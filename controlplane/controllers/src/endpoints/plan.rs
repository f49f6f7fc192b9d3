//! What a Service's Endpoints should be. Pure.
//!
//! Owns: grouping addresses by the ports they share. Must not know: the API. A newcomer's trap: what we
//! delete is only what we made, told by its label; others' Endpoints stay when a Service goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use kube::api::ObjectMeta;

use crate::pods::{is_ready, node_of};
use crate::service;

/// Marks the Endpoints this controller made.
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
/// Addresses one object may have (Kubernetes' limit).
const ADDRESSES_MAX: usize = 1_000;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Create(Box<Endpoints>),
    Replace(Box<Endpoints>),
    Delete,
}

/// `pods`: those the Service selects.
pub(crate) fn plan(
    service: Option<&Service>,
    pods: &[Arc<Pod>],
    present: Option<&Endpoints>,
) -> Option<Step> {
    let Some(service) = service else {
        let is_ours = |endpoints: &Endpoints| {
            let labels = endpoints.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(MANAGED_BY.0)).map(String::as_str)
                == Some(MANAGED_BY.1)
        };
        return present.is_some_and(is_ours).then_some(Step::Delete);
    };
    service::selector_of(service)?;
    let subsets = subsets(service, pods);
    let subsets = (!subsets.is_empty()).then_some(subsets);
    let labels = Some(service::labels_with(service, &[MANAGED_BY]));
    let Some(present) = present else {
        let metadata = ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels,
            ..ObjectMeta::default()
        };
        return Some(Step::Create(Box::new(Endpoints { metadata, subsets })));
    };
    let mut wanted = present.clone();
    wanted.metadata.labels = labels;
    wanted.subsets = subsets;
    let mut normal = present.clone();
    normal.subsets = normal.subsets.filter(|subsets| !subsets.is_empty());
    (wanted != normal).then(|| Step::Replace(Box::new(wanted)))
}

/// Ports in an order, to group by.
type Ports = Vec<(Option<String>, i32, String, Option<String>)>;

#[derive(Default)]
struct Addresses {
    ready: Vec<EndpointAddress>,
    not_ready: Vec<EndpointAddress>,
}

fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let mut groups: BTreeMap<Ports, Addresses> = BTreeMap::new();
    let publishes = service::publishes_not_ready(service);
    let mut count = 0;
    for pod in pods {
        // Pods being deleted are left out, unless the Service publishes them whatever their state.
        let is_going = pod.metadata.deletion_timestamp.is_some();
        let Some(address) = service::address_of(pod).filter(|_| publishes || !is_going) else {
            continue;
        };
        let ports = ports(service, pod);
        if (ports.is_empty() && !service::ports_of(service).is_empty()) || count >= ADDRESSES_MAX {
            continue;
        }
        count += 1;
        let group = groups.entry(ports).or_default();
        let list = if publishes || is_ready(pod) { &mut group.ready } else { &mut group.not_ready };
        list.push(endpoint(service, pod, address));
    }
    groups.into_iter().map(|(ports, addresses)| subset(ports, addresses)).collect()
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let mut ports: Ports = service::ports_of(service)
        .iter()
        .filter_map(|port| {
            let number = service::target_port(pod, port)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let name = port.name.clone().filter(|name| !name.is_empty());
            Some((name, number, protocol, port.app_protocol.clone()))
        })
        .collect();
    ports.sort();
    ports
}

fn endpoint(service: &Service, pod: &Pod, address: &str) -> EndpointAddress {
    EndpointAddress {
        ip: address.to_owned(),
        hostname: service::hostname_of(pod, service).map(str::to_owned),
        node_name: Some(node_of(pod).to_owned()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    }
}

fn subset(ports: Ports, mut addresses: Addresses) -> EndpointSubset {
    let port = |(name, port, protocol, app_protocol)| EndpointPort {
        name,
        port,
        protocol: Some(protocol),
        app_protocol,
    };
    let some = |list: &mut Vec<EndpointAddress>| {
        list.sort_by(|one, other| one.ip.cmp(&other.ip));
        (!list.is_empty()).then(|| std::mem::take(list))
    };
    let ports: Vec<EndpointPort> = ports.into_iter().map(port).collect();
    EndpointSubset {
        addresses: some(&mut addresses.ready),
        not_ready_addresses: some(&mut addresses.not_ready),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::{Value, json};

    fn service(extra: Value) -> Service {
        let mut value = json!({"metadata": {"name": "web", "namespace": "default", "labels": {"team": "a"}},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
        for (key, part) in extra.as_object().unwrap() {
            value["spec"][key] = part.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn shape(step: Option<Step>) -> Value {
        let Some(Step::Create(endpoints) | Step::Replace(endpoints)) = step else {
            return json!(null);
        };
        let subsets = endpoints.subsets.unwrap_or_default();
        subsets
            .iter()
            .map(|subset| {
                let ips = |list: &Option<Vec<EndpointAddress>>| {
                    list.iter().flatten().map(|one| one.ip.clone()).collect::<Vec<_>>()
                };
                let ports: Vec<i32> = subset.ports.iter().flatten().map(|port| port.port).collect();
                json!([ips(&subset.addresses), ips(&subset.not_ready_addresses), ports])
            })
            .collect()
    }

    #[test]
    fn who_is_in_it() {
        let pods = [
            pod("b", json!({"node": "n", "phase": "Running", "ready": 1, "ip": "172.16.0.3"})),
            pod("a", json!({"node": "n", "phase": "Running", "ready": 1, "ip": "172.16.0.2"})),
            pod("starting", json!({"node": "n", "phase": "Running", "ip": "172.16.0.4"})),
            pod(
                "going",
                json!({"node": "n", "phase": "Running", "ready": 1, "ip": "172.16.0.5", "deleted": 9}),
            ),
            pod("over", json!({"node": "n", "phase": "Failed", "ip": "172.16.0.6"})),
            pod("no-address", json!({"node": "n", "phase": "Pending"})),
        ];
        let made = plan(Some(&service(json!({}))), &pods, None);
        assert_eq!(
            shape(made.clone()),
            json!([[["172.16.0.2", "172.16.0.3"], ["172.16.0.4"], [8080]]])
        );
        let Some(Step::Create(made)) = made else { panic!("not made") };
        assert_eq!(made.metadata.labels.as_ref().unwrap()["team"], "a");
        assert_eq!(
            plan(Some(&service(json!({}))), &pods, Some(&made)),
            None,
            "nothing to do twice"
        );
        let open = service(json!({"publishNotReadyAddresses": true}));
        assert_eq!(
            shape(plan(Some(&open), &pods, None)),
            json!([[["172.16.0.2", "172.16.0.3", "172.16.0.4", "172.16.0.5"], [], [8080]]])
        );
        assert_eq!(plan(None, &[], Some(&made)), Some(Step::Delete));
    }

    #[test]
    fn what_is_not_ours_stays() {
        let theirs = Endpoints::default();
        assert_eq!(plan(None, &[], Some(&theirs)), None);
        assert_eq!(plan(Some(&service(json!({"selector": null}))), &[], None), None);
        assert_eq!(plan(Some(&service(json!({"type": "ExternalName"}))), &[], None), None);
    }
}

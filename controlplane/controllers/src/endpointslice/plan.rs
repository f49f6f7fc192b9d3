//! What a Service's slices should be. Pure.
//!
//! Owns: sharing endpoints out over slices, changing as few as possible. Must not know: the API. A
//! newcomer's trap: endpoints whose ports differ cannot share a slice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::ObjectMeta;

use crate::owner;
use crate::pods::{is_ready, node_of};
use crate::service;

/// The label that names a slice's Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGED_BY: (&str, &str) =
    ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
/// Endpoints in one slice (`--max-endpoints-per-slice`).
const ENDPOINTS_MAX: usize = 100;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Create(Box<EndpointSlice>),
    Replace(Box<EndpointSlice>),
    Delete { name: String, uid: String },
}

/// The name of the Service a slice of ours belongs to.
pub(crate) fn owner_of(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    let is_ours = labels.get(MANAGED_BY.0).map(String::as_str) == Some(MANAGED_BY.1);
    labels.get(SERVICE_LABEL).filter(|_| is_ours).map(String::as_str)
}

/// Index values for "by namespace/service".
pub(crate) fn service_index(slice: &EndpointSlice) -> Vec<String> {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    owner_of(slice).map(|service| format!("{namespace}/{service}")).into_iter().collect()
}

/// Ports in an order, to group by: name, port, protocol, application protocol.
type Ports = Vec<(String, Option<i32>, String, Option<String>)>;

/// `pods`: those the Service selects. `present`: its slices.
pub(crate) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    present: &[Arc<EndpointSlice>],
    zone_of: impl Fn(&str) -> Option<String>,
) -> Vec<Step> {
    if service::selector_of(service).is_none() || service.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let mut groups = group(service, pods, zone_of);
    if groups.is_empty() {
        // One slice without endpoints says that there are none.
        groups.insert(Ports::new(), BTreeMap::new());
    }
    let mut steps = Vec::new();
    let mut unused: Vec<&Arc<EndpointSlice>> = present.iter().collect();
    for (ports, endpoints) in groups {
        let (same, others): (Vec<_>, Vec<_>) =
            unused.into_iter().partition(|slice| ports_of(slice) == ports);
        unused = others;
        share_out(service, &ports, endpoints, &same, &mut steps);
    }
    steps.extend(unused.into_iter().map(|slice| delete(slice)));
    steps
}

fn delete(slice: &EndpointSlice) -> Step {
    let meta = &slice.metadata;
    Step::Delete {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// Endpoints by the uid of their pod.
type Endpoints = BTreeMap<String, Endpoint>;

fn group(
    service: &Service,
    pods: &[Arc<Pod>],
    zone_of: impl Fn(&str) -> Option<String>,
) -> BTreeMap<Ports, Endpoints> {
    let mut groups: BTreeMap<Ports, Endpoints> = BTreeMap::new();
    for pod in pods {
        let Some(address) = service::address_of(pod) else { continue };
        let ports = ports_for(service, pod);
        if ports.is_empty() && !service::ports_of(service).is_empty() {
            continue;
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let endpoint = endpoint(service, pod, address, zone_of(node_of(pod)));
        groups.entry(ports).or_default().insert(uid, endpoint);
    }
    groups
}

fn ports_for(service: &Service, pod: &Pod) -> Ports {
    let mut ports: Ports = service::ports_of(service)
        .iter()
        .filter_map(|port| {
            let number = service::target_port(pod, port)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let name = port.name.clone().unwrap_or_default();
            Some((name, Some(number), protocol, port.app_protocol.clone()))
        })
        .collect();
    ports.sort();
    ports
}

fn ports_of(slice: &EndpointSlice) -> Ports {
    let mut ports: Ports = slice
        .ports
        .iter()
        .flatten()
        .map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            (port.name.clone().unwrap_or_default(), port.port, protocol, port.app_protocol.clone())
        })
        .collect();
    ports.sort();
    ports
}

fn endpoint(service: &Service, pod: &Pod, address: &str, zone: Option<String>) -> Endpoint {
    let serving = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = service::publishes_not_ready(service) || (serving && !terminating);
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service::hostname_of(pod, service).map(str::to_owned),
        node_name: Some(node_of(pod).to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    }
}

fn pod_uid(endpoint: &Endpoint) -> Option<&String> {
    endpoint.target_ref.as_ref().and_then(|target| target.uid.as_ref())
}

/// Keeps endpoints in the slices they are in, fills those with room, and makes as many more as needed.
fn share_out(
    service: &Service,
    ports: &Ports,
    mut endpoints: Endpoints,
    slices: &[&Arc<EndpointSlice>],
    steps: &mut Vec<Step>,
) {
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = slices
        .iter()
        .map(|slice| {
            let stay =
                slice.endpoints.iter().flatten().filter_map(|old| endpoints.remove(pod_uid(old)?));
            (*slice, stay.take(ENDPOINTS_MAX).collect())
        })
        .collect();
    let mut new: VecDeque<Endpoint> = endpoints.into_values().collect();
    // The fullest first, so that slices become full rather than many.
    kept.sort_by_key(|(_, endpoints)| std::cmp::Reverse(endpoints.len()));
    for (_, endpoints) in &mut kept {
        let room = (ENDPOINTS_MAX - endpoints.len()).min(new.len());
        endpoints.extend(new.drain(..room));
    }
    let total: usize = kept.iter().map(|(_, endpoints)| endpoints.len()).sum();
    let mut has_placeholder = false;
    for (slice, endpoints) in kept {
        let is_placeholder = endpoints.is_empty() && total == 0 && !has_placeholder;
        if endpoints.is_empty() && !is_placeholder {
            steps.push(delete(slice));
            continue;
        }
        has_placeholder |= is_placeholder;
        let wanted = slice_of(service, ports, endpoints, Some(slice));
        if wanted != normal(slice) {
            steps.push(Step::Replace(Box::new(wanted)));
        }
    }
    let mut first = slices.is_empty();
    while first || !new.is_empty() {
        first = false;
        let endpoints = new.drain(..new.len().min(ENDPOINTS_MAX)).collect();
        steps.push(Step::Create(Box::new(slice_of(service, ports, endpoints, None))));
    }
}

/// A list that is empty reads back as none or as empty, which is the same.
fn normal(slice: &EndpointSlice) -> EndpointSlice {
    let mut slice = slice.clone();
    slice.endpoints = slice.endpoints.filter(|endpoints| !endpoints.is_empty());
    slice.ports = slice.ports.filter(|ports| !ports.is_empty());
    slice
}

fn slice_of(
    service: &Service,
    ports: &Ports,
    endpoints: Vec<Endpoint>,
    present: Option<&EndpointSlice>,
) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let labels = service::labels_with(service, &[MANAGED_BY, (SERVICE_LABEL, &name)]);
    let ports: Vec<EndpointPort> = ports
        .iter()
        .map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: Some(name.clone()),
            port: *port,
            protocol: Some(protocol.clone()),
            app_protocol: app_protocol.clone(),
        })
        .collect();
    let fresh = || ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: service.metadata.namespace.clone(),
        owner_references: Some(vec![owner::reference_to(service)]),
        ..ObjectMeta::default()
    };
    let mut metadata = present.map_or_else(fresh, |present| present.metadata.clone());
    metadata.labels = Some(labels);
    // A list that is empty is written as none, as it reads back so.
    EndpointSlice {
        metadata,
        address_type: "IPv4".to_owned(),
        endpoints: (!endpoints.is_empty()).then_some(endpoints),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::{Value, json};

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "svc"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}))
        .unwrap()
    }

    fn running(number: usize, extra: Value) -> Arc<Pod> {
        let mut value = json!({"node": "n", "phase": "Running", "ready": 1, "ip": format!("172.16.{}.{}", number / 250, number % 250 + 1)});
        for (key, part) in extra.as_object().unwrap() {
            value[key] = part.clone();
        }
        pod(&format!("u{number:04}"), value)
    }

    /// Carries the steps out one at a time and plans anew after each: the end is the same (SYNC-1).
    fn settle(pods: &[Arc<Pod>], slices: &mut Vec<Arc<EndpointSlice>>) -> usize {
        for round in 0..100 {
            let steps = plan(&service(), pods, slices, |_| None);
            let Some(step) = steps.into_iter().next() else { return round };
            match step {
                Step::Create(mut slice) => {
                    let name = format!("web-{}", slices.len() + round * 10);
                    slice.metadata.uid = Some(name.clone());
                    slice.metadata.name = Some(name);
                    slices.push(Arc::new(*slice));
                }
                Step::Replace(slice) => {
                    let old = slices
                        .iter_mut()
                        .find(|old| old.metadata.name == slice.metadata.name)
                        .unwrap();
                    *old = Arc::new(*slice);
                }
                Step::Delete { name, .. } => {
                    slices.retain(|slice| slice.metadata.name.as_ref() != Some(&name));
                }
            }
        }
        panic!("does not settle");
    }

    fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
        let mut sizes: Vec<usize> =
            slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn slices_grow_shrink_and_end_as_one_empty_one() {
        let pods: Vec<_> = (0..230).map(|number| running(number, json!({}))).collect();
        let mut slices = Vec::new();
        settle(&[], &mut slices);
        assert_eq!(sizes(&slices), [0]);
        settle(&pods, &mut slices);
        assert_eq!(sizes(&slices), [30, 100, 100]);
        settle(&pods[..200], &mut slices);
        assert_eq!(sizes(&slices).iter().sum::<usize>(), 200);
        settle(&[], &mut slices);
        assert_eq!(sizes(&slices), [0]);
    }

    #[test]
    fn one_more_pod_changes_one_slice() {
        let pods: Vec<_> = (0..151).map(|number| running(number, json!({}))).collect();
        let mut slices = Vec::new();
        settle(&pods[..150], &mut slices);
        assert_eq!(plan(&service(), &pods, &slices, |_| None).len(), 1);
    }

    #[test]
    fn the_three_conditions() {
        let publishing = |publishes: bool| {
            let mut service = service();
            service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(publishes);
            service
        };
        for (extra, publishes, expected) in [
            (json!({}), false, (true, true, false)),
            (json!({"ready": null}), false, (false, false, false)),
            (json!({"deleted": 5}), false, (false, true, true)),
            (json!({"ready": null}), true, (true, false, false)),
        ] {
            let pods = [running(1, extra.clone())];
            let steps = plan(&publishing(publishes), &pods, &[], |_| Some("z".to_owned()));
            let Some(Step::Create(slice)) = steps.first() else { panic!("not made") };
            let endpoint = &slice.endpoints.as_ref().unwrap()[0];
            let conditions = endpoint.conditions.clone().unwrap();
            let told = (
                conditions.ready.unwrap(),
                conditions.serving.unwrap(),
                conditions.terminating.unwrap(),
            );
            assert_eq!(told, expected, "{extra}");
            assert_eq!(endpoint.zone.as_deref(), Some("z"));
        }
    }
}

//! What the two endpoint controllers share: which pods serve a Service, and on which ports.
//!
//! Owns: selecting pods and resolving named ports. Must not know: Endpoints and EndpointSlices. A
//! newcomer's trap: a named port may be another number in each pod of one Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kijabi_client::{Cache, Change, Key, WorkQueue};

use crate::pods::{is_over, is_ready, node_of};

/// The label that marks Endpoints and slices of headless Services.
pub(crate) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// The labels pods must have, if the Service selects any.
pub(crate) fn selector_of(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// Whether `service` selects a pod with these labels.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector_of(service).is_some_and(|selector| {
        selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}

/// Whether the Service has no address of its own.
pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether pods that are not ready are published as if they were.
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// The Service's ports.
pub(crate) fn ports_of(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

/// The pod's IPv4 address, if it has one and is not over.
pub(crate) fn address_of(pod: &Pod) -> Option<&str> {
    let address = pod.status.as_ref()?.pod_ip.as_deref().filter(|address| !address.is_empty())?;
    (!is_over(pod)).then_some(address)
}

/// The name the pod is known by below the Service's own, if it asked for one.
pub(crate) fn hostname_of<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_deref().filter(|hostname| !hostname.is_empty())?;
    (spec.subdomain.as_deref() == service.metadata.name.as_deref()).then_some(hostname)
}

fn protocol(protocol: Option<&String>) -> &str {
    protocol.map_or("TCP", String::as_str)
}

/// The number of the pod's port that `port` leads to, if the pod has it.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let is_sidecar = |one: &&Container| one.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|one| {
            one.name.as_ref() == Some(name)
                && protocol(one.protocol.as_ref()) == protocol(port.protocol.as_ref())
        })
        .map(|one| one.container_port)
}

/// The labels of the Service, with those of `extra`, as its Endpoints and slices carry them.
pub(crate) fn labels_with(service: &Service, extra: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    labels
}

/// Wakes the Services a changed pod concerns: those that selected it before or select it now.
pub(crate) fn wake_on_pods(
    pods: &Cache<Pod>,
    services: &Arc<Cache<Service>>,
    queue: &Arc<WorkQueue<Key>>,
) {
    let (services, queue) = (services.clone(), queue.clone());
    pods.subscribe(move |change: &Change<Pod>| {
        let shown = |pod: &Option<Arc<Pod>>| pod.as_ref().map(|pod| shown(pod));
        if shown(&change.old) == shown(&change.new) {
            return;
        }
        for service in services.in_namespace(&Key::of(change.latest().as_ref()).namespace) {
            let concerned = [&change.old, &change.new].into_iter().flatten();
            if concerned.into_iter().any(|pod| selects(&service, pod)) {
                queue.add(Key::of(service.as_ref()));
            }
        }
    });
}

/// All of a pod that endpoints show; a change of anything else wakes nobody.
type Shown = (Option<String>, bool, bool, bool, String, Option<BTreeMap<String, String>>);

fn shown(pod: &Pod) -> Shown {
    (
        pod.status.as_ref().and_then(|status| status.pod_ip.clone()),
        is_over(pod),
        is_ready(pod),
        pod.metadata.deletion_timestamp.is_some(),
        node_of(pod).to_owned(),
        pod.metadata.labels.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn which_port_of_the_pod_is_meant() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "ports": [
            {"name": "web", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]}}))
        .unwrap();
        for (target, udp, expected) in [
            (json!(null), false, Some(80)),
            (json!(0), false, Some(80)),
            (json!(9), false, Some(9)),
            (json!("web"), false, Some(8080)),
            (json!("dns"), true, Some(53)),
            (json!("dns"), false, None),
            (json!("gone"), false, None),
        ] {
            let protocol: Value = if udp { json!("UDP") } else { json!("TCP") };
            let port = serde_json::from_value(
                json!({"port": 80, "targetPort": target, "protocol": protocol}),
            )
            .unwrap();
            assert_eq!(target_port(&pod, &port), expected, "{target} udp={udp}");
        }
    }
}

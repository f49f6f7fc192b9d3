//! The Node object, computed. Pure: the machine, the runtime's health and the time come in.
//!
//! A newcomer's trap: a condition's `lastTransitionTime` changes only with its status, so the
//! previous conditions are an input.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::machine::{Machine, Pressure};
use crate::runtime::{Health, Image, Version};
use crate::time::time;

/// Images a Node lists at most (the kubelet's `nodeStatusMaxImages`).
const IMAGES_MAX: usize = 50;
/// Names an image is listed under at most (the kubelet's).
const IMAGE_NAMES_MAX: usize = 5;

/// What a Node's fields are computed from.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The Node's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The machine.
    pub machine: Machine,
    /// Most pods.
    pub pods_max: u32,
    /// The runtime.
    pub runtime: Version,
    /// Port of the node server, if there is one.
    pub port: Option<u16>,
    /// Labels beside the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints at registration.
    pub taints: Vec<Taint>,
    /// The pod range, if it was given to the agent.
    pub pod_cidr: Option<String>,
}

/// The Node to be created if there is none.
pub fn registration(facts: &Facts) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.clone()),
            labels: Some(labels(facts)),
            annotations: Some(
                [
                    ("node.alpha.kubernetes.io/ttl", "0"),
                    ("volumes.kubernetes.io/controller-managed-attach-detach", "true"),
                ]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: facts.pod_cidr.clone(),
            pod_cidrs: facts.pod_cidr.clone().map(|cidr| vec![cidr]),
            taints: (!facts.taints.is_empty()).then(|| facts.taints.clone()),
            ..NodeSpec::default()
        }),
        status: None,
    }
}

/// The labels the agent keeps on its Node.
pub fn labels(facts: &Facts) -> BTreeMap<String, String> {
    let mut labels = facts.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", facts.name.as_str()),
        ("kubernetes.io/arch", crate::image::architecture()),
        ("kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", crate::image::architecture()),
        ("beta.kubernetes.io/os", "linux"),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

/// The status as it is now. `before` are the Node's present conditions.
pub fn status(
    facts: &Facts,
    health: &Result<Health, String>,
    pressure: Pressure,
    images: &[Image],
    before: &[NodeCondition],
    now: Timestamp,
) -> NodeStatus {
    let capacity = capacity(facts);
    NodeStatus {
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".to_owned(), address: facts.address.to_string() },
            NodeAddress { type_: "Hostname".to_owned(), address: facts.name.clone() },
        ]),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(conditions(health, pressure, before, now)),
        daemon_endpoints: facts.port.map(|port| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(port) }),
        }),
        images: Some(image_list(images)),
        node_info: Some(NodeSystemInfo {
            architecture: crate::image::architecture().to_owned(),
            boot_id: facts.machine.boot_id.clone(),
            container_runtime_version: runtime_version(&facts.runtime),
            kernel_version: facts.machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: crate::KUBELET_VERSION.to_owned(),
            machine_id: facts.machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: facts.machine.os_image.clone(),
            system_uuid: facts.machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// `containerd://1.6.20`: what a distribution appends after `~` or `+` is not part of the version.
fn runtime_version(runtime: &Version) -> String {
    let version = runtime.version.split(['~', '+']).next().unwrap_or_default();
    format!("{}://{}", runtime.name, version)
}

fn capacity(facts: &Facts) -> BTreeMap<String, Quantity> {
    [
        ("cpu", facts.machine.cpus.to_string()),
        ("memory", format!("{}Ki", facts.machine.memory_bytes / 1024)),
        ("ephemeral-storage", format!("{}Ki", facts.machine.disk_bytes / 1024)),
        ("pods", facts.pods_max.to_string()),
        ("hugepages-1Gi", "0".to_owned()),
        ("hugepages-2Mi", "0".to_owned()),
    ]
    .into_iter()
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .collect()
}

fn image_list(images: &[Image]) -> Vec<ContainerImage> {
    let mut sorted: Vec<&Image> = images.iter().collect();
    sorted.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    sorted
        .into_iter()
        .take(IMAGES_MAX)
        .map(|image| ContainerImage {
            names: Some(
                image.digests.iter().chain(&image.tags).take(IMAGE_NAMES_MAX).cloned().collect(),
            ),
            size_bytes: Some(image.size as i64),
        })
        .collect()
}

fn conditions(
    health: &Result<Health, String>,
    pressure: Pressure,
    before: &[NodeCondition],
    now: Timestamp,
) -> Vec<NodeCondition> {
    let pressured = |kind: &str, on: bool, texts: [(&str, &str); 2]| {
        let (reason, message) = texts[usize::from(on)];
        (kind.to_owned(), on, format!("KubeletHas{reason}"), format!("kubelet has {message}"))
    };
    let problem = match health {
        Err(error) => Some(format!("container runtime is down: {error}")),
        Ok(health) => match (&health.runtime, &health.network) {
            (Some(runtime), _) => Some(format!("container runtime not ready: {runtime}")),
            (None, Some(network)) => {
                Some(format!("container runtime network not ready: {network}"))
            }
            (None, None) => None,
        },
    };
    let ready = match problem {
        None => (
            "Ready".to_owned(),
            true,
            "KubeletReady".to_owned(),
            "kubelet is posting ready status".to_owned(),
        ),
        Some(message) => ("Ready".to_owned(), false, "KubeletNotReady".to_owned(), message),
    };
    [
        pressured(
            "MemoryPressure",
            pressure.memory,
            [
                ("SufficientMemory", "sufficient memory available"),
                ("InsufficientMemory", "insufficient memory available"),
            ],
        ),
        pressured(
            "DiskPressure",
            pressure.disk,
            [("NoDiskPressure", "no disk pressure"), ("DiskPressure", "disk pressure")],
        ),
        pressured(
            "PIDPressure",
            pressure.pid,
            [
                ("SufficientPID", "sufficient PID available"),
                ("InsufficientPID", "insufficient PID available"),
            ],
        ),
        ready,
    ]
    .into_iter()
    .map(|(type_, on, reason, message)| {
        let status = if on { "True" } else { "False" }.to_owned();
        let since = before
            .iter()
            .find(|old| old.type_ == type_ && old.status == status)
            .and_then(|old| old.last_transition_time.clone());
        NodeCondition {
            last_heartbeat_time: Some(time(now)),
            last_transition_time: Some(since.unwrap_or_else(|| time(now))),
            message: Some(message),
            reason: Some(reason),
            status,
            type_,
        }
    })
    .collect()
}

/// Whether two statuses differ in more than heartbeat times.
pub fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let without_heartbeats = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    without_heartbeats(a) != without_heartbeats(b)
}

/// What the node has come to be short of, in the words of its conditions.
pub fn new_pressures<'a>(
    before: &'a [NodeCondition],
    status: &'a NodeStatus,
) -> impl Iterator<Item = &'a str> {
    let is_on = |it: &NodeCondition| it.type_.ends_with("Pressure") && it.status == "True";
    let now = status.conditions.iter().flatten().filter(move |it| is_on(it));
    now.filter(move |it| !before.iter().any(|old| old.type_ == it.type_ && is_on(old)))
        .filter_map(|it| it.message.as_deref())
}

/// Whether the API's conditions say something else than the status: another has written them, such
/// as the node controller when it had not heard of the node for a while.
pub fn contradicts(api: &[NodeCondition], status: &NodeStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|own| !api.iter().any(|it| it.type_ == own.type_ && it.status == own.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            name: "w1".to_owned(),
            address: [192, 168, 1, 101].into(),
            machine: Machine::hollow("w1"),
            pods_max: 110,
            runtime: Version { name: "containerd".to_owned(), version: "1.6.20~ds1".to_owned() },
            port: Some(10250),
            labels: [("node-role.kubernetes.io/master".to_owned(), String::new())].into(),
            taints: Vec::new(),
            pod_cidr: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(status: &NodeStatus) -> NodeCondition {
        let conditions = status.conditions.clone().unwrap();
        conditions.into_iter().find(|it| it.type_ == "Ready").unwrap()
    }

    #[test]
    fn the_runtime_version_drops_the_distributions_suffix() {
        let status = status(&facts(), &Ok(Health::default()), Pressure::default(), &[], &[], at(1));
        assert_eq!(status.node_info.unwrap().container_runtime_version, "containerd://1.6.20");
    }

    #[test]
    fn a_transition_time_changes_with_the_status_only() {
        let first = status(&facts(), &Ok(Health::default()), Pressure::default(), &[], &[], at(10));
        let conditions = first.conditions.clone().unwrap();
        let later =
            status(&facts(), &Ok(Health::default()), Pressure::default(), &[], &conditions, at(99));
        assert_eq!(ready(&later).last_transition_time, ready(&first).last_transition_time);
        assert!(!differs(&first, &later), "only heartbeats changed");

        let broken = status(
            &facts(),
            &Err("no answer".to_owned()),
            Pressure::default(),
            &[],
            &conditions,
            at(99),
        );
        assert_eq!(ready(&broken).status, "False");
        assert_eq!(ready(&broken).last_transition_time, Some(time(at(99))));
        assert_eq!(ready(&broken).message.as_deref(), Some("container runtime is down: no answer"));
        assert!(differs(&first, &broken));

        let mut written = conditions;
        assert!(!contradicts(&written, &later));
        for it in &mut written {
            "Unknown".clone_into(&mut it.status);
        }
        assert!(contradicts(&written, &later), "the node controller gave the node up meanwhile");
    }

    #[test]
    fn a_pressure_is_told_of_when_it_begins() {
        let status = |pressure, before: &[NodeCondition]| {
            status(&facts(), &Ok(Health::default()), pressure, &[], before, at(1))
        };
        let none = status(Pressure::default(), &[]);
        let short = status(Pressure { disk: true, ..Pressure::default() }, &[]);
        let told = |before: &NodeStatus, now: &NodeStatus| -> Vec<String> {
            let before = before.conditions.as_deref().unwrap_or_default();
            new_pressures(before, now).map(str::to_owned).collect()
        };
        assert_eq!(told(&none, &short), ["kubelet has disk pressure"]);
        assert_eq!(told(&NodeStatus::default(), &short), ["kubelet has disk pressure"]);
        assert!(told(&short, &short).is_empty() && told(&short, &none).is_empty());
    }

    #[test]
    fn roles_and_well_known_labels_are_registered() {
        let labels = registration(&facts()).metadata.labels.unwrap();
        assert_eq!(labels["kubernetes.io/hostname"], "w1");
        assert!(labels.contains_key("node-role.kubernetes.io/master"));
    }
}

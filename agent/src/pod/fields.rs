//! The downward API: a pod's own fields and resources as text. Pure.
//!
//! Used by env and by volumes. A newcomer's trap: whole maps (`metadata.labels`) are for files
//! only, and are sorted and quoted there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container as Wanted, Pod, ResourceFieldSelector};

use super::plan::{app_containers, init_containers};
use super::resources;
use crate::quantity::{milli, units};

/// What the fields need beside the pod.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    /// The pod's addresses.
    pub(crate) pod_ips: Vec<String>,
    /// The node's address.
    pub(crate) host_ip: IpAddr,
    /// CPU in thousandths and bytes of memory, where a container has no limit.
    pub(crate) allocatable: (i64, i64),
}

/// The text of a field.
pub(crate) fn field(pod: &Pod, around: &Around, path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(unsupported(path)),
        };
        return Ok(map.as_ref().and_then(|it| it.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|it| it.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            spec.and_then(|it| it.service_account_name.clone()).unwrap_or_default()
        }
        "status.hostIP" | "status.hostIPs" => around.host_ip.to_string(),
        "status.podIP" => around.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => around.pod_ips.join(","),
        _ => return Err(unsupported(path)),
    })
}

fn unsupported(path: &str) -> String {
    format!("unsupported fieldPath: {path}")
}

/// `metadata.labels['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// A value in Go's quotes, as the kubelet writes them.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// The text of a resource field of a container.
pub(crate) fn resource(
    pod: &Pod,
    around: &Around,
    selector: &ResourceFieldSelector,
    own: Option<&Wanted>,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => app_containers(pod)
            .iter()
            .chain(init_containers(pod))
            .find(|it| it.name == name)
            .ok_or_else(|| format!("container {name} not found"))?,
        None => own.ok_or_else(|| "containerName is required".to_owned())?,
    };
    let divisor = selector.divisor.as_ref().filter(|it| it.0 != "0" && !it.0.is_empty());
    let (cpu, memory) = (resources::cpu(container), resources::memory(container));
    let divided = |amount: i64, by: i64| (amount + by - 1).div_euclid(by.max(1)).to_string();
    let cpu_by = divisor.and_then(milli).unwrap_or(1_000);
    let bytes_by = divisor.and_then(units).unwrap_or(1);
    match selector.resource.as_str() {
        "limits.cpu" => Ok(divided(cpu.1.unwrap_or(around.allocatable.0), cpu_by)),
        "requests.cpu" => Ok(divided(cpu.0.unwrap_or(0), cpu_by)),
        "limits.memory" => Ok(divided(memory.1.unwrap_or(around.allocatable.1), bytes_by)),
        "requests.memory" => Ok(divided(memory.0.unwrap_or(0), bytes_by)),
        other => Err(format!("unsupported container resource : {other}")),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_and_resources_become_text() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"b": "2", "a": "x\"y"}},
            "spec": {"nodeName": "w1", "containers": [
                {"name": "web", "resources": {"limits": {"cpu": "1500m"}}}]},
        }))
        .unwrap();
        let around = Around {
            pod_ips: vec!["172.16.0.2".to_owned()],
            host_ip: [10, 0, 0, 1].into(),
            allocatable: (4_000, 1 << 30),
        };
        let field = |path| field(&pod, &around, path).unwrap();
        assert_eq!(field("metadata.name"), "p");
        assert_eq!(field("metadata.labels['b']"), "2");
        assert_eq!(field("metadata.labels['none']"), "");
        assert_eq!(field("metadata.labels"), "a=\"x\\\"y\"\nb=\"2\"");
        assert_eq!(field("status.podIP"), "172.16.0.2");
        assert!(super::field(&pod, &around, "spec.containers").is_err());

        let resource = |resource: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                container_name: None,
                divisor: Some(Quantity(divisor.to_owned())),
                resource: resource.to_owned(),
            };
            super::resource(&pod, &around, &selector, Some(&app_containers(&pod)[0])).unwrap()
        };
        assert_eq!(resource("limits.cpu", "0"), "2", "rounded up");
        assert_eq!(resource("limits.cpu", "1m"), "1500");
        assert_eq!(resource("limits.memory", "1Mi"), "1024", "the node's, without a limit");
        assert_eq!(resource("requests.memory", "1"), "0");
    }
}

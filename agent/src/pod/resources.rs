//! Requests and limits as the kernel's numbers, and the quality-of-service class. Pure.
//!
//! A newcomer's trap: a limit without a request counts as a request of the same size, and a CPU
//! request of nothing still gets two shares.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container as Wanted, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::plan::{app_containers, init_containers};
use crate::quantity::{milli, units};
use crate::runtime::Resources;

const CPU_PERIOD_MICROS: i64 = 100_000;
/// Least quota the kernel takes: one millisecond a period.
const CPU_QUOTA_MIN: i64 = 1_000;

type Amounts = BTreeMap<String, Quantity>;

fn amounts(wanted: &Wanted) -> (Option<&Amounts>, Option<&Amounts>) {
    let resources = wanted.resources.as_ref();
    (resources.and_then(|it| it.requests.as_ref()), resources.and_then(|it| it.limits.as_ref()))
}

/// CPU in thousandths: (request, limit).
pub(crate) fn cpu(wanted: &Wanted) -> (Option<i64>, Option<i64>) {
    let (requests, limits) = amounts(wanted);
    let limit = limits.and_then(|it| it.get("cpu")).and_then(milli);
    (requests.and_then(|it| it.get("cpu")).and_then(milli).or(limit), limit)
}

/// Bytes of memory: (request, limit).
pub(crate) fn memory(wanted: &Wanted) -> (Option<i64>, Option<i64>) {
    let (requests, limits) = amounts(wanted);
    let limit = limits.and_then(|it| it.get("memory")).and_then(units);
    (requests.and_then(|it| it.get("memory")).and_then(units).or(limit), limit)
}

/// The kernel's limits for a container. `memory_total` is the node's.
pub(crate) fn limits(pod: &Pod, wanted: &Wanted, memory_total: i64) -> Resources {
    let (cpu_request, cpu_limit) = cpu(wanted);
    let (memory_request, memory_limit) = memory(wanted);
    let quota = cpu_limit
        .filter(|milli| *milli > 0)
        .map_or(0, |milli| (milli * CPU_PERIOD_MICROS / 1_000).max(CPU_QUOTA_MIN));
    Resources {
        cpu_shares: (cpu_request.unwrap_or(0) * 1_024 / 1_000).clamp(2, 262_144),
        cpu_quota: quota,
        cpu_period: CPU_PERIOD_MICROS,
        memory_bytes: memory_limit.unwrap_or(0),
        oom_score_adj: oom_score_adj(qos_class(pod), memory_request.unwrap_or(0), memory_total),
    }
}

/// Kubernetes' scale: guaranteed pods go last, those without requests first.
fn oom_score_adj(class: &str, request: i64, total: i64) -> i64 {
    match class {
        "Guaranteed" => -997,
        "BestEffort" => 1_000,
        _ => (1_000 - 1_000 * request / total.max(1)).clamp(3, 999),
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let containers = || app_containers(pod).iter().chain(init_containers(pod));
    let none = containers().all(|it| {
        let ((cpu, _), (memory, _)) = (cpu(it), memory(it));
        cpu.unwrap_or(0) == 0 && memory.unwrap_or(0) == 0
    });
    let equal = |(request, limit): (Option<i64>, Option<i64>)| {
        limit.is_some_and(|limit| limit > 0 && request == Some(limit))
    };
    if none {
        "BestEffort"
    } else if containers().all(|it| equal(cpu(it)) && equal(memory(it))) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// The pod's cgroup below the node's.
pub(crate) fn cgroup(node: &str, pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match qos_class(pod) {
        "Guaranteed" => format!("{node}/pod{uid}"),
        class => format!("{node}/{}/pod{uid}", class.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"uid": "u"},
            "spec": {"containers": [{"name": "web", "resources": resources}]},
        }))
        .unwrap()
    }

    #[test]
    fn requests_and_limits_become_cgroup_values() {
        let cases = [
            (json!({}), "BestEffort", (2, 0, 0, 1_000), "/n/besteffort/podu"),
            (
                json!({"requests": {"cpu": "100m", "memory": "64Mi"}}),
                "Burstable",
                (102, 0, 0, 938),
                "/n/burstable/podu",
            ),
            (
                json!({"limits": {"cpu": "500m", "memory": "64Mi"}}),
                "Guaranteed",
                (512, 50_000, 64 << 20, -997),
                "/n/podu",
            ),
            (
                json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "1m"}}),
                "Burstable",
                (2, 1_000, 0, 999),
                "/n/burstable/podu",
            ),
        ];
        for (resources, class, (shares, quota, memory, oom), group) in cases {
            let pod = pod(&resources);
            let limits = limits(&pod, &app_containers(&pod)[0], 1 << 30);
            assert_eq!(qos_class(&pod), class, "{resources}");
            assert_eq!(
                (limits.cpu_shares, limits.cpu_quota, limits.memory_bytes, limits.oom_score_adj),
                (shares, quota, memory, oom),
                "{resources}"
            );
            assert_eq!(cgroup("/n", &pod), group);
        }
    }
}

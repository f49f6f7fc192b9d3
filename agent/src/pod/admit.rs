//! Whether this node takes a pod. PURE: the pod, what is used already, what there is.
//!
//! Owns: the reasons a pod is refused for good, and the fields this node does not implement. Must
//! not know: how a refusal is reported. A newcomer's trap: the scheduler has said yes already; this
//! is the last look, for pods bound by hand and for what only the node can know.

use k8s_openapi::api::core::v1::{Container as Wanted, Pod};

use super::plan::{app_containers, init_containers, is_sidecar};
use super::resources;

/// Kernel parameters a pod may set: those that are its own and harm nobody else (Kubernetes' list).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What pods need, or a node has: how many, CPU in thousandths, bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) pods: i64,
    pub(super) cpu: i64,
    pub(super) memory: i64,
}

impl std::ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            pods: self.pods + other.pods,
            cpu: self.cpu + other.cpu,
            memory: self.memory + other.memory,
        }
    }
}

impl Amount {
    fn max(self, other: Self) -> Self {
        Self {
            pods: self.pods.max(other.pods),
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
        }
    }

    /// What a pod needs at its peak, by its requests.
    pub(super) fn of(pod: &Pod) -> Self {
        let of = |it: &Wanted| Self {
            pods: 0,
            cpu: resources::cpu(it).0.unwrap_or(0),
            memory: resources::memory(it).0.unwrap_or(0),
        };
        let apps = app_containers(pod).iter().map(of).fold(Self::default(), |a, b| a + b);
        // Init containers run one after the other, each beside the sidecars before it.
        let (mut sidecars, mut peak) = (Self::default(), Self::default());
        for it in init_containers(pod) {
            let with = sidecars + of(it);
            if is_sidecar(it) {
                sidecars = with;
            }
            peak = peak.max(with);
        }
        Self { pods: 1, ..(apps + sidecars).max(peak) }
    }
}

/// Why the node refuses a pod for good, in the kubelet's words: reason and message.
pub(super) fn refusal(pod: &Pod, used: Amount, capacity: Amount) -> Option<(&'static str, String)> {
    let spec = pod.spec.as_ref();
    if let Some(os) = spec.and_then(|it| it.os.as_ref()).filter(|it| it.name != "linux") {
        let message = format!(
            "Failed to admit pod as the OS field doesn't match node OS: {:?}, node OS: \"linux\"",
            os.name
        );
        return Some(("PodOSNotSupported", message));
    }
    let security = spec.and_then(|it| it.security_context.as_ref());
    let sysctls = security.and_then(|it| it.sysctls.as_ref());
    if let Some(it) =
        sysctls.into_iter().flatten().find(|it| !SAFE_SYSCTLS.contains(&it.name.as_str()))
    {
        let message = format!("forbidden sysctl: {:?} not allowlisted", it.name);
        return Some(("SysctlForbidden", message));
    }
    let wanted = Amount::of(pod);
    [
        ("OutOfpods", "pods", wanted.pods, used.pods, capacity.pods),
        ("OutOfcpu", "cpu", wanted.cpu, used.cpu, capacity.cpu),
        ("OutOfmemory", "memory", wanted.memory, used.memory, capacity.memory),
    ]
    .into_iter()
    .find(|(_, _, wanted, used, capacity)| *wanted > 0 && used + wanted > *capacity)
    .map(|(reason, what, wanted, used, capacity)| {
        let message = format!(
            "Node didn't have enough resource: {what}, requested: {wanted}, used: {used}, \
             capacity: {capacity}"
        );
        (reason, message)
    })
}

/// A field of the pod that asks for something this node does not implement. Such a pod is not
/// started: running it without what it asks for could be worse than not running it.
// Differs from Kubernetes: RuntimeClasses other than the default, user namespaces, raw block
// volumes, resource claims and local AppArmor profiles are refused by this node.
pub(super) fn unsupported(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let refuse = |what: &str| Some(format!("{what} not supported by this node"));
    if let Some(class) = spec.runtime_class_name.as_deref().filter(|it| !it.is_empty()) {
        return refuse(&format!("RuntimeClass {class:?} is"));
    }
    if spec.host_users == Some(false) {
        return refuse("user namespaces (hostUsers: false) are");
    }
    if spec.resource_claims.as_ref().is_some_and(|it| !it.is_empty()) {
        return refuse("resource claims are");
    }
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if containers.clone().any(|it| it.volume_devices.as_ref().is_some_and(|it| !it.is_empty())) {
        return refuse("raw block volumes (volumeDevices) are");
    }
    let of_pod = spec.security_context.as_ref().and_then(|it| it.app_armor_profile.as_ref());
    let local = |it: &Wanted| {
        let own = it.security_context.as_ref().and_then(|it| it.app_armor_profile.as_ref());
        own.or(of_pod).is_some_and(|it| it.type_ == "Localhost")
    };
    if containers.any(local) {
        return refuse("local AppArmor profiles are");
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn cpu(name: &str, cpu: &str, sidecar: bool) -> Value {
        let mut it = json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
        if sidecar {
            it["restartPolicy"] = json!("Always");
        }
        it
    }

    #[test]
    fn a_pod_needs_what_runs_together_at_its_peak() {
        let needs = |init: Vec<Value>, apps: Vec<Value>| {
            Amount::of(&pod(json!({"initContainers": init, "containers": apps}))).cpu
        };
        assert_eq!(needs(vec![], vec![cpu("a", "1", false), cpu("b", "1", false)]), 2_000);
        assert_eq!(needs(vec![cpu("i", "3", false)], vec![cpu("a", "1", false)]), 3_000);
        let with_sidecar = vec![cpu("s", "1", true), cpu("i", "3", false)];
        assert_eq!(needs(with_sidecar, vec![cpu("a", "1", false)]), 4_000);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_kubernetes_words() {
        let capacity = Amount { pods: 2, cpu: 1_000, memory: 1 << 20 };
        let used = Amount { pods: 1, cpu: 600, memory: 0 };
        let with = |container: Value| pod(json!({"containers": [container]}));
        let small = with(cpu("c", "400m", false));
        assert_eq!(refusal(&small, used, capacity), None);
        let (reason, message) = refusal(&with(cpu("c", "401m", false)), used, capacity).unwrap();
        assert_eq!(reason, "OutOfcpu");
        assert_eq!(
            message,
            "Node didn't have enough resource: cpu, requested: 401, used: 600, capacity: 1000"
        );
        let full = Amount { pods: 2, ..used };
        assert_eq!(refusal(&small, full, capacity).unwrap().0, "OutOfpods");
        let sysctl = |name: &str| {
            pod(json!({"containers": [],
                       "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}))
        };
        assert_eq!(refusal(&sysctl("net.ipv4.tcp_syncookies"), used, capacity), None);
        assert_eq!(refusal(&sysctl("kernel.msgmax"), used, capacity).unwrap().0, "SysctlForbidden");
        let windows = pod(json!({"containers": [], "os": {"name": "windows"}}));
        assert_eq!(refusal(&windows, used, capacity).unwrap().0, "PodOSNotSupported");
    }

    #[test]
    fn unimplemented_fields_are_named() {
        let cases = [
            (json!({"containers": []}), None),
            (
                json!({"containers": [], "runtimeClassName": "kata"}),
                Some("RuntimeClass \"kata\" is not supported by this node"),
            ),
            (
                json!({"containers": [], "hostUsers": false}),
                Some("user namespaces (hostUsers: false) are not supported by this node"),
            ),
            (
                json!({"containers": [{"name": "c", "volumeDevices":
                    [{"name": "v", "devicePath": "/dev/x"}]}]}),
                Some("raw block volumes (volumeDevices) are not supported by this node"),
            ),
            (
                json!({"containers": [{"name": "c", "securityContext": {"appArmorProfile":
                    {"type": "Localhost", "localhostProfile": "x"}}}]}),
                Some("local AppArmor profiles are not supported by this node"),
            ),
        ];
        for (spec, wanted) in cases {
            assert_eq!(unsupported(&pod(spec.clone())).as_deref(), wanted, "{spec}");
        }
    }
}

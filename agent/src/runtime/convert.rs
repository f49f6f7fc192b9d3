//! Between CRI's wire types and the agent's own. Pure.
//!
//! A newcomer's trap: absent messages mean defaults that differ from ours (no security context at
//! all means "all namespaces of the pod"), so every nested message is always sent.

use std::collections::BTreeMap;

use k8s_cri::v1;

use super::{
    Auth, Container, ContainerSpec, Dns, Health, Image, Mount, PodRecord, Propagation, Resources,
    RunState, Sandbox, SandboxSpec, Seccomp, Security, Sharing, label,
};

pub(super) fn health(status: &v1::RuntimeStatus) -> Health {
    let problem = |kind: &str| {
        let condition = status.conditions.iter().find(|it| it.r#type == kind);
        match condition {
            Some(it) if it.status => None,
            Some(it) => {
                Some(format!("{}={} reason:{} message:{}", kind, it.status, it.reason, it.message))
            }
            None => Some(format!("{kind} is not reported")),
        }
    };
    Health { runtime: problem("RuntimeReady"), network: problem("NetworkReady") }
}

pub(super) fn records(
    sandboxes: Vec<v1::PodSandbox>,
    containers: Vec<v1::Container>,
) -> BTreeMap<String, PodRecord> {
    let mut pods: BTreeMap<String, PodRecord> = BTreeMap::new();
    for it in sandboxes {
        let metadata = it.metadata.unwrap_or_default();
        let pod = pods.entry(metadata.uid).or_default();
        pod.name = metadata.name;
        pod.namespace = metadata.namespace;
        pod.observed.sandboxes.push(Sandbox {
            id: it.id,
            attempt: metadata.attempt,
            ready: it.state == v1::PodSandboxState::SandboxReady as i32,
            created_at: it.created_at,
            ips: Vec::new(),
        });
    }
    for it in containers {
        let Some(uid) = it.labels.get(label::POD_UID) else { continue };
        let pod = pods.entry(uid.clone()).or_default();
        if pod.name.is_empty() {
            pod.name = it.labels.get(label::POD_NAME).cloned().unwrap_or_default();
            pod.namespace = it.labels.get(label::POD_NAMESPACE).cloned().unwrap_or_default();
        }
        let metadata = it.metadata.unwrap_or_default();
        pod.observed.containers.push(Container {
            id: it.id,
            sandbox: it.pod_sandbox_id,
            name: metadata.name,
            attempt: metadata.attempt,
            state: run_state(it.state),
            created_at: it.created_at,
            image: it.image.unwrap_or_default().image,
            image_id: it.image_ref,
            ..Container::default()
        });
    }
    for pod in pods.values_mut() {
        pod.observed.sort();
    }
    pods
}

pub(super) fn sandbox(status: v1::PodSandboxStatus) -> Sandbox {
    let network = status.network.unwrap_or_default();
    let ips = std::iter::once(network.ip)
        .chain(network.additional_ips.into_iter().map(|it| it.ip))
        .filter(|ip| !ip.is_empty())
        .collect();
    Sandbox {
        id: status.id,
        attempt: status.metadata.unwrap_or_default().attempt,
        ready: status.state == v1::PodSandboxState::SandboxReady as i32,
        created_at: status.created_at,
        ips,
    }
}

pub(super) fn container(status: v1::ContainerStatus, sandbox: String) -> Container {
    let metadata = status.metadata.unwrap_or_default();
    Container {
        id: status.id,
        sandbox,
        name: metadata.name,
        attempt: metadata.attempt,
        state: run_state(status.state),
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image: status.image.unwrap_or_default().image,
        image_id: status.image_ref,
        annotations: status.annotations.into_iter().collect(),
    }
}

fn run_state(state: i32) -> RunState {
    match v1::ContainerState::try_from(state) {
        Ok(v1::ContainerState::ContainerCreated) => RunState::Created,
        Ok(v1::ContainerState::ContainerRunning) => RunState::Running,
        Ok(v1::ContainerState::ContainerExited) => RunState::Exited,
        _ => RunState::Unknown,
    }
}

pub(super) fn image(image: v1::Image) -> Image {
    Image {
        id: image.id,
        tags: image.repo_tags,
        digests: image.repo_digests,
        size: image.size,
        uid: image.uid.map(|it| it.value),
        user: image.username,
    }
}

pub(super) fn image_spec(name: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: name.to_owned(), ..Default::default() }
}

pub(super) fn auth(auth: &Auth) -> v1::AuthConfig {
    v1::AuthConfig {
        username: auth.username.clone(),
        password: auth.password.clone(),
        auth: auth.auth.clone(),
        server_address: auth.server.clone(),
        identity_token: auth.identity_token.clone(),
        registry_token: auth.registry_token.clone(),
    }
}

pub(super) fn sandbox_config(spec: &SandboxSpec) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: spec.name.clone(),
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            attempt: spec.attempt,
        }),
        hostname: spec.hostname.clone(),
        log_directory: spec.log_dir.clone(),
        dns_config: spec.dns.as_ref().map(dns),
        port_mappings: spec
            .ports
            .iter()
            .map(|port| v1::PortMapping {
                protocol: match port.protocol.as_str() {
                    "UDP" => v1::Protocol::Udp,
                    "SCTP" => v1::Protocol::Sctp,
                    _ => v1::Protocol::Tcp,
                } as i32,
                container_port: port.container_port,
                host_port: port.host_port,
                host_ip: port.host_ip.clone(),
            })
            .collect(),
        labels: spec.labels.clone().into_iter().collect(),
        annotations: spec.annotations.clone().into_iter().collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: spec.cgroup.clone(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(spec.sharing)),
                run_as_user: spec.run_as_user.map(int),
                run_as_group: spec.run_as_group.map(int),
                supplemental_groups: spec.groups.clone(),
                privileged: spec.privileged,
                seccomp: Some(seccomp(&Seccomp::RuntimeDefault)),
                ..Default::default()
            }),
            sysctls: spec.sysctls.clone().into_iter().collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) fn container_config(spec: &ContainerSpec) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: spec.name.clone(), attempt: spec.attempt }),
        image: Some(v1::ImageSpec {
            image: spec.image.clone(),
            user_specified_image: spec.user_image.clone(),
            ..Default::default()
        }),
        command: spec.command.clone(),
        args: spec.args.clone(),
        working_dir: spec.working_dir.clone(),
        envs: spec
            .env
            .iter()
            .map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone() })
            .collect(),
        mounts: spec.mounts.iter().map(mount).collect(),
        labels: spec.labels.clone().into_iter().collect(),
        annotations: spec.annotations.clone().into_iter().collect(),
        log_path: spec.log_path.clone(),
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(&spec.resources)),
            security_context: Some(security(&spec.security, spec.sharing)),
        }),
        ..Default::default()
    }
}

fn dns(dns: &Dns) -> v1::DnsConfig {
    v1::DnsConfig {
        servers: dns.servers.clone(),
        searches: dns.searches.clone(),
        options: dns.options.clone(),
    }
}

fn namespaces(sharing: Sharing) -> v1::NamespaceOption {
    let or_node = |host: bool, otherwise: v1::NamespaceMode| {
        if host { v1::NamespaceMode::Node as i32 } else { otherwise as i32 }
    };
    let pid = if sharing.pod_pid { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Container };
    v1::NamespaceOption {
        network: or_node(sharing.host_network, v1::NamespaceMode::Pod),
        pid: or_node(sharing.host_pid, pid),
        ipc: or_node(sharing.host_ipc, v1::NamespaceMode::Pod),
        ..Default::default()
    }
}

fn mount(mount: &Mount) -> v1::Mount {
    v1::Mount {
        container_path: mount.container.clone(),
        host_path: mount.host.clone(),
        readonly: mount.readonly,
        propagation: match mount.propagation {
            Propagation::Private => v1::MountPropagation::PropagationPrivate,
            Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
            Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
        } as i32,
        ..Default::default()
    }
}

fn resources(it: &Resources) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_period: it.cpu_period,
        cpu_quota: it.cpu_quota,
        cpu_shares: it.cpu_shares,
        memory_limit_in_bytes: it.memory_bytes,
        oom_score_adj: it.oom_score_adj,
        ..Default::default()
    }
}

/// Paths of /proc and /sys that tell or change the host; Kubernetes hides them by default.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn security(it: &Security, sharing: Sharing) -> v1::LinuxContainerSecurityContext {
    let masked = !it.unmasked_proc && !it.privileged;
    let paths = |list: &[&str]| {
        if masked { list.iter().map(|path| (*path).to_owned()).collect() } else { Vec::new() }
    };
    v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: it.caps_add.clone(),
            drop_capabilities: it.caps_drop.clone(),
            ..Default::default()
        }),
        privileged: it.privileged,
        namespace_options: Some(namespaces(sharing)),
        run_as_user: it.run_as_user.map(int),
        run_as_group: it.run_as_group.map(int),
        readonly_rootfs: it.readonly_rootfs,
        supplemental_groups: it.groups.clone(),
        no_new_privs: it.no_new_privs,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(&it.seccomp)),
        ..Default::default()
    }
}

fn seccomp(it: &Seccomp) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType;

    let (kind, file) = match it {
        Seccomp::Unconfined => (ProfileType::Unconfined, String::new()),
        Seccomp::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Seccomp::Localhost(file) => (ProfileType::Localhost, file.clone()),
    };
    v1::SecurityProfile { profile_type: kind as i32, localhost_ref: file }
}

fn int(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

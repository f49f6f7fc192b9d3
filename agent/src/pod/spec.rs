//! From a pod to what the runtime is asked to make: sandbox and container specifications.
//!
//! Must not know: when they are made. Pure but for what comes in prepared (volumes' places, the
//! image, the environment). A newcomer's trap: a container's security context overrides the pod's
//! field by field, not as a whole.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container as Wanted, Pod, PodSecurityContext, SeccompProfile, SecurityContext,
};

use super::env::expand;
use super::plan::{HASH, app_containers, hash_of, init_containers};
use super::{NodeContext, PodError, files, resources};
use crate::runtime::{
    ContainerSpec, Dns, Image, Mount, PortMapping, Propagation, SandboxSpec, Seccomp, Security,
    Sharing, label,
};

/// The labels by which the pod is found again in the runtime.
fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        (label::POD_NAME, text(&pod.metadata.name)),
        (label::POD_NAMESPACE, text(&pod.metadata.namespace)),
        (label::POD_UID, text(&pod.metadata.uid)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Whether the agent itself rewrites this volume, as root. A container that could write there could
/// make it delete or write anything on the node (CVE-2017-1002102), so such mounts are read-only.
pub(super) fn is_written_by_agent(pod: &Pod, volume: &str) -> bool {
    let volumes = pod.spec.as_ref().and_then(|it| it.volumes.as_deref()).unwrap_or_default();
    volumes.iter().filter(|it| it.name == volume).any(|it| {
        it.config_map.is_some()
            || it.secret.is_some()
            || it.projected.is_some()
            || it.downward_api.is_some()
    })
}

/// The sandbox of a pod.
pub(super) fn sandbox(
    pod: &Pod,
    node: &NodeContext,
    attempt: u32,
    log_dir: String,
    dns: Option<Dns>,
) -> SandboxSpec {
    let spec = pod.spec.as_ref();
    let security = spec.and_then(|it| it.security_context.as_ref());
    let host_network = spec.and_then(|it| it.host_network).unwrap_or_default();
    let mut all_labels = pod.metadata.labels.clone().unwrap_or_default();
    all_labels.extend(labels(pod));
    SandboxSpec {
        name: pod.metadata.name.clone().unwrap_or_default(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        attempt,
        // With the host's network the host's name is kept: an empty one leaves it alone.
        hostname: if host_network {
            String::new()
        } else {
            files::kernel_hostname(pod, &node.cluster_domain)
        },
        log_dir,
        dns,
        ports: if host_network { Vec::new() } else { ports(pod) },
        labels: all_labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        cgroup: resources::cgroup(&node.cgroup, pod),
        sharing: sharing(pod),
        run_as_user: security.and_then(|it| it.run_as_user),
        run_as_group: security.and_then(|it| it.run_as_group),
        groups: groups(security),
        sysctls: security
            .and_then(|it| it.sysctls.as_ref())
            .into_iter()
            .flatten()
            .map(|it| (it.name.clone(), it.value.clone()))
            .collect(),
        privileged: app_containers(pod).iter().chain(init_containers(pod)).any(|it| {
            it.security_context.as_ref().and_then(|it| it.privileged).unwrap_or_default()
        }),
    }
}

fn sharing(pod: &Pod) -> Sharing {
    let spec = pod.spec.as_ref();
    let on = |value: Option<Option<bool>>| value.flatten().unwrap_or_default();
    Sharing {
        host_network: on(spec.map(|it| it.host_network)),
        host_pid: on(spec.map(|it| it.host_pid)),
        host_ipc: on(spec.map(|it| it.host_ipc)),
        pod_pid: on(spec.map(|it| it.share_process_namespace)),
    }
}

fn ports(pod: &Pod) -> Vec<PortMapping> {
    let containers = app_containers(pod).iter().chain(init_containers(pod));
    containers
        .flat_map(|it| it.ports.iter().flatten())
        .filter_map(|port| {
            Some(PortMapping {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                container_port: port.container_port,
                host_port: port.host_port.filter(|it| *it > 0)?,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

fn groups(security: Option<&PodSecurityContext>) -> Vec<i64> {
    let mut groups = security.and_then(|it| it.supplemental_groups.clone()).unwrap_or_default();
    groups.extend(security.and_then(|it| it.fs_group));
    groups
}

/// What a container specification needs beside the pod.
pub(super) struct Prepared<'a> {
    /// The image, in the runtime's store.
    pub(super) image: &'a Image,
    /// The environment.
    pub(super) env: Vec<(String, String)>,
    /// Mounts of volumes and of the pod's own files.
    pub(super) mounts: Vec<Mount>,
    /// The restart count.
    pub(super) attempt: u32,
    /// Bytes of memory of the node.
    pub(super) memory_total: i64,
}

/// One container of a pod.
pub(super) fn container(
    pod: &Pod,
    wanted: &Wanted,
    prepared: Prepared<'_>,
) -> Result<ContainerSpec, PodError> {
    let lookup = |name: &str| {
        prepared.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let expanded = |list: &Option<Vec<String>>| {
        list.iter().flatten().map(|text| expand(text, lookup)).collect::<Vec<_>>()
    };
    let mut all_labels = labels(pod);
    all_labels.insert(label::CONTAINER_NAME.to_owned(), wanted.name.clone());
    Ok(ContainerSpec {
        name: wanted.name.clone(),
        attempt: prepared.attempt,
        image: prepared.image.id.clone(),
        user_image: wanted.image.clone().unwrap_or_default(),
        command: expanded(&wanted.command),
        args: expanded(&wanted.args),
        working_dir: wanted.working_dir.clone().unwrap_or_default(),
        resources: resources::limits(pod, wanted, prepared.memory_total),
        security: security(pod, wanted, prepared.image)?,
        sharing: sharing(pod),
        env: prepared.env,
        mounts: prepared.mounts,
        labels: all_labels,
        annotations: [(HASH.to_owned(), hash_of(wanted))].into(),
        log_path: format!("{}/{}.log", wanted.name, prepared.attempt),
        stdin: wanted.stdin.unwrap_or_default(),
        stdin_once: wanted.stdin_once.unwrap_or_default(),
        tty: wanted.tty.unwrap_or_default(),
    })
}

fn security(pod: &Pod, wanted: &Wanted, image: &Image) -> Result<Security, PodError> {
    let empty = SecurityContext::default();
    let own = wanted.security_context.as_ref().unwrap_or(&empty);
    let empty = PodSecurityContext::default();
    let of_pod =
        pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).unwrap_or(&empty);
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    if own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or_default() {
        check_non_root(pod, wanted, run_as_user, image)?;
    }
    let privileged = own.privileged.unwrap_or_default();
    let capabilities = own.capabilities.clone().unwrap_or_default();
    Ok(Security {
        privileged,
        run_as_user,
        run_as_group: own.run_as_group.or(of_pod.run_as_group),
        groups: groups(Some(of_pod)),
        caps_add: capabilities.add.unwrap_or_default(),
        caps_drop: capabilities.drop.unwrap_or_default(),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or_default(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        seccomp: seccomp(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref())),
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    })
}

fn seccomp(profile: Option<&SeccompProfile>) -> Seccomp {
    match profile.map(|it| it.type_.as_str()) {
        Some("RuntimeDefault") => Seccomp::RuntimeDefault,
        Some("Localhost") => Seccomp::Localhost(
            profile.and_then(|it| it.localhost_profile.clone()).unwrap_or_default(),
        ),
        _ => Seccomp::Unconfined,
    }
}

fn check_non_root(
    pod: &Pod,
    wanted: &Wanted,
    run_as_user: Option<i64>,
    image: &Image,
) -> Result<(), PodError> {
    let refused = |what: String| {
        let message = format!(
            "container has runAsNonRoot and {what} (pod: \"{}\", container: {})",
            super::plan::pod_id(pod),
            wanted.name
        );
        Err(PodError::new("CreateContainerConfigError", message))
    };
    match run_as_user.or(image.uid) {
        Some(0) if run_as_user.is_some() => {
            refused("container's runAsUser breaks non-root policy".to_owned())
        }
        Some(0) => refused("image will run as root".to_owned()),
        Some(_) => Ok(()),
        None if image.user.is_empty() => refused("image will run as root".to_owned()),
        None => refused(format!(
            "image has non-numeric user ({}), cannot verify user is non-root",
            image.user
        )),
    }
}

/// How a volume mount passes mounts on.
pub(super) fn propagation(name: Option<&str>) -> Propagation {
    match name {
        Some("HostToContainer") => Propagation::HostToContainer,
        Some("Bidirectional") => Propagation::Bidirectional,
        _ => Propagation::Private,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(pod_context: serde_json::Value, own: serde_json::Value, image: &Image) -> String {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod_context,
                     "containers": [{"name": "c", "securityContext": own}]},
        }))
        .unwrap();
        match security(&pod, &app_containers(&pod)[0], image) {
            Ok(security) => format!("user {:?}", security.run_as_user),
            Err(error) => error.message,
        }
    }

    #[test]
    fn what_the_agent_rewrites_no_container_may_write() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [
            {"name": "c", "configMap": {"name": "x"}}, {"name": "s", "secret": {"secretName": "x"}},
            {"name": "p", "projected": {"sources": []}}, {"name": "d", "downwardAPI": {}},
            {"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/h"}},
        ]}}))
        .unwrap();
        for (volume, is) in
            [("c", true), ("s", true), ("p", true), ("d", true), ("e", false), ("h", false)]
        {
            assert_eq!(is_written_by_agent(&pod, volume), is, "{volume}");
        }
    }

    #[test]
    fn non_root_is_checked_against_pod_container_and_image() {
        let root = Image::default();
        let numeric = Image { uid: Some(7), ..Image::default() };
        let named = Image { user: "nginx".to_owned(), ..Image::default() };
        let non_root = || json!({"runAsNonRoot": true});
        assert_eq!(checked(json!({}), json!({}), &root), "user None");
        assert!(checked(non_root(), json!({}), &root).contains("image will run as root"));
        assert_eq!(checked(non_root(), json!({}), &numeric), "user None");
        assert!(checked(non_root(), json!({}), &named).contains("non-numeric user (nginx)"));
        assert_eq!(checked(non_root(), json!({"runAsUser": 5}), &root), "user Some(5)");
        assert!(checked(non_root(), json!({"runAsUser": 0}), &numeric).contains("breaks non-root"));
        assert_eq!(
            checked(json!({"runAsUser": 1}), json!({"runAsUser": 2}), &root),
            "user Some(2)",
            "the container's own setting wins"
        );
    }
}

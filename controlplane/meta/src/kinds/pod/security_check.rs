//! What is wrong with a security context.
//!
//! Owns: the checks on the security contexts of pods and containers, and on what a pod shares with
//! its node. Must not know: policies of a namespace. A newcomer's trap: host namespaces stand
//! beside `securityContext` in the published form, and are checked here all the same.

use serde_json::Value;

use super::volume_check::descending_path;
use crate::field::FieldError;
use crate::kinds::look::{Look, Repeats};
use crate::kinds::{check, golang};

const ID_MAX: i64 = i32::MAX as i64;

fn id(owner: &Value, field: &str, path: &str) -> Vec<FieldError> {
    match owner.int_opt(field) {
        Some(id) => check::within(&format!("{path}.{field}"), id, 0, ID_MAX),
        None => Vec::new(),
    }
}

fn word(owner: &Value, field: &str, path: &str, words: &[&str]) -> Vec<FieldError> {
    if owner.has(field) {
        check::one_of(&format!("{path}.{field}"), owner.text(field), words)
    } else {
        Vec::new()
    }
}

/// What a pod shares with its node, and its security context.
pub(super) fn pod(spec: &Value, spec_path: &str, is_pod: bool) -> Vec<FieldError> {
    let context = spec.get_or_null("securityContext");
    let path = format!("{spec_path}.securityContext");
    let mut errors = Vec::new();
    if spec.flag("hostNetwork") {
        for list in ["containers", "initContainers"] {
            errors.extend(host_ports(spec, spec_path, list, is_pod));
        }
    }
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        errors.extend(id(context, field, &path));
    }
    for (index, group) in context.list("supplementalGroups").iter().enumerate() {
        let path = format!("{path}.supplementalGroups[{index}]");
        errors.extend(check::within(&path, group.as_i64().unwrap_or(0), 0, ID_MAX));
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        let path = format!("{path}.shareProcessNamespace");
        errors.push(FieldError::invalid(path, &true.into(), detail));
    }
    errors.extend(sysctls(spec, &format!("{path}.sysctls")));
    errors.extend(word(context, "fsGroupChangePolicy", &path, &["Always", "OnRootMismatch"]));
    errors.extend(profile(context, "seccompProfile", "seccomp", &path));
    errors.extend(profile(context, "appArmorProfile", "AppArmor", &path));
    errors.extend(word(context, "supplementalGroupsPolicy", &path, &["Merge", "Strict"]));
    errors.extend(word(context, "seLinuxChangePolicy", &path, &["MountOption", "Recursive"]));
    errors
}

/// Ports of a pod on the host's network: they are the host's ports.
fn host_ports(spec: &Value, spec_path: &str, list: &str, is_pod: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, container) in spec.list(list).iter().enumerate() {
        for (at, port) in container.list("ports").iter().enumerate() {
            let (outer, inner) = (port.int("hostPort"), port.int("containerPort"));
            if (is_pod || outer != 0) && outer != inner {
                let path = format!("{spec_path}.{list}[{index}].ports[{at}].hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(path, &outer.into(), detail));
            }
        }
    }
    errors
}

/// A pod with users of its own may not share the host's namespaces.
pub(super) fn host_users(spec: &Value, path: &str) -> Vec<FieldError> {
    if !spec.has("hostUsers") || spec.flag("hostUsers") {
        return Vec::new();
    }
    ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| spec.flag(field))
        .map(|field| FieldError::forbidden(format!("{path}.{field}"), "when `hostUsers` is false"))
        .collect()
}

fn is_sysctl(name: &str) -> bool {
    const LENGTH_MAX: usize = 253;
    let segment = |segment: &str| {
        let bytes = segment.as_bytes();
        let edge = |byte: Option<&u8>| byte.is_some_and(|one| is_low(*one));
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|byte| is_low(*byte) || matches!(byte, b'-' | b'_'))
    };
    name.len() <= LENGTH_MAX && name.split(['.', '/']).all(segment)
}

fn is_low(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn sysctls(spec: &Value, path: &str) -> Vec<FieldError> {
    const FORMAT: &str = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    let mut errors = Vec::new();
    let all = spec.get_or_null("securityContext").list("sysctls");
    let repeats = Repeats::by(all, "name");
    for (index, one) in all.iter().enumerate() {
        let name = one.text("name");
        let at = format!("{path}[{index}].name");
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        if !is_sysctl(name) {
            let detail = format!("must have at most 253 characters and match regex ^{FORMAT}$");
            errors.push(check::invalid(at.clone(), name, &detail));
        }
        if repeats.at(index) {
            errors.push(FieldError::duplicate(at.clone(), &name.into()));
        }
        let dotted = name.replace('/', ".");
        let ipc = dotted.starts_with("kernel.shm")
            || dotted.starts_with("kernel.msg")
            || dotted.starts_with("fs.mqueue.")
            || dotted == "kernel.sem";
        if spec.flag("hostNetwork") && dotted.starts_with("net.") {
            let detail = "may not be specified when 'hostNetwork' is true";
            errors.push(check::invalid(at, name, detail));
        } else if spec.flag("hostIPC") && ipc {
            let detail = "may not be specified when 'hostIPC' is true";
            errors.push(check::invalid(at, name, detail));
        }
    }
    errors
}

/// A seccomp or AppArmor profile.
fn profile(owner: &Value, field: &str, what: &str, path: &str) -> Vec<FieldError> {
    if !owner.has(field) {
        return Vec::new();
    }
    let profile = owner.get_or_null(field);
    let path = format!("{path}.{field}");
    let kind = profile.text("type");
    let mut errors = if kind.is_empty() {
        let detail = format!("type is required when {field} is set");
        vec![FieldError::required(format!("{path}.type"), &detail)]
    } else {
        let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
        check::one_of(&format!("{path}.type"), kind, &kinds)
    };
    let local = profile.text("localhostProfile");
    let at = format!("{path}.localhostProfile");
    match (kind, profile.has("localhostProfile")) {
        ("Localhost", false) => {
            let detail = format!("must be set when {what} type is Localhost");
            errors.push(FieldError::required(at, &detail));
        }
        ("Localhost", true) if what == "seccomp" => errors.extend(descending_path(&at, local)),
        ("Localhost", true) if local.trim().is_empty() => {
            errors.push(FieldError::required(at, "must be set when AppArmor type is Localhost"));
        }
        ("Localhost", true) | (_, false) => {}
        (_, true) => {
            let detail = format!("can only be set when {what} type is Localhost");
            errors.push(check::invalid(at, local, &detail));
        }
    }
    errors
}

/// The security context of a container.
pub(super) fn container(context: &Value, host_users: bool, path: &str) -> Vec<FieldError> {
    if !context.is_object() {
        return Vec::new();
    }
    let mut errors = id(context, "runAsUser", path);
    errors.extend(id(context, "runAsGroup", path));
    errors.extend(word(context, "procMount", path, &["Default", "Unmasked"]));
    if context.text("procMount") == "Unmasked" && host_users {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(check::invalid(format!("{path}.procMount"), "Unmasked", detail));
    }
    errors.extend(profile(context, "seccompProfile", "seccomp", path));
    if context.has("allowPrivilegeEscalation") && !context.flag("allowPrivilegeEscalation") {
        let shown = || golang::compact("SecurityContext", context);
        let cannot = "cannot set `allowPrivilegeEscalation` to false and";
        if context.flag("privileged") {
            let detail = format!("{cannot} `privileged` to true");
            errors.push(FieldError::invalid_text(path, &shown(), &detail));
        }
        let added = context.get_or_null("capabilities").list("add");
        if added.iter().any(|one| one == "CAP_SYS_ADMIN") {
            let detail = format!("{cannot} `capabilities.Add` CAP_SYS_ADMIN");
            errors.push(FieldError::invalid_text(path, &shown(), &detail));
        }
    }
    errors.extend(profile(context, "appArmorProfile", "AppArmor", path));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods() {
        for (spec, wanted) in [
            (json!({"securityContext": {"runAsUser": 0}}), vec![]),
            (
                json!({"securityContext": {"runAsUser": -1}}),
                vec![
                    "s.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ],
            ),
            (
                json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80, "hostPort": 81}]}]}),
                vec![
                    "s.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
                ],
            ),
            (
                json!({"hostPID": true, "shareProcessNamespace": true}),
                vec![
                    "s.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
                ],
            ),
            (
                json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
                vec![
                    "s.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
                ],
            ),
            (
                json!({"securityContext": {"seccompProfile": {"type": "Off", "localhostProfile": "a"}}}),
                vec![
                    "s.securityContext.seccompProfile.type: Unsupported value: \"Off\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
                    "s.securityContext.seccompProfile.localhostProfile: Invalid value: \"a\": can only be set when seccomp type is Localhost",
                ],
            ),
            (
                json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net.core.somaxconn"}]}}),
                vec![
                    "s.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true",
                ],
            ),
        ] {
            let got: Vec<_> = pod(&spec, "s", true).iter().map(ToString::to_string).collect();
            assert_eq!(got, wanted, "{spec}");
        }
    }

    #[test]
    fn containers() {
        let context = json!({"privileged": true, "allowPrivilegeEscalation": false});
        let got = container(&context, true, "c");
        assert_eq!(got.len(), 1);
        let text = got.first().map(ToString::to_string).unwrap();
        assert!(
            text.starts_with("c: Invalid value: {\"Capabilities\":null,\"Privileged\":true,"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            )
        );
    }
}

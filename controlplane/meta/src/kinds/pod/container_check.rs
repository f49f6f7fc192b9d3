//! What is wrong with containers.
//!
//! Owns: the checks on regular, init and ephemeral containers. Must not know: volumes beyond their
//! names and kinds. A newcomer's trap: names must be unique over all lists, host ports only among
//! the regular containers, since init containers run one by one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::volume_check::{descending_path, no_backsteps};
use super::{check::required_word, env_check, probe_check, resource_check, security_check};
use crate::field::FieldError;
use crate::kinds::check;
use crate::kinds::look::Look;

/// The good volumes of a pod, by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

/// What the checks of one container need to know of its pod.
struct Pod<'a> {
    volumes: &'a Volumes<'a>,
    claims: BTreeSet<&'a str>,
    host_users: bool,
    restart_policy: &'a str,
    grace_seconds: Option<i64>,
}

/// All containers of a pod.
pub(super) fn containers(spec: &Value, volumes: &Volumes<'_>, path: &str) -> Vec<FieldError> {
    let pod = Pod {
        volumes,
        claims: spec.list("resourceClaims").iter().map(|one| one.text("name")).collect(),
        host_users: !spec.has("hostUsers") || spec.flag("hostUsers"),
        restart_policy: spec.text("restartPolicy"),
        grace_seconds: spec.int_opt("terminationGracePeriodSeconds"),
    };
    let mut names = BTreeSet::new();
    let mut errors = regular(spec, &pod, &mut names, &format!("{path}.containers"));
    errors.extend(init(spec, &pod, &mut names, &format!("{path}.initContainers")));
    errors.extend(ephemeral(spec, &pod, &mut names, &format!("{path}.ephemeralContainers")));
    errors
}

fn regular<'a>(
    spec: &'a Value,
    pod: &Pod<'_>,
    names: &mut BTreeSet<&'a str>,
    path: &str,
) -> Vec<FieldError> {
    let containers = spec.list("containers");
    if containers.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    for (index, one) in containers.iter().enumerate() {
        let path = format!("{path}[{index}]");
        errors.extend(common(one, pod, &path));
        if !names.insert(one.text("name")) {
            errors.push(FieldError::duplicate(format!("{path}.name"), one.get_or_null("name")));
        }
        errors.extend(probe_check::lifecycle(one, pod.grace_seconds, &path));
        errors.extend(probe_check::probes(one, pod.grace_seconds, &path));
        errors.extend(restart(one, &["Always", "Never", "OnFailure"], &path));
    }
    errors.extend(host_port_conflicts(containers, path));
    errors
}

fn init<'a>(
    spec: &'a Value,
    pod: &Pod<'_>,
    names: &mut BTreeSet<&'a str>,
    path: &str,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, one) in spec.list("initContainers").iter().enumerate() {
        let whole = path;
        let path = format!("{path}[{index}]");
        let runs_on = one.text("restartPolicy") == "Always";
        errors.extend(common(one, pod, &path));
        errors.extend(restart(one, &["Always", "Never", "OnFailure"], &path));
        let name = one.text("name");
        if !name.is_empty() && !names.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
        errors.extend(host_port_conflicts(std::slice::from_ref(one), whole));
        if runs_on {
            errors.extend(probe_check::lifecycle(one, pod.grace_seconds, &path));
            errors.extend(probe_check::probes(one, pod.grace_seconds, &path));
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if one.has(field) {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
            }
        }
        if !one.list("resizePolicy").is_empty() {
            let detail = "must not be set for init containers";
            let shown: Vec<String> = one
                .list("resizePolicy")
                .iter()
                .map(|policy| crate::kinds::golang::compact("ContainerResizePolicy", policy))
                .collect();
            let shown = format!("[{}]", shown.join(","));
            errors.push(FieldError::invalid_text(format!("{path}.resizePolicy"), &shown, detail));
        }
    }
    errors
}

fn ephemeral<'a>(
    spec: &'a Value,
    pod: &Pod<'_>,
    names: &mut BTreeSet<&'a str>,
    path: &str,
) -> Vec<FieldError> {
    const FORBIDDEN: &[&str] = &[
        "ports",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resizePolicy",
        "restartPolicy",
    ];
    let detail = "cannot be set for an Ephemeral Container";
    let others = names.clone();
    let mut errors = Vec::new();
    for (index, one) in spec.list("ephemeralContainers").iter().enumerate() {
        let path = format!("{path}[{index}]");
        errors.extend(common(one, pod, &path));
        let name = one.text("name");
        if !name.is_empty() && !names.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
        }
        let target = one.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            let path = format!("{path}.targetContainerName");
            errors.push(FieldError::not_found(path, &target.into()));
        }
        for field in FORBIDDEN {
            if one.has(field) {
                errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
            }
        }
        let resources = one.get_or_null("resources");
        if resources.size("limits") + resources.size("requests") > 0 {
            errors.push(FieldError::forbidden(format!("{path}.resources"), detail));
        }
        for (at, mount) in one.list("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    let path = format!("{path}.volumeMounts[{at}].{field}");
                    errors.push(FieldError::forbidden(path, detail));
                }
            }
        }
    }
    errors
}

/// The container's own restart policy and its rules.
fn restart(container: &Value, policies: &[&str], path: &str) -> Vec<FieldError> {
    const RULES_MAX: usize = 20;
    const CODES_MAX: usize = 255;
    let mut errors = Vec::new();
    let rules = container.list("restartPolicyRules");
    if container.has("restartPolicy") {
        let policy = container.text("restartPolicy");
        errors.extend(check::one_of(&format!("{path}.restartPolicy"), policy, policies));
    } else if !rules.is_empty() {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(format!("{path}.restartPolicy"), detail));
    }
    if rules.len() > RULES_MAX {
        let path = format!("{path}.restartPolicyRules");
        errors.push(check::too_long(&path, RULES_MAX));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{path}.restartPolicyRules[{index}]");
        errors.extend(check::one_of(&format!("{path}.action"), rule.text("action"), &["Restart"]));
        if !rule.has("exitCodes") {
            errors.push(FieldError::required(format!("{path}.exitCodes"), "must be specified"));
            continue;
        }
        let codes = rule.get_or_null("exitCodes");
        let path = format!("{path}.exitCodes");
        let operators = ["In", "NotIn"];
        errors.extend(check::one_of(
            &format!("{path}.operator"),
            codes.text("operator"),
            &operators,
        ));
        if codes.list("values").len() > CODES_MAX {
            errors.push(check::too_long(&format!("{path}.values"), CODES_MAX));
        }
    }
    errors
}

fn common(container: &Value, pod: &Pod<'_>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match container.text("name") {
        "" => errors.push(FieldError::required(format!("{path}.name"), "")),
        name => errors.extend(check::dns_label(&format!("{path}.name"), name)),
    }
    if container.text("image").trim().is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    }
    errors.extend(required_word(
        &format!("{path}.terminationMessagePolicy"),
        container.text("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
    ));
    errors.extend(ports(container, &format!("{path}.ports")));
    errors.extend(env_check::env(container, &format!("{path}.env")));
    errors.extend(env_check::env_from(container, &format!("{path}.envFrom")));
    errors.extend(mounts(container, pod, &format!("{path}.volumeMounts")));
    errors.extend(devices(container, pod, &format!("{path}.volumeDevices")));
    errors.extend(required_word(
        &format!("{path}.imagePullPolicy"),
        container.text("imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    ));
    let resources = container.get_or_null("resources");
    errors.extend(resource_check::container(resources, &pod.claims, &format!("{path}.resources")));
    errors.extend(resize_policy(container, pod, &format!("{path}.resizePolicy")));
    let context = container.get_or_null("securityContext");
    let at = format!("{path}.securityContext");
    errors.extend(security_check::container(context, pod.host_users, &at));
    errors
}

fn ports(container: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for (index, port) in container.list("ports").iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = port.text("name");
        if !name.is_empty() {
            let texts = crate::name::port_name(name);
            if texts.is_empty() && !names.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
            }
            errors.extend(check::texts(&format!("{path}.name"), name, texts));
        }
        match port.int("containerPort") {
            0 => errors.push(FieldError::required(format!("{path}.containerPort"), "")),
            number => errors.extend(check::port(&format!("{path}.containerPort"), number)),
        }
        if port.int("hostPort") != 0 {
            errors.extend(check::port(&format!("{path}.hostPort"), port.int("hostPort")));
        }
        let protocol = format!("{path}.protocol");
        errors.extend(required_word(&protocol, port.text("protocol"), check::PROTOCOLS));
    }
    errors
}

fn host_port_conflicts(containers: &[Value], path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (at, port) in container.list("ports").iter().enumerate() {
            let number = port.int("hostPort");
            let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if number != 0 && !taken.insert(key.clone()) {
                let path = format!("{path}[{index}].ports[{at}].hostPort");
                errors.push(FieldError::duplicate(path, &key.into()));
            }
        }
    }
    errors
}

/// One text field of all items of a list.
fn texts_of<'a>(owner: &'a Value, list: &str, field: &str) -> BTreeSet<&'a str> {
    owner.list(list).iter().map(|one| one.text(field)).collect()
}

fn mounts(container: &Value, pod: &Pod<'_>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut places = BTreeSet::new();
    let device_names = texts_of(container, "volumeDevices", "name");
    let device_paths = texts_of(container, "volumeDevices", "devicePath");
    for (index, mount) in container.list("volumeMounts").iter().enumerate() {
        let whole = path;
        let path = format!("{path}[{index}]");
        let (name, place) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        if !pod.volumes.contains_key(name) {
            errors.push(FieldError::not_found(format!("{path}.name"), &name.into()));
        }
        if place.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        }
        if !places.insert(place) {
            let at = format!("{path}.mountPath");
            errors.push(check::invalid(at, place, "must be unique"));
        }
        if device_names.contains(name) {
            let detail = "must not already exist in volumeDevices";
            errors.push(check::invalid(format!("{path}.name"), name, detail));
        }
        if device_paths.contains(place) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(check::invalid(format!("{path}.mountPath"), place, detail));
        }
        let (sub, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
        // Kubernetes leaves the index out of these paths.
        errors.extend(descending_path(&format!("{whole}.subPath"), sub));
        if !expression.is_empty() {
            if !sub.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(check::invalid(format!("{path}.subPathExpr"), expression, detail));
            }
            errors.extend(descending_path(&format!("{whole}.subPathExpr"), expression));
        }
        errors.extend(propagation(mount, container, whole));
    }
    errors
}

fn propagation(mount: &Value, container: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let way = mount.text("mountPropagation");
    if mount.has("mountPropagation") {
        let path = format!("{path}.mountPropagation");
        let ways = ["Bidirectional", "HostToContainer", "None"];
        errors.extend(check::one_of(&path, way, &ways));
        let privileged = container.get_or_null("securityContext").flag("privileged");
        if way == "Bidirectional" && !privileged {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(path, detail));
        }
    }
    if mount.has("recursiveReadOnly") {
        let path = format!("{path}.recursiveReadOnly");
        match mount.text("recursiveReadOnly") {
            "Disabled" => {}
            "Enabled" | "IfPossible" => {
                if !mount.flag("readOnly") {
                    let detail = "may only be specified when readOnly is true";
                    errors.push(FieldError::forbidden(path.clone(), detail));
                }
                if !matches!(way, "" | "None") {
                    let detail =
                        "may only be specified when mountPropagation is None or not specified";
                    errors.push(FieldError::forbidden(path, detail));
                }
            }
            other => {
                let modes = ["Disabled", "IfPossible", "Enabled"];
                errors.extend(check::one_of(&path, other, &modes));
            }
        }
    }
    errors
}

fn devices(container: &Value, pod: &Pod<'_>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    let mount_names = texts_of(container, "volumeMounts", "name");
    let mount_paths = texts_of(container, "volumeMounts", "mountPath");
    for (index, device) in container.list("volumeDevices").iter().enumerate() {
        let path = format!("{path}[{index}]");
        let (name, place) = (device.text("name"), device.text("devicePath"));
        let (at_name, at_path) = (format!("{path}.name"), format!("{path}.devicePath"));
        if name.is_empty() {
            errors.push(FieldError::required(at_name.clone(), ""));
        }
        if !names.insert(name) {
            errors.push(check::invalid(at_name.clone(), name, "must be unique"));
        }
        match pod.volumes.get(name) {
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(check::invalid(at_name.clone(), name, detail));
            }
            Some(_) => {}
            None => errors.push(FieldError::not_found(at_name.clone(), &name.into())),
        }
        if place.is_empty() {
            errors.push(FieldError::required(at_path.clone(), ""));
        }
        if !places.insert(place) {
            errors.push(check::invalid(at_path.clone(), place, "must be unique"));
        }
        errors.extend(no_backsteps(&at_path, place));
        if mount_names.contains(name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(check::invalid(at_name, name, detail));
        }
        if mount_paths.contains(place) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(check::invalid(at_path, place, detail));
        }
    }
    errors
}

fn resize_policy(container: &Value, pod: &Pod<'_>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for policy in container.list("resizePolicy") {
        let (name, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !names.insert(name) {
            errors.push(FieldError::duplicate(path, &name.into()));
        }
        errors.extend(check::one_of(path, name, &["cpu", "memory"]));
        let policies = ["NotRequired", "RestartContainer"];
        errors.extend(required_word(path, restart, &policies));
        if pod.restart_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(check::invalid(path, restart, detail));
        }
    }
    errors
}

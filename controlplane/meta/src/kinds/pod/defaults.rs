//! Defaults of pods and pod templates.
//!
//! Owns: what Kubernetes fills into a `PodSpec` when it reads one. Must not know: what admission
//! adds (service account volumes, tolerations, priority). A newcomer's trap: a Pod gets more than
//! a template: requests from limits, host ports and service links are defaulted on pods only.

use serde_json::{Value, json};

use super::resources;
use crate::kinds::look::{Change, Look};

/// Fills in what a Pod has beyond its template, then the spec.
pub(crate) fn pod(object: &mut Value) {
    let spec = object.child("spec");
    for list in ["containers", "initContainers"] {
        for container in spec.items_mut(list) {
            requests_from_limits(container);
        }
    }
    spec.default_to("enableServiceLinks", true);
    if spec.flag("hostNetwork") {
        for list in ["containers", "initContainers"] {
            for container in spec.items_mut(list) {
                host_ports(container);
            }
        }
    }
    resources::default_pod_level(spec);
    pod_spec(spec);
}

/// A request that is missing is the limit.
fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container.get("resources").and_then(|all| all.get("limits")) else { return };
    let Some(limits) = limits.as_object().cloned() else { return };
    let requests = container.child("resources").child("requests");
    for (name, limit) in limits {
        requests.default_to(&name, limit);
    }
}

fn host_ports(container: &mut Value) {
    for port in container.items_mut("ports") {
        let inner = port.int("containerPort");
        if port.int("hostPort") == 0 && inner != 0 {
            port.put("hostPort", inner);
        }
    }
}

/// Fills in the defaults of a pod template.
pub(crate) fn template(template: &mut Value) {
    pod_spec(template.child("spec"));
}

/// Fills in the defaults of a `PodSpec`.
fn pod_spec(spec: &mut Value) {
    spec.default_text("dnsPolicy", "ClusterFirst");
    spec.default_text("restartPolicy", "Always");
    spec.default_to("securityContext", json!({}));
    spec.default_to("terminationGracePeriodSeconds", 30);
    spec.default_text("schedulerName", "default-scheduler");
    service_account(spec);
    for volume_of_pod in spec.items_mut("volumes") {
        volume(volume_of_pod);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for one in spec.items_mut(list) {
            container(one);
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always shown.
fn service_account(spec: &mut Value) {
    let name = match spec.text("serviceAccountName") {
        "" => spec.text("serviceAccount"),
        name => name,
    }
    .to_owned();
    if name.is_empty() {
        spec.drop_field("serviceAccount");
    } else {
        spec.put("serviceAccountName", name.clone());
        spec.put("serviceAccount", name);
    }
}

fn container(container: &mut Value) {
    let policy = default_pull_policy(container.text("image"));
    container.default_text("imagePullPolicy", policy);
    container.default_text("terminationMessagePath", "/dev/termination-log");
    container.default_text("terminationMessagePolicy", "File");
    container.default_to("resources", json!({}));
    for port in container.items_mut("ports") {
        port.default_text("protocol", "TCP");
    }
    for variable in container.items_mut("env") {
        let Some(source) = variable.child_if("valueFrom") else { continue };
        if let Some(field) = source.child_if("fieldRef") {
            field.default_text("apiVersion", "v1");
        }
        if let Some(file) = source.child_if("fileKeyRef") {
            file.default_to("optional", false);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(one) = container.child_if(name) {
            probe(one);
        }
    }
    if let Some(lifecycle) = container.child_if("lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(handler) = lifecycle.child_if(name) {
                http_get(handler);
            }
        }
    }
    resources::round_up(container.child("resources"));
}

fn probe(probe: &mut Value) {
    for (name, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.int(name) == 0 {
            probe.put(name, value);
        }
    }
    http_get(probe);
    if let Some(grpc) = probe.child_if("grpc") {
        grpc.default_to("service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(get) = handler.child_if("httpGet") {
        get.default_text("path", "/");
        get.default_text("scheme", "HTTP");
    }
}

/// `Always` for the tag `latest`, spoken or not; `IfNotPresent` for any other tag or a digest.
fn default_pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        None if digest => "IfNotPresent",
        None => "Always",
    }
}

fn volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|map| map.keys().all(|key| key == "name")) {
        volume.put("emptyDir", json!({}));
    }
    if let Some(path) = volume.child_if("hostPath") {
        path.default_to("type", "");
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.child_if(name) {
            source.default_to("defaultMode", 0o644);
            downward_items(source);
            for part in source.items_mut("sources") {
                projection(part);
            }
        }
    }
    if let Some(iscsi) = volume.child_if("iscsi") {
        iscsi.default_text("iscsiInterface", "default");
    }
    if let Some(rbd) = volume.child_if("rbd") {
        rbd.default_text("pool", "rbd");
        rbd.default_text("user", "admin");
        rbd.default_text("keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = volume.child_if("azureDisk") {
        disk.default_to("cachingMode", "ReadWrite");
        disk.default_to("kind", "Shared");
        disk.default_to("fsType", "ext4");
        disk.default_to("readOnly", false);
    }
    if let Some(scale) = volume.child_if("scaleIO") {
        scale.default_text("storageMode", "ThinProvisioned");
        scale.default_text("fsType", "xfs");
    }
    if let Some(ephemeral) = volume.child_if("ephemeral")
        && let Some(claim) = ephemeral.child_if("volumeClaimTemplate")
    {
        claim.child("spec").default_to("volumeMode", "Filesystem");
    }
    if let Some(image) = volume.child_if("image") {
        let policy = default_pull_policy(image.text("reference"));
        image.default_text("pullPolicy", policy);
    }
}

fn projection(part: &mut Value) {
    if let Some(source) = part.child_if("downwardAPI") {
        downward_items(source);
    }
    if let Some(token) = part.child_if("serviceAccountToken") {
        token.default_to("expirationSeconds", 3600);
    }
    if let Some(certificate) = part.child_if("podCertificate") {
        certificate.default_to("maxExpirationSeconds", 86400);
    }
}

fn downward_items(source: &mut Value) {
    for item in source.items_mut("items") {
        if let Some(field) = item.child_if("fieldRef") {
            field.default_text("apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.25", "IfNotPresent"),
            ("r.example.com:5000/x/nginx", "Always"),
            ("r.example.com:5000/x/nginx:2", "IfNotPresent"),
            ("nginx@sha256:aa", "IfNotPresent"),
            ("nginx:latest@sha256:aa", "Always"),
        ] {
            assert_eq!(default_pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn a_volume_without_a_source_is_an_empty_directory() {
        let mut spec = json!({"volumes": [{"name": "v"}]});
        pod_spec(&mut spec);
        assert_eq!(spec["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    }

    #[test]
    fn the_old_service_account_field_is_read_and_shown() {
        let mut spec = json!({"serviceAccount": "a"});
        pod_spec(&mut spec);
        assert_eq!(spec["serviceAccountName"], "a");
        let mut spec = json!({"serviceAccount": "a", "serviceAccountName": "b"});
        pod_spec(&mut spec);
        assert_eq!((spec.text("serviceAccount"), spec.text("serviceAccountName")), ("b", "b"));
    }
}

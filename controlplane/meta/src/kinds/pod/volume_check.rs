//! What is wrong with the volumes of a pod.
//!
//! Owns: the checks on volume sources. Must not know: whether what they name exists. A newcomer's
//! trap: a volume with an error does not count as one, so its mounts are "not found" as well.

use serde_json::Value;

use super::container_check::Volumes;
use super::env_check::{FILE_FIELDS, field_ref, resource_ref};
use super::resources::amount;
use crate::field::FieldError;
use crate::kinds::check;
use crate::kinds::look::Look;

/// Every kind of volume in the order of Kubernetes' checks, with the text fields it must have.
const SOURCES: &[(&str, &[&str])] = &[
    ("emptyDir", &[]),
    ("hostPath", &[]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &[]),
    ("quobyte", &["registry", "volume"]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &["driver"]),
    ("ephemeral", &[]),
    ("image", &["reference"]),
];
const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const ONE_TYPE: &str = "may not specify more than 1 volume type";

/// The good volumes, and what is wrong with the others.
pub(super) fn volumes<'a>(spec: &'a Value, path: &str) -> (Volumes<'a>, Vec<FieldError>) {
    let mut good = Volumes::new();
    let mut errors = Vec::new();
    for (index, volume) in spec.list("volumes").iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = volume.text("name");
        let mut wrong = source(volume, &path);
        let at = format!("{path}.name");
        if name.is_empty() {
            wrong.push(FieldError::required(at.clone(), ""));
        } else {
            wrong.extend(check::dns_label(&at, name));
        }
        if good.contains_key(name) {
            wrong.push(FieldError::duplicate(at, &name.into()));
        }
        if wrong.is_empty() {
            good.insert(name, volume);
        }
        errors.extend(wrong);
    }
    (good, errors)
}

fn source(volume: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut found = false;
    for (kind, needed) in SOURCES {
        if !volume.has(kind) {
            continue;
        }
        let path = format!("{path}.{kind}");
        if found {
            errors.push(FieldError::forbidden(path, ONE_TYPE));
            continue;
        }
        found = true;
        let source = volume.get_or_null(kind);
        for field in *needed {
            if source.text(field).is_empty() {
                errors.push(FieldError::required(format!("{path}.{field}"), ""));
            }
        }
        errors.extend(of_kind(kind, source, &path));
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    errors
}

fn of_kind(kind: &str, source: &Value, path: &str) -> Vec<FieldError> {
    match kind {
        "emptyDir" => match amount(source.get_or_null("sizeLimit")) {
            Some(limit) if limit.sign() < 0 => {
                let detail = "SizeLimit field must be a valid resource quantity";
                vec![FieldError::forbidden(format!("{path}.sizeLimit"), detail)]
            }
            _ => Vec::new(),
        },
        "hostPath" => host_path(source, path),
        "gitRepo" => descending_path(&format!("{path}.directory"), source.text("directory")),
        "secret" | "configMap" => {
            let mut errors = mode(source, "defaultMode", path);
            for (index, item) in source.list("items").iter().enumerate() {
                errors.extend(key_to_path(item, &format!("{path}.items[{index}]")));
            }
            errors
        }
        "nfs" if !source.text("path").is_empty() && !source.text("path").starts_with('/') => {
            let detail = "must be an absolute path";
            vec![check::invalid(format!("{path}.path"), source.text("path"), detail)]
        }
        "downwardAPI" => {
            let mut errors = mode(source, "defaultMode", path);
            // Kubernetes leaves the index out of these paths.
            errors.extend(source.list("items").iter().flat_map(|item| downward_file(item, path)));
            errors
        }
        "projected" => projected(source, path),
        "csi" => csi(source, path),
        "ephemeral" => ephemeral(source, path),
        "image" => super::check::required_word(
            &format!("{path}.pullPolicy"),
            source.text("pullPolicy"),
            &["Always", "IfNotPresent", "Never"],
        ),
        _ => Vec::new(),
    }
}

fn host_path(source: &Value, path: &str) -> Vec<FieldError> {
    let place = source.text("path");
    if place.is_empty() {
        return vec![FieldError::required(format!("{path}.path"), "")];
    }
    let mut errors = no_backsteps(&format!("{path}.path"), place);
    if source.has("type") {
        let kind = source.text("type");
        errors.extend(check::one_of(&format!("{path}.type"), kind, HOST_PATH_TYPES));
    }
    errors
}

fn mode(owner: &Value, field: &str, path: &str) -> Vec<FieldError> {
    match owner.int_opt(field) {
        Some(mode) if !(0..=0o777).contains(&mode) => {
            vec![FieldError::invalid(format!("{path}.{field}"), &mode.into(), MODE)]
        }
        _ => Vec::new(),
    }
}

fn key_to_path(item: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["key", "path"] {
        if item.text(field).is_empty() {
            errors.push(FieldError::required(format!("{path}.{field}"), ""));
        }
    }
    errors.extend(local_path(&format!("{path}.path"), item.text("path")));
    errors.extend(mode(item, "mode", path));
    errors
}

fn downward_file(item: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if item.text("path").is_empty() {
        errors.push(FieldError::required(format!("{path}.path"), ""));
    }
    errors.extend(local_path(&format!("{path}.path"), item.text("path")));
    match (item.has("fieldRef"), item.has("resourceFieldRef")) {
        (true, both) => {
            let of = item.get_or_null("fieldRef");
            errors.extend(field_ref(of, FILE_FIELDS, &format!("{path}.fieldRef")));
            if both {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(check::invalid(path, "resource", detail));
            }
        }
        (false, true) => {
            let of = item.get_or_null("resourceFieldRef");
            errors.extend(resource_ref(of, true, &format!("{path}.resourceFieldRef")));
        }
        (false, false) => {
            let detail = "one of fieldRef and resourceFieldRef is required";
            errors.push(FieldError::required(path, detail));
        }
    }
    errors.extend(mode(item, "mode", path));
    errors
}

fn projected(source: &Value, path: &str) -> Vec<FieldError> {
    const KINDS: &[&str] = &[
        "secret",
        "configMap",
        "downwardAPI",
        "serviceAccountToken",
        "clusterTrustBundle",
        "podCertificate",
    ];
    let mut errors = mode(source, "defaultMode", path);
    let mut taken = std::collections::BTreeSet::new();
    for (index, part) in source.list("sources").iter().enumerate() {
        let at = format!("{path}.sources[{index}]");
        let given: Vec<_> = KINDS.iter().copied().filter(|kind| part.has(kind)).collect();
        for (nth, kind) in given.iter().enumerate() {
            let (one, at) = (part.get_or_null(kind), format!("{at}.{kind}"));
            if nth > 0 {
                errors.push(FieldError::forbidden(at, ONE_TYPE));
                continue;
            }
            errors.extend(projection(kind, one, &at));
            let own = [one.text("path")];
            let items = one.list("items").iter().map(|item| item.text("path"));
            for place in items.chain(own).filter(|place| !place.is_empty()) {
                if !taken.insert(place) {
                    let shown = if one.has("name") { one.text("name") } else { place };
                    let detail = "conflicting duplicate paths";
                    errors.push(check::invalid(path, shown, detail));
                }
            }
        }
        if given.is_empty() {
            let words = "secret, downwardAPI, configMap, serviceAccountToken, clusterTrustBundle or podCertificate";
            let detail = format!("must specify one of: {words}");
            errors.push(FieldError::required(at, &detail));
        }
    }
    errors
}

fn projection(kind: &str, one: &Value, path: &str) -> Vec<FieldError> {
    const SECONDS_MIN: i64 = 600;
    const SECONDS_MAX: i64 = 1 << 32;
    let mut errors = Vec::new();
    match kind {
        "secret" | "configMap" => {
            if one.text("name").is_empty() {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
            for (index, item) in one.list("items").iter().enumerate() {
                errors.extend(key_to_path(item, &format!("{path}.items[{index}]")));
            }
        }
        "downwardAPI" => {
            errors.extend(one.list("items").iter().flat_map(|item| downward_file(item, path)));
        }
        "serviceAccountToken" => {
            let seconds = one.int("expirationSeconds");
            let at = format!("{path}.expirationSeconds");
            if seconds < SECONDS_MIN {
                let detail = "may not specify a duration less than 10 minutes";
                errors.push(FieldError::invalid(at, &seconds.into(), detail));
            } else if seconds > SECONDS_MAX {
                let detail = "may not specify a duration larger than 2^32 seconds";
                errors.push(FieldError::invalid(at, &seconds.into(), detail));
            }
            match one.text("path") {
                "" => errors.push(FieldError::required(format!("{path}.path"), "")),
                place => errors.extend(local_path(&format!("{path}.path"), place)),
            }
        }
        "clusterTrustBundle" => {
            match (one.has("name"), one.has("signerName")) {
                (true, true) => errors.push(check::invalid(
                    path,
                    "",
                    "only one of name and signerName may be used",
                )),
                (false, false) => errors.push(FieldError::required(
                    path,
                    "either name or signerName must be specified",
                )),
                _ => {}
            }
            match one.text("path") {
                "" => errors.push(FieldError::required(format!("{path}.path"), "")),
                place => errors.extend(local_path(&format!("{path}.path"), place)),
            }
        }
        _ => {}
    }
    errors
}

fn csi(source: &Value, path: &str) -> Vec<FieldError> {
    let driver = source.text("driver");
    let path = format!("{path}.driver");
    if driver.is_empty() {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if driver.len() > crate::name::LABEL_LENGTH_MAX {
        errors.push(check::too_long(&path, crate::name::LABEL_LENGTH_MAX));
    }
    errors.extend(check::dns_subdomain(&path, &driver.to_lowercase()));
    errors
}

fn ephemeral(source: &Value, path: &str) -> Vec<FieldError> {
    let path = format!("{path}.volumeClaimTemplate");
    if !source.has("volumeClaimTemplate") {
        return vec![FieldError::required(path, "")];
    }
    let spec = source.get_or_null("volumeClaimTemplate").get_or_null("spec");
    let mut errors = Vec::new();
    if spec.list("accessModes").is_empty() {
        let detail = "at least 1 access mode is required";
        errors.push(FieldError::required(format!("{path}.spec.accessModes"), detail));
    }
    if !spec["resources"]["requests"].has("storage") {
        let path = format!("{path}.spec.resources[storage]");
        errors.push(FieldError::required(path, ""));
    }
    errors
}

/// A pod without a service account can have no token.
pub(super) fn no_tokens(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, volume) in spec.list("volumes").iter().enumerate() {
        for (at, part) in volume.get_or_null("projected").list("sources").iter().enumerate() {
            if part.has("serviceAccountToken") {
                let path =
                    format!("spec.volumes[{index}].projected.sources[{at}].serviceAccountToken");
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
    }
    errors
}

/// A path that does not step back.
pub(super) fn no_backsteps(path: &str, value: &str) -> Vec<FieldError> {
    if value.split('/').any(|part| part == "..") {
        return vec![check::invalid(path, value, "must not contain '..'")];
    }
    Vec::new()
}

/// A relative path that stays below where it starts. An empty one is fine.
pub(super) fn descending_path(path: &str, value: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if value.starts_with('/') {
        errors.push(check::invalid(path, value, "must be a relative path"));
    }
    errors.extend(no_backsteps(path, value));
    errors
}

/// The same for a file of a volume, whose name may not look like the volume's own.
fn local_path(path: &str, value: &str) -> Vec<FieldError> {
    let mut errors = descending_path(path, value);
    if value.starts_with("..") && !value.starts_with("../") && value != ".." {
        errors.push(check::invalid(path, value, "must not start with '..'"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_rule_has_its_words() {
        for (volume, wanted) in [
            (json!({"name": "v", "emptyDir": {}}), vec![]),
            (json!({"emptyDir": {}}), vec!["v[0].name: Required value"]),
            (json!({"name": "v"}), vec!["v[0]: Required value: must specify a volume type"]),
            (
                json!({"name": "v", "hostPath": {"path": "/a/../b", "type": "Thing"}}),
                vec![
                    "v[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                    "v[0].hostPath.type: Unsupported value: \"Thing\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
                ],
            ),
            (
                json!({"name": "v", "secret": {"secretName": "s", "defaultMode": 512}}),
                vec![
                    "v[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                ],
            ),
            (
                json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "/x"}]}}),
                vec![
                    "v[0].configMap.items[0].path: Invalid value: \"/x\": must be a relative path",
                ],
            ),
            (
                json!({"name": "v", "downwardAPI": {"items": [{"path": "..a"}]}}),
                vec![
                    "v[0].downwardAPI.path: Invalid value: \"..a\": must not start with '..'",
                    "v[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
                ],
            ),
            (
                json!({"name": "v", "projected": {"sources": [
                    {"serviceAccountToken": {"expirationSeconds": 10, "path": "t"}},
                    {"secret": {"name": "s", "items": [{"key": "k", "path": "t"}]}}]}}),
                vec![
                    "v[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes",
                    "v[0].projected: Invalid value: \"s\": conflicting duplicate paths",
                ],
            ),
            (
                json!({"name": "v", "persistentVolumeClaim": {}}),
                vec!["v[0].persistentVolumeClaim.claimName: Required value"],
            ),
            (
                json!({"name": "v", "emptyDir": {"sizeLimit": "-1"}}),
                vec![
                    "v[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
                ],
            ),
        ] {
            let spec = json!({"volumes": [volume]});
            let got: Vec<_> = volumes(&spec, "v").1.iter().map(ToString::to_string).collect();
            assert_eq!(got, wanted, "{volume}");
        }
    }
}

//! What is in a configMap, secret, downwardAPI or projected volume: paths, bytes, modes.
//!
//! Must not know: how files are written. A newcomer's trap: in a projected volume later sources
//! overwrite earlier ones, and an item that is listed but missing is an error unless optional.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret, Volume,
};

use super::tokens::Tokens;
use crate::api::ObjectSource;
use crate::limits::VOLUME_PAYLOAD_BYTES;
use crate::pod::fields::{self, Around};

/// Mode of a file when nothing says otherwise.
const MODE: i32 = 0o644;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFile {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Files by their path in the volume.
pub type Payload = BTreeMap<String, PayloadFile>;

/// Gathers the files of a volume.
pub(super) async fn of_volume(
    pod: &Pod,
    volume: &Volume,
    around: &Around,
    source: &dyn ObjectSource,
    tokens: &Tokens,
) -> Result<Payload, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut files = Payload::new();
    if let Some(it) = &volume.config_map {
        let mode = it.default_mode.unwrap_or(MODE);
        let map =
            source.config_map(namespace, &it.name).await.map_err(|error| error.to_string())?;
        let items = it.items.as_ref();
        let wanted = Wanted { name: &it.name, items, mode, optional: it.optional };
        add_config_map(&mut files, map, &wanted)?;
    } else if let Some(it) = &volume.secret {
        let mode = it.default_mode.unwrap_or(MODE);
        let name = it.secret_name.as_deref().unwrap_or_default();
        let secret = source.secret(namespace, name).await.map_err(|error| error.to_string())?;
        let items = it.items.as_ref();
        let wanted = Wanted { name, items, mode, optional: it.optional };
        add_secret(&mut files, secret, &wanted)?;
    } else if let Some(it) = &volume.downward_api {
        let mode = it.default_mode.unwrap_or(MODE);
        add_downward(&mut files, pod, around, it.items.as_deref().unwrap_or_default(), mode)?;
    } else if let Some(it) = &volume.projected {
        add_projected(&mut files, pod, &volume.name, it, around, source, tokens).await?;
    }
    check(&files)?;
    Ok(files)
}

async fn add_projected(
    files: &mut Payload,
    pod: &Pod,
    volume: &str,
    projected: &ProjectedVolumeSource,
    around: &Around,
    source: &dyn ObjectSource,
    tokens: &Tokens,
) -> Result<(), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mode = projected.default_mode.unwrap_or(MODE);
    for it in projected.sources.iter().flatten() {
        if let Some(it) = &it.config_map {
            let map =
                source.config_map(namespace, &it.name).await.map_err(|error| error.to_string())?;
            let items = it.items.as_ref();
            let wanted = Wanted { name: &it.name, items, mode, optional: it.optional };
            add_config_map(files, map, &wanted)?;
        } else if let Some(it) = &it.secret {
            let secret =
                source.secret(namespace, &it.name).await.map_err(|error| error.to_string())?;
            let items = it.items.as_ref();
            let wanted = Wanted { name: &it.name, items, mode, optional: it.optional };
            add_secret(files, secret, &wanted)?;
        } else if let Some(it) = &it.downward_api {
            add_downward(files, pod, around, it.items.as_deref().unwrap_or_default(), mode)?;
        } else if let Some(it) = &it.service_account_token {
            let token = tokens.get(pod, volume, it, source).await?;
            insert(files, &it.path, token.into_bytes(), mode);
        } else {
            return Err("this kind of projected source is not supported by this node".to_owned());
        }
    }
    Ok(())
}

/// What a volume wants of one object.
struct Wanted<'a> {
    name: &'a str,
    items: Option<&'a Vec<KeyToPath>>,
    mode: i32,
    optional: Option<bool>,
}

fn add_config_map(
    files: &mut Payload,
    map: Option<ConfigMap>,
    wanted: &Wanted<'_>,
) -> Result<(), String> {
    let data = map.map(|map| {
        let texts = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
        texts
            .chain(map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)))
            .collect()
    });
    let missing = "configmap references non-existent config key";
    add_keys(files, data.ok_or("configmap"), wanted, missing)
}

fn add_secret(
    files: &mut Payload,
    secret: Option<Secret>,
    wanted: &Wanted<'_>,
) -> Result<(), String> {
    let data = secret.map(|secret| {
        secret.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)).collect()
    });
    add_keys(files, data.ok_or("secret"), wanted, "references non-existent secret key")
}

/// Adds an object's data; without the object, `data` says which kind there is none of.
fn add_keys(
    files: &mut Payload,
    data: Result<BTreeMap<String, Vec<u8>>, &str>,
    wanted: &Wanted<'_>,
    missing: &str,
) -> Result<(), String> {
    let optional = wanted.optional.unwrap_or_default();
    let mut data = match data {
        Ok(data) => data,
        Err(_) if optional => return Ok(()),
        Err(kind) => return Err(format!("{kind} {:?} not found", wanted.name)),
    };
    let Some(items) = wanted.items.filter(|items| !items.is_empty()) else {
        for (key, bytes) in data {
            insert(files, &key, bytes, wanted.mode);
        }
        return Ok(());
    };
    for item in items {
        match data.remove(&item.key) {
            Some(bytes) => insert(files, &item.path, bytes, item.mode.unwrap_or(wanted.mode)),
            None if optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(())
}

fn add_downward(
    files: &mut Payload,
    pod: &Pod,
    around: &Around,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
) -> Result<(), String> {
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => fields::field(pod, around, &reference.field_path)?,
            (None, Some(selector)) => fields::resource(pod, around, selector, None)?,
            (None, None) => return Err(format!("{}: no field is named", item.path)),
        };
        insert(files, &item.path, text.into_bytes(), item.mode.unwrap_or(mode));
    }
    Ok(())
}

fn insert(files: &mut Payload, path: &str, bytes: Vec<u8>, mode: i32) {
    files.insert(path.to_owned(), PayloadFile { bytes, mode: mode as u32 & 0o777 });
}

/// Refuses paths that would leave the volume or collide with the writer's own names, and payloads
/// that no Kubernetes object can hold.
fn check(files: &Payload) -> Result<(), String> {
    let total: usize = files.values().map(|file| file.bytes.len()).sum();
    if total > VOLUME_PAYLOAD_BYTES {
        return Err(format!("payload of {total} bytes is larger than {VOLUME_PAYLOAD_BYTES}"));
    }
    for path in files.keys() {
        if path.is_empty() || path.len() > 4_096 {
            return Err(format!("invalid path: must not be empty or too long: {path:.80}"));
        }
        if path.starts_with('/') {
            return Err(format!("invalid path: must be a relative path: {path}"));
        }
        if path.split('/').any(|part| part == ".." || part.len() > 255 || part.contains('\0')) {
            return Err(format!("invalid path: must not contain '..': {path}"));
        }
        if path.starts_with("..") {
            return Err(format!("invalid path: must not start with '..': {path}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for path in ["..data", "../x", "a/../../b", "/etc/passwd", "", "..2024/x", "a\0b"] {
            let mut files = Payload::new();
            insert(&mut files, path, Vec::new(), MODE);
            assert!(check(&files).is_err(), "{path:?}");
        }
        let mut files = Payload::new();
        insert(&mut files, "a/b..c", Vec::new(), MODE);
        assert_eq!(check(&files), Ok(()));
        insert(&mut files, "big", vec![0; VOLUME_PAYLOAD_BYTES + 1], MODE);
        assert!(check(&files).is_err());
    }

    #[test]
    fn listed_items_must_exist_unless_optional() {
        let data: BTreeMap<String, Vec<u8>> = [("a".to_owned(), b"1".to_vec())].into();
        let item =
            |key: &str| KeyToPath { key: key.to_owned(), mode: None, path: "x/y".to_owned() };
        let mut files = Payload::new();
        let mut add = |data: Result<_, &str>, key: &str, optional| {
            let items = vec![item(key)];
            let optional = Some(optional);
            let wanted = Wanted { name: "n", items: Some(&items), mode: MODE, optional };
            add_keys(&mut files, data, &wanted, "references non-existent secret key")
        };
        assert_eq!(add(Ok(data.clone()), "a", false), Ok(()));
        let missing = "references non-existent secret key: b".to_owned();
        assert_eq!(add(Ok(data.clone()), "b", false), Err(missing));
        assert_eq!(add(Ok(data), "b", true), Ok(()));
        assert_eq!(add(Err("secret"), "a", false), Err("secret \"n\" not found".to_owned()));
        assert_eq!(add(Err("secret"), "a", true), Ok(()));
        assert_eq!(files["x/y"].bytes, b"1");
    }
}

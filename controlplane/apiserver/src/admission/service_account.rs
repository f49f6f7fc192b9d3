//! ServiceAccount: every pod has an account, and its token where programs look for it.
//!
//! Owns: the default account, the projected volume and its mounts. Must not know: how tokens are
//! made. A newcomer's trap: the default account is made by a controller a moment after its
//! namespace, so a pod that comes first waits a little before it is refused.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kijabi_base::rng;
use serde_json::{Value, json};

use super::{Attributes, ObjectAt, Objects, Operation, Plugin};
use crate::status::ApiError;

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and what a node may take to renew it.
const TOKEN_SECONDS: i64 = 3_607;
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How often and how long apart the default account is looked for.
const DEFAULT_TRIES: u32 = 10;
const DEFAULT_PAUSE: Duration = Duration::from_millis(100);

/// The plugin.
pub(super) struct ServiceAccount {
    objects: Arc<dyn Objects>,
}

impl ServiceAccount {
    pub(super) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<Option<Arc<Value>>, ApiError> {
        let at = ObjectAt { group: "", plural: "serviceaccounts", namespace, name };
        if let Some(found) = self.objects.get(at).await? {
            return Ok(Some(found));
        }
        let tries = if name == "default" { DEFAULT_TRIES } else { 1 };
        for tried in 1..=tries {
            if let Some(found) = self.objects.get_live(at).await? {
                return Ok(Some(found));
            }
            if tried < tries {
                let jitter = Duration::from_millis(rng::below(DEFAULT_PAUSE.as_millis() as u64));
                tokio::time::sleep(DEFAULT_PAUSE + jitter).await;
            }
        }
        Ok(None)
    }

    async fn admit_pod(
        &self,
        attributes: &Attributes<'_>,
        pod: &mut Value,
    ) -> Result<(), ApiError> {
        if !pod["metadata"]["annotations"][MIRROR].is_null() {
            return Ok(());
        }
        let asked = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        let name = if asked.is_empty() { "default".to_owned() } else { asked.to_owned() };
        let namespace = attributes.namespace;
        let Some(account) = self.account(namespace, &name).await? else {
            let why = format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            );
            return Err(attributes.forbidden(&why));
        };
        let spec = &mut pod["spec"];
        spec["serviceAccountName"] = name.as_str().into();
        spec["serviceAccount"] = name.as_str().into();
        let mounts = spec["automountServiceAccountToken"]
            .as_bool()
            .or_else(|| account["automountServiceAccountToken"].as_bool())
            .unwrap_or(true);
        if mounts {
            mount_token(spec);
        }
        let has_pull_secrets = spec["imagePullSecrets"].as_array().is_some_and(|s| !s.is_empty());
        if !has_pull_secrets
            && let Some(secrets) = account["imagePullSecrets"].as_array().filter(|s| !s.is_empty())
        {
            spec["imagePullSecrets"] = secrets.clone().into();
        }
        Ok(())
    }
}

// Differs from Kubernetes: the deprecated annotation kubernetes.io/enforce-mountable-secrets of an
// account is not enforced.
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let concerned =
            attributes.operation == Operation::Create && attributes.is_object("", "pods");
        if !concerned || !object["spec"].is_object() {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(self.admit_pod(attributes, object))
    }

    fn validate<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let concerned =
            attributes.operation == Operation::Create && attributes.is_object("", "pods");
        let outcome =
            object.filter(|_| concerned).map_or(Ok(()), |pod| check_mirror(attributes, pod));
        Box::pin(std::future::ready(outcome))
    }
}

/// A mirror pod stands for a file of a node; it must not be a way to a token.
fn check_mirror(attributes: &Attributes<'_>, pod: &Value) -> Result<(), ApiError> {
    if pod["metadata"]["annotations"][MIRROR].is_null() {
        return Ok(());
    }
    let has_account = pod["spec"]["serviceAccountName"].as_str().is_some_and(|n| !n.is_empty());
    if has_account {
        return Err(attributes.forbidden("a mirror pod may not reference service accounts"));
    }
    let has_token = pod["spec"]["volumes"].as_array().into_iter().flatten().any(|volume| {
        let sources = volume["projected"]["sources"].as_array();
        sources.into_iter().flatten().any(|source| !source["serviceAccountToken"].is_null())
    });
    if has_token {
        let why = "a mirror pod may not use ServiceAccountToken volume projections";
        return Err(attributes.forbidden(why));
    }
    Ok(())
}

/// Mounts the token into each container that mounts nothing at its path.
fn mount_token(spec: &mut Value) {
    let volumes = spec["volumes"].as_array();
    let present = volumes.into_iter().flatten().find_map(|volume| {
        volume["name"].as_str().filter(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned)
    });
    let name = present.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", suffix()));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mounts = container["volumeMounts"].as_array();
            let taken = mounts.into_iter().flatten().any(|mount| mount["mountPath"] == TOKEN_PATH);
            if taken || !container.is_object() {
                continue;
            }
            needed = true;
            let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH});
            push(container, "volumeMounts", mount);
        }
    }
    if needed && present.is_none() {
        push(spec, "volumes", token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    let ca = json!([{"key": "ca.crt", "path": "ca.crt"}]);
    let namespace = json!([{
        "path": "namespace",
        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
    }]);
    json!({"name": name, "projected": {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": ca}},
            {"downwardAPI": {"items": namespace}},
        ],
        "defaultMode": 0o644,
    }})
}

fn push(object: &mut Value, field: &str, item: Value) {
    match object.get_mut(field).and_then(Value::as_array_mut) {
        Some(list) => list.push(item),
        None => object[field] = json!([item]),
    }
}

/// Five letters or digits that cannot make a word.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[rng::below(LETTERS.len() as u64) as usize])).collect()
}

//! Makes sure that a container's image is in the runtime's store.
//!
//! Owns: pull policy, credentials, the events about images. Must not know: containers. A newcomer's
//! trap: a pull that failed is an error (`ErrImagePull`) only until the next look; from then on the
//! status says `ImagePullBackOff`, with the error in its message.

use std::collections::BTreeMap;

use base64::Engine as _;
use k8s_openapi::api::core::v1::{Container as Wanted, Pod, Secret};
use serde::Deserialize;

use super::backoff::{Backoff, Millis};
use super::{Failure, PodError, Shared, Waiting};
use crate::events::Kind;
use crate::image::reference;
use crate::runtime::{Auth, Image};

/// An image that is not there, and what to show until the next try.
pub(super) struct Absent {
    /// The error now.
    pub(super) error: PodError,
    /// What to do about it.
    pub(super) failure: Failure,
}

/// The image in the store, pulled if the policy says so.
pub(super) async fn ensure(
    shared: &Shared,
    pod: &Pod,
    wanted: &Wanted,
    pulls: &mut BTreeMap<String, Backoff>,
    now: Millis,
) -> Result<Image, Absent> {
    let named = wanted.image.clone().unwrap_or_default();
    let event = |kind, reason: &str, text: String| {
        shared.events.container(pod, &wanted.name, kind, reason, text);
    };
    let Some(full) = reference::normalize(&named) else {
        let message = format!(
            "Failed to apply default image tag {named:?}: couldn't parse image name {named:?}: \
             invalid reference format"
        );
        event(Kind::Warning, "InspectFailed", message.clone());
        event(Kind::Warning, "Failed", "Error: InvalidImageName".to_owned());
        return Err(steady("InvalidImageName", message, now));
    };
    let present = match shared.runtime.image(&full).await {
        Ok(present) => present,
        Err(error) => {
            let message = format!("Failed to inspect image {named:?}: {error}");
            event(Kind::Warning, "InspectFailed", message.clone());
            return Err(steady("ImageInspectError", message, now));
        }
    };
    let policy = wanted.image_pull_policy.as_deref().unwrap_or_else(|| {
        if reference::pulls_always_by_default(&named) { "Always" } else { "IfNotPresent" }
    });
    match (policy, present) {
        ("Never" | "IfNotPresent", Some(image)) => {
            let text = format!(
                "Container image {named:?} already present on machine and can be accessed by the pod"
            );
            event(Kind::Normal, "Pulled", text);
            Ok(image)
        }
        ("Never", None) => {
            let message =
                format!("Container image {named:?} is not present with pull policy of Never");
            event(Kind::Warning, "ErrImageNeverPull", message.clone());
            event(Kind::Warning, "Failed", "Error: ErrImageNeverPull".to_owned());
            Err(steady("ErrImageNeverPull", message, now))
        }
        _ => pull(shared, pod, wanted, &full, pulls, now).await,
    }
}

/// An error that stays what it is until something changes; looked at again every ten seconds.
fn steady(reason: &'static str, message: String, now: Millis) -> Absent {
    let held = Waiting { reason: reason.to_owned(), message: message.clone() };
    let failure = Failure { retry_at: now + 10_000, held };
    Absent { error: PodError::new(reason, message), failure }
}

async fn pull(
    shared: &Shared,
    pod: &Pod,
    wanted: &Wanted,
    full: &str,
    pulls: &mut BTreeMap<String, Backoff>,
    now: Millis,
) -> Result<Image, Absent> {
    let named = wanted.image.as_deref().unwrap_or_default();
    let event = |kind, reason: &str, text: String| {
        shared.events.container(pod, &wanted.name, kind, reason, text);
    };
    event(Kind::Normal, "Pulling", format!("Pulling image {named:?}"));
    let asked = kijabi_base::clock::now();
    let _turn = shared.pulls.acquire().await;
    let begun = kijabi_base::clock::now();
    let pulled = pull_with_secrets(shared, pod, full).await;
    let image = match pulled {
        Ok(()) => shared.runtime.image(full).await.ok().flatten(),
        Err(message) => {
            event(Kind::Warning, "Failed", format!("Failed to pull image {named:?}: {message}"));
            event(Kind::Warning, "Failed", "Error: ErrImagePull".to_owned());
            let backoff = pulls.entry(full.to_owned()).or_default();
            backoff.tried(now, now);
            let held = Waiting {
                reason: "ImagePullBackOff".to_owned(),
                message: format!("Back-off pulling image {named:?}: ErrImagePull: {message}"),
            };
            let retry_at = now + backoff.wait().as_millis() as i64;
            let error = PodError::new("ErrImagePull", message);
            return Err(Absent { error, failure: Failure { retry_at, held } });
        }
    };
    let Some(image) = image else {
        let message = format!("image {named:?} was pulled but is not in the runtime's store");
        return Err(steady("ImageInspectError", message, now));
    };
    pulls.remove(full);
    let end = kijabi_base::clock::now();
    event(
        Kind::Normal,
        "Pulled",
        format!(
            "Successfully pulled image {named:?} in {} ({} including waiting). Image size: {} bytes.",
            seconds(end - begun),
            seconds(end - asked),
            image.size
        ),
    );
    Ok(image)
}

/// A short duration as Go prints it, to the millisecond.
fn seconds(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1_000 { format!("{millis}ms") } else { format!("{:.3}s", duration.as_secs_f64()) }
}

/// Tries the credentials of each matching pull secret, or none if there is none.
async fn pull_with_secrets(shared: &Shared, pod: &Pod, full: &str) -> Result<(), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let names = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_ref());
    let mut credentials = Vec::new();
    for reference in names.into_iter().flatten() {
        match shared.source.secret(namespace, &reference.name).await {
            Ok(Some(secret)) => credentials.extend(auths(&secret, full)),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let mut attempts: Vec<Option<&Auth>> = credentials.iter().map(Some).collect();
    if attempts.is_empty() {
        attempts.push(None);
    }
    let mut last = String::new();
    for auth in attempts {
        match shared.runtime.pull(full, auth).await {
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
}

/// The credentials a pull secret has for the registry of an image.
fn auths(secret: &Secret, full: &str) -> Vec<Auth> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let entries: BTreeMap<String, DockerAuth> = if let Some(bytes) = data(".dockerconfigjson") {
        serde_json::from_slice::<DockerConfig>(&bytes.0).map(|it| it.auths).unwrap_or_default()
    } else if let Some(bytes) = data(".dockercfg") {
        serde_json::from_slice(&bytes.0).unwrap_or_default()
    } else {
        BTreeMap::new()
    };
    let registry = full.split('/').next().unwrap_or_default();
    entries
        .into_iter()
        .filter(|(server, _)| registry_of(server) == registry)
        .map(|(server, it)| {
            let (username, password) = split_auth(&it);
            Auth {
                username,
                password,
                auth: String::new(),
                server,
                identity_token: it.identity_token,
                registry_token: it.registry_token,
            }
        })
        .collect()
}

/// The registry a key of a Docker configuration names; Docker Hub has an old name of its own.
fn registry_of(server: &str) -> &str {
    let host = server.trim_start_matches("https://").trim_start_matches("http://");
    match host.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

fn split_auth(entry: &DockerAuth) -> (String, String) {
    let decoded = base64::engine::general_purpose::STANDARD.decode(&entry.auth).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    match text.as_deref().and_then(|text| text.split_once(':')) {
        Some((user, password)) => (user.to_owned(), password.trim_end_matches('\0').to_owned()),
        None => (entry.username.clone(), entry.password.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_picked_by_registry() {
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpwOnE="},
            "127.0.0.1:5000": {"username": "a", "password": "b"},
            "other.example": {"username": "x", "password": "y"},
        }});
        let config = base64::engine::general_purpose::STANDARD.encode(config.to_string());
        let secret: Secret =
            serde_json::from_value(json!({"data": {".dockerconfigjson": config}})).unwrap();
        let found = |image: &str| {
            let full = reference::normalize(image).unwrap();
            let auths = auths(&secret, &full);
            auths
                .into_iter()
                .map(|it| format!("{}:{}", it.username, it.password))
                .collect::<Vec<_>>()
        };
        assert_eq!(found("nginx"), ["u:p:q"]);
        assert_eq!(found("127.0.0.1:5000/nginx"), ["a:b"]);
        assert!(found("registry.example/nginx").is_empty());
    }
}

//! The API as far as a node needs it: a map of pods that tells of its changes.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret, Service};
use kijabi_agent::api::{ApiError, ObjectSource, PodChange};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

#[derive(Default)]
struct Objects {
    pods: BTreeMap<String, Value>,
    config_maps: BTreeMap<String, ConfigMap>,
    events: Vec<Event>,
    counter: u64,
}

/// The API, as far as a node needs it.
pub(crate) struct FakeApi {
    objects: Mutex<Objects>,
    changes: broadcast::Sender<PodChange>,
}

impl FakeApi {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { objects: Mutex::default(), changes: broadcast::channel(1_024).0 })
    }

    /// All pods.
    pub(crate) fn pods(&self) -> Vec<Value> {
        self.objects.lock().pods.values().cloned().collect()
    }

    /// A pod.
    pub(crate) fn pod(&self, uid: &str) -> Option<Value> {
        self.objects.lock().pods.get(uid).cloned()
    }

    /// All events.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.objects.lock().events.clone()
    }

    /// Creates a pod bound to the node.
    pub(crate) fn create(&self, mut pod: Value) -> String {
        let mut objects = self.objects.lock();
        objects.counter += 1;
        let uid = format!("00000000-0000-0000-0000-{:012}", objects.counter);
        pod["metadata"]["uid"] = json!(uid);
        pod["spec"]["nodeName"] = json!("node");
        pod["status"] = json!({"phase": "Pending"});
        objects.pods.insert(uid.clone(), pod.clone());
        self.tell(&pod);
        uid
    }

    /// Creates a ConfigMap.
    pub(crate) fn config_map(&self, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        let map = serde_json::from_value(json!({"data": data})).unwrap();
        self.objects.lock().config_maps.insert(name.to_owned(), map);
    }

    /// Marks a pod for deletion, as `kubectl delete` does.
    pub(crate) fn delete(&self, uid: &str, grace: i64) {
        let mut objects = self.objects.lock();
        let pod = objects.pods.get_mut(uid).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        let pod = pod.clone();
        self.tell(&pod);
    }

    fn tell(&self, pod: &Value) {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        let _ = self.changes.send(PodChange::Applied(Box::new(pod)));
    }
}

/// Merges as a strategic merge patch does with a pod's status.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        let merge_key = match key.as_str() {
            "conditions" => Some("type"),
            "podIPs" | "hostIPs" => Some("ip"),
            _ => None,
        };
        match (merge_key, value) {
            (_, Value::Null) => {
                target.as_object_mut().unwrap().remove(key);
            }
            (Some(by), Value::Array(items)) => {
                let mut list = target[key].as_array().cloned().unwrap_or_default();
                for item in items {
                    let known = list.iter().position(|it| it[by] == item[by]);
                    match known {
                        Some(at) if item["$patch"] == "delete" => drop(list.remove(at)),
                        Some(at) => list[at] = item.clone(),
                        None => list.push(item.clone()),
                    }
                }
                target[key] = Value::Array(list);
            }
            (None, Value::Object(_)) => merge(&mut target[key], value),
            _ => target[key] = value.clone(),
        }
    }
}

#[async_trait::async_trait]
impl ObjectSource for FakeApi {
    fn pods(&self, _: &str) -> BoxStream<'static, PodChange> {
        let changes = self.changes.subscribe();
        let all = self.objects.lock().pods.values().cloned().collect::<Vec<_>>();
        let all = all.into_iter().map(|pod| serde_json::from_value(pod).unwrap()).collect();
        let rest = tokio_stream::wrappers::BroadcastStream::new(changes);
        let rest = rest.filter_map(|change| async { change.ok() });
        futures::stream::once(async { PodChange::Listed(all) }).chain(rest).boxed()
    }

    async fn config_map(&self, _: &str, name: &str) -> Result<Option<ConfigMap>, ApiError> {
        Ok(self.objects.lock().config_maps.get(name).cloned())
    }

    async fn secret(&self, _: &str, _: &str) -> Result<Option<Secret>, ApiError> {
        Ok(None)
    }

    async fn services(&self, _: &str) -> Result<Vec<Arc<Service>>, ApiError> {
        Ok(Vec::new())
    }

    async fn token(
        &self,
        _: &str,
        account: &str,
        _: &TokenRequest,
    ) -> Result<TokenRequestStatus, ApiError> {
        Ok(serde_json::from_value(json!({
            "token": format!("token-of-{account}"),
            "expirationTimestamp": "2100-01-01T00:00:00Z",
        }))
        .unwrap())
    }

    async fn patch_pod_status(&self, _: &str, name: &str, patch: &Value) -> Result<Pod, ApiError> {
        let mut objects = self.objects.lock();
        let uid = patch["metadata"]["uid"].as_str().unwrap_or_default();
        let Some(pod) = objects.pods.get_mut(uid) else {
            return Err(ApiError::NotFound(format!("pods {name:?} not found")));
        };
        merge(&mut pod["status"], &patch["status"]);
        let pod = pod.clone();
        self.tell(&pod);
        Ok(serde_json::from_value(pod).unwrap())
    }

    async fn delete_pod(&self, _: &str, _: &str, uid: &str) -> Result<(), ApiError> {
        let pod = self.objects.lock().pods.remove(uid);
        if let Some(pod) = pod {
            let pod = Box::new(serde_json::from_value(pod).unwrap());
            let _ = self.changes.send(PodChange::Deleted(pod));
        }
        Ok(())
    }

    async fn create_event(&self, event: &Event) -> Result<(), ApiError> {
        self.objects.lock().events.push(event.clone());
        Ok(())
    }

    async fn patch_event(&self, _: &str, _: &str, _: &Value) -> Result<(), ApiError> {
        Ok(())
    }
}

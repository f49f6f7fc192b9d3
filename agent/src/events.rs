//! Events about pods: queued, counted when they repeat, sent in the background.
//!
//! Must not know: why something happened. A newcomer's trap: recording never waits and never
//! fails; when the queue is full the event is dropped, as the kubelet drops it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kijabi_base::tasks::Shutdown;
use serde_json::json;
use tokio::sync::mpsc;

use crate::api::{ApiError, ObjectSource};
use crate::limits::{EVENT_MEMORY_MAX, EVENT_QUEUE_MAX};
use crate::time;

/// Normal or a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Something a person should look at.
    Warning,
}

/// Records events. Clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Event>,
    node: Arc<str>,
}

impl Recorder {
    /// Starts the task that sends.
    pub fn start(source: Arc<dyn ObjectSource>, node: &str, shutdown: Shutdown) -> Self {
        let (queue, events) = mpsc::channel(EVENT_QUEUE_MAX);
        kijabi_base::tasks::spawn_until("events", shutdown, send(source, events));
        Self { queue, node: node.into() }
    }

    /// Records an event about a pod.
    pub fn pod(&self, pod: &Pod, kind: Kind, reason: &str, message: impl Into<String>) {
        self.record(pod, None, kind, reason, message.into());
    }

    /// Records an event about one of its containers.
    pub fn container(
        &self,
        pod: &Pod,
        container: &str,
        kind: Kind,
        reason: &str,
        message: impl Into<String>,
    ) {
        let is_init = pod.spec.as_ref().is_some_and(|spec| {
            spec.init_containers.iter().flatten().any(|it| it.name == container)
        });
        let list = if is_init { "initContainers" } else { "containers" };
        let path = format!("spec.{list}{{{container}}}");
        self.record(pod, Some(path), kind, reason, message.into());
    }

    fn record(
        &self,
        pod: &Pod,
        field_path: Option<String>,
        kind: Kind,
        reason: &str,
        message: String,
    ) {
        let meta = &pod.metadata;
        let name = meta.name.clone().unwrap_or_default();
        let now = time::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{}", suffix())),
                namespace: meta.namespace.clone(),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(name),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path,
            },
            reason: Some(reason.to_owned()),
            message: Some(message),
            type_: Some(if kind == Kind::Normal { "Normal" } else { "Warning" }.to_owned()),
            count: Some(1),
            first_timestamp: Some(time::time(now)),
            last_timestamp: Some(time::time(now)),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.to_string()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.to_string()),
            ..Event::default()
        };
        if self.queue.try_send(event).is_err() {
            tracing::debug!("the event queue is full; an event was dropped");
        }
    }
}

/// Client-go's form, the time in nanoseconds, so that a list by name is in the order of events. The
/// last six digits count, as two events may fall into one millisecond.
fn suffix() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed) % 1_000_000;
    format!("{:x}", kijabi_base::clock::wall_ms() * 1_000_000 + count)
}

/// What makes two events the same but for their count and time.
type Sameness = (Option<String>, Option<String>, Option<String>, Option<String>);

fn sameness(event: &Event) -> Sameness {
    (
        event.involved_object.uid.clone(),
        event.involved_object.field_path.clone(),
        event.reason.clone(),
        event.message.clone(),
    )
}

async fn send(source: Arc<dyn ObjectSource>, mut events: mpsc::Receiver<Event>) {
    let mut recent: VecDeque<(Sameness, String, i32)> = VecDeque::new();
    while let Some(event) = events.recv().await {
        let same = sameness(&event);
        let known = recent.iter_mut().find(|(key, ..)| *key == same);
        let sent = match known {
            Some((_, name, count)) => {
                *count += 1;
                let patch = json!({"count": *count, "lastTimestamp": event.last_timestamp});
                let ns = event.metadata.namespace.clone().unwrap_or_default();
                source.patch_event(&ns, name, &patch).await
            }
            None => Err(ApiError::NotFound(String::new())),
        };
        let sent = match sent {
            // New, or the API's copy has expired.
            Err(ApiError::NotFound(_)) => {
                recent.retain(|(key, ..)| *key != same);
                if recent.len() >= EVENT_MEMORY_MAX {
                    recent.pop_front();
                }
                recent.push_back((same, event.metadata.name.clone().unwrap_or_default(), 1));
                source.create_event(&event).await
            }
            other => other,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "an event was not recorded");
        }
    }
}

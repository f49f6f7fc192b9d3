//! Tells users what a component did, as Event objects. Never waits and never fails its caller.
//!
//! Owns: the recorder and the task that sends. Must not know: what the messages mean. A newcomer's
//! trap: events are best effort: a full queue drops them, and only the counter tells.

mod correlate;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Event as CoreEvent, EventSource, ObjectReference};
use k8s_openapi::api::events::v1::{Event as SeriesEvent, EventSeries};
use kijabi_base::clock;
use kijabi_base::tasks::{self, Shutdown};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;

use self::correlate::{Action, Correlator};
use crate::limits;
use crate::time::{now, now_time, whole_seconds};

/// Whether all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// Things go as they should.
    Normal,
    /// Someone may want to look.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Which of the two Event APIs a component writes, as its Kubernetes counterpart does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventApi {
    /// `v1`: repeats raise `count`. The controllers.
    Core,
    /// `events.k8s.io/v1`: repeats form a series. The scheduler.
    Series,
}

/// One thing to tell.
#[derive(Clone, Debug)]
pub struct Note {
    /// What it is about.
    pub about: ObjectReference,
    /// Whether all is well.
    pub kind: EventType,
    /// One CamelCase word.
    pub reason: &'static str,
    /// What was done; only `events.k8s.io/v1` has it.
    pub action: &'static str,
    /// For people.
    pub message: String,
}

/// Takes notes and sends them as Events in the background.
#[derive(Clone, Debug)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
}

// === impl Recorder ===

impl Recorder {
    /// Starts the sending task; `component` is what users see under "From".
    pub fn spawn(
        client: Client,
        component: &'static str,
        instance: String,
        api: EventApi,
        shutdown: Shutdown,
    ) -> Self {
        let (notes, queue) = mpsc::channel(limits::EVENT_QUEUE_MAX);
        let sender = Arc::new(Sender { client, component, instance, api });
        tasks::spawn_until("events", shutdown, send_all(sender, queue));
        Self { notes, dropped: Arc::default() }
    }

    /// Notes something about `object`.
    pub fn note<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &'static str,
        action: &'static str,
        message: String,
    ) {
        self.send(Note { about: reference_to(object), kind, reason, action, message });
    }

    /// Notes something; drops it if the queue is full.
    pub fn send(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The reference an Event carries to `object`.
pub fn reference_to<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

struct Sender {
    client: Client,
    component: &'static str,
    instance: String,
    api: EventApi,
}

async fn send_all(sender: Arc<Sender>, queue: mpsc::Receiver<Note>) {
    let mut correlator = Correlator::new(sender.api);
    let actions =
        stream::unfold(
            queue,
            |mut queue| async move { queue.recv().await.map(|note| (note, queue)) },
        )
        .filter_map(|note| {
            let action = correlator.correlate(note, clock::now(), now());
            async move { action }
        });
    actions
        .for_each_concurrent(limits::EVENT_REQUESTS_MAX, |action| {
            let sender = sender.clone();
            async move {
                if let Err(error) = sender.carry_out(&action).await {
                    tracing::debug!(component = sender.component, %error, "event was not stored");
                }
            }
        })
        .await;
}

// === impl Sender ===

impl Sender {
    async fn carry_out(&self, action: &Action) -> kube::Result<()> {
        match self.api {
            EventApi::Core => self.send_core(action).await,
            EventApi::Series => self.send_series(action).await,
        }
    }

    async fn send_core(&self, action: &Action) -> kube::Result<()> {
        let api: Api<CoreEvent> = Api::namespaced(self.client.clone(), namespace_of(&action.note));
        if action.count > 1 {
            let change = json!({
                "count": action.count,
                "lastTimestamp": now_time(),
                "message": action.note.message,
            });
            match self.patch(&api, &action.name, change).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other,
            }
        }
        let event = CoreEvent {
            metadata: metadata_of(action),
            involved_object: action.note.about.clone(),
            reason: Some(action.note.reason.to_owned()),
            message: Some(action.note.message.clone()),
            type_: Some(action.note.kind.as_str().to_owned()),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(String::new()),
            first_timestamp: Some(whole_seconds(action.first_at)),
            last_timestamp: Some(now_time()),
            count: Some(action.count),
            ..CoreEvent::default()
        };
        api.create(&PostParams::default(), &event).await.map(drop)
    }

    async fn send_series(&self, action: &Action) -> kube::Result<()> {
        let api: Api<SeriesEvent> =
            Api::namespaced(self.client.clone(), namespace_of(&action.note));
        let series = (action.count > 1).then(|| EventSeries {
            count: action.count,
            last_observed_time: crate::time::now_micro(),
        });
        if series.is_some() {
            match self.patch(&api, &action.name, json!({ "series": series })).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other,
            }
        }
        let event = SeriesEvent {
            metadata: metadata_of(action),
            regarding: Some(action.note.about.clone()),
            reason: Some(action.note.reason.to_owned()),
            note: Some(action.note.message.clone()),
            type_: Some(action.note.kind.as_str().to_owned()),
            action: Some(action.note.action.to_owned()),
            event_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(
                action.first_at,
            )),
            reporting_controller: Some(self.component.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            series,
            ..SeriesEvent::default()
        };
        api.create(&PostParams::default(), &event).await.map(drop)
    }

    async fn patch<K>(
        &self,
        api: &Api<K>,
        name: &str,
        change: serde_json::Value,
    ) -> kube::Result<()>
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.map(drop)
    }
}

fn metadata_of(action: &Action) -> ObjectMeta {
    ObjectMeta {
        name: Some(action.name.clone()),
        namespace: Some(namespace_of(&action.note).to_owned()),
        ..ObjectMeta::default()
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace_of(note: &Note) -> &str {
    note.about.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

//! One term of leadership: take a pod, decide, write the decision to the API.
//!
//! Owns: the loop and its requests. Must not know: how a decision is made. A newcomer's trap: the
//! decision counts before it is written (the pod is assumed); if writing fails it is taken back.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use kijabi_base::tasks::{self, Shutdown};
use kijabi_base::{clock, rng};
use kijabi_client::events::{EventApi, EventType, Recorder};
use kijabi_client::time::now_time;
use kijabi_client::{Cache, message_of};
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::cluster::Cluster;
use crate::pod::PodInfo;
use crate::queue::{Event, Queue};
use crate::schedule::{Unschedulable, schedule};
use crate::{Options, limits, watch};

/// The name pods ask for this scheduler by.
pub(crate) const SCHEDULER_NAME: &str = "default-scheduler";

/// What the loop and the watches share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) wake: Notify,
}

/// The picture and the queue, changed together.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) cluster: Cluster,
    pub(crate) queue: Queue,
}

struct Term {
    client: Client,
    shared: Arc<Shared>,
    pods: Arc<Cache<Pod>>,
    events: Recorder,
    binds: Arc<Semaphore>,
    status_writes: Arc<Semaphore>,
}

/// Places pods until `term` ends.
pub(crate) async fn run_term(options: Options, term: Shutdown) {
    let shared = Arc::new(Shared::default());
    let pods = watch::start(&options.client, &shared, &term).await;
    let events = Recorder::spawn(
        options.client.clone(),
        SCHEDULER_NAME,
        format!("{SCHEDULER_NAME}-{}", options.identity),
        EventApi::Series,
        term.clone(),
    );
    let term_state = Arc::new(Term {
        client: options.client,
        shared,
        pods,
        events,
        binds: Arc::new(Semaphore::new(limits::BINDS_IN_FLIGHT_MAX)),
        status_writes: Arc::new(Semaphore::new(limits::STATUS_WRITES_IN_FLIGHT_MAX)),
    });
    tokio::select! {
        () = term.wait() => {}
        () = place_pods(&term_state) => {}
    }
    // What was decided is written before the term ends, or is lost and decided again.
    let all = limits::BINDS_IN_FLIGHT_MAX as u32;
    let _ =
        tokio::time::timeout(std::time::Duration::from_secs(2), term_state.binds.acquire_many(all))
            .await;
}

async fn place_pods(term: &Arc<Term>) {
    loop {
        let permit = acquire(&term.binds).await;
        let pod = next_pod(&term.shared).await;
        let decision = decide(&term.shared, &pod);
        match decision {
            Ok(node) => {
                let term = term.clone();
                tasks::spawn("bind", async move { term.bind(&pod, &node, permit).await });
            }
            Err(refused) => {
                drop(permit);
                let permit = acquire(&term.status_writes).await;
                let term = term.clone();
                tasks::spawn("refuse", async move { term.refuse(&pod, refused, permit).await });
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_owned().await.expect("these semaphores are never closed")
}

async fn next_pod(shared: &Shared) -> Arc<PodInfo> {
    loop {
        let woken = shared.wake.notified();
        let due = {
            let mut state = shared.state.lock();
            if let Some(pod) = state.queue.pop(clock::now()) {
                return pod;
            }
            state.queue.next_due()
        };
        match due {
            Some(due) => tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(due) => {}
            },
            None => woken.await,
        }
    }
}

/// Decides and takes the decision into the picture, all under one lock.
fn decide(shared: &Shared, pod: &Arc<PodInfo>) -> Result<String, Unschedulable> {
    let mut state = shared.state.lock();
    let state = &mut *state;
    match schedule(pod, &mut state.cluster, &mut rng::below) {
        Ok(node) => {
            state.cluster.assume(pod.clone(), &node);
            Ok(node)
        }
        Err(refused) => {
            state.queue.refused(&pod.uid, refused.plugins, clock::now());
            Err(refused)
        }
    }
}

// === impl Term ===

impl Term {
    /// The API object of `pod`, if it is still that one.
    fn object(&self, pod: &PodInfo) -> Option<Arc<Pod>> {
        let object = self.pods.get(&pod.key)?;
        (object.metadata.uid.as_deref() == Some(pod.uid.as_str())).then_some(object)
    }

    async fn bind(&self, pod: &Arc<PodInfo>, node: &str, _permit: OwnedSemaphorePermit) {
        match self.try_bind(pod, node).await {
            Ok(()) => {
                self.shared.state.lock().queue.remove(&pod.uid);
                if let Some(object) = self.object(pod) {
                    let message = format!("Successfully assigned {} to {node}", pod.key);
                    self.events.note(&*object, EventType::Normal, "Scheduled", "Binding", message);
                }
            }
            Err(error) => {
                let error = message_of(&error);
                tracing::warn!(pod = %pod.key, node, error, "could not bind");
                let mut state = self.shared.state.lock();
                state.cluster.forget(&pod.uid);
                state.queue.failed(&pod.uid, clock::now());
                state.queue.notice(Event::PodRemoved, clock::now());
                drop(state);
                self.shared.wake.notify_one();
                if let Some(object) = self.object(pod) {
                    let message = format!("binding rejected: {error}");
                    let reason = "FailedScheduling";
                    self.events.note(&*object, EventType::Warning, reason, "Scheduling", message);
                }
            }
        }
    }

    async fn try_bind(&self, pod: &PodInfo, node: &str) -> kube::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.key.namespace);
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.key.name.clone()),
                namespace: Some(pod.key.namespace.clone()),
                uid: Some(pod.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let params = PostParams::default();
        let _: serde_json::Value =
            api.create_subresource("binding", &pod.key.name, &params, &binding).await?;
        Ok(())
    }

    async fn refuse(&self, pod: &PodInfo, refused: Unschedulable, _permit: OwnedSemaphorePermit) {
        let Some(object) = self.object(pod) else { return };
        tracing::debug!(pod = %pod.key, message = refused.message, "no node for the pod");
        let reason = "FailedScheduling";
        let message = refused.message.clone();
        self.events.note(&*object, EventType::Warning, reason, "Scheduling", message);
        if says_so_already(&object, &refused.message) {
            return;
        }
        let condition = json!({"status": {"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": refused.message,
            "lastProbeTime": null,
            "lastTransitionTime": transition_time(&object),
            "observedGeneration": object.metadata.generation,
        }]}});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.key.namespace);
        let params = PatchParams::default();
        let written = api.patch_status(&pod.key.name, &params, &Patch::Strategic(condition)).await;
        if let Err(error) = written {
            tracing::debug!(pod = %pod.key, %error, "could not write why the pod waits");
        }
    }
}

fn scheduled_condition(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "PodScheduled")
}

fn says_so_already(pod: &Pod, message: &str) -> bool {
    scheduled_condition(pod).is_some_and(|condition| {
        condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
            && condition.message.as_deref() == Some(message)
    })
}

/// The time the condition turned false: kept while it stays so.
fn transition_time(pod: &Pod) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    scheduled_condition(pod)
        .filter(|condition| condition.status == "False")
        .and_then(|condition| condition.last_transition_time.clone())
        .unwrap_or_else(now_time)
}

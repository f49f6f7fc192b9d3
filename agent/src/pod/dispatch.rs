//! Hands each change of a pod to its worker, and finds what belongs to no pod any more.
//!
//! Owns: the workers' tasks, the relist, admission to the node. Must not know: what a worker does.
//! A newcomer's trap: a pod that only the runtime knows gets a worker, too, and that worker's only
//! task is to remove it; but not before the API's full list has been seen once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kijabi_base::tasks::Shutdown;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::admit::{self, Amount};
use super::worker::{Update, Worker};
use super::{Shared, status};
use crate::api::PodChange;
use crate::events::Kind;
use crate::limits::RELIST_EVERY;
use crate::runtime::PodRecord;

/// Relists between two looks for folders of pods that are no more.
const FOLDER_CHECK_RELISTS: u32 = 60;

struct Handle {
    updates: watch::Sender<Update>,
    poke: Arc<Notify>,
    task: JoinHandle<()>,
    /// Whether the node had room for it.
    admitted: bool,
}

/// Runs the pods of a node until `shutdown`.
pub async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut dispatch = Dispatch {
        changes_seen: false,
        seen: BTreeMap::new(),
        workers: BTreeMap::new(),
        shutdown: shutdown.clone(),
        relists: 0,
        shared,
    };
    let mut changes = dispatch.shared.source.pods(&dispatch.shared.node.name);
    let mut relist = tokio::time::interval(RELIST_EVERY);
    relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            change = changes.next() => match change {
                Some(change) => dispatch.change(change),
                None => return,
            },
            _ = relist.tick() => dispatch.relist().await,
        }
    }
}

struct Dispatch {
    shared: Arc<Shared>,
    shutdown: Shutdown,
    workers: BTreeMap<String, Handle>,
    /// What the runtime had at the last look.
    seen: BTreeMap<String, PodRecord>,
    /// Whether the API's full list has come.
    changes_seen: bool,
    relists: u32,
}

impl Dispatch {
    fn change(&mut self, change: PodChange) {
        match change {
            PodChange::Applied(pod) => self.apply(*pod),
            PodChange::Deleted(pod) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                self.gone(&uid, Some(*pod));
            }
            PodChange::Listed(mut pods) => {
                self.changes_seen = true;
                // Pods that run already keep their place; then the older ones come first.
                pods.sort_by_key(|pod| {
                    let started = pod.status.as_ref().is_some_and(|it| it.start_time.is_some());
                    let created = pod.metadata.creation_timestamp.as_ref().map(|it| it.0);
                    (!started, created, pod.metadata.uid.clone())
                });
                let uids: BTreeSet<String> =
                    pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
                let gone: Vec<String> =
                    self.workers.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
                for pod in pods {
                    self.apply(pod);
                }
                for uid in &gone {
                    self.gone(uid, None);
                }
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if let Some(handle) = self.workers.get(&uid).filter(|it| !it.task.is_finished()) {
            handle.updates.send_replace(Update { pod: Arc::new(pod), gone: false });
            return;
        }
        let ended = pod.status.as_ref().and_then(|it| it.phase.as_deref());
        let ended = matches!(ended, Some("Succeeded" | "Failed"));
        if !ended
            && pod.metadata.deletion_timestamp.is_none()
            && let Some((reason, message)) = self.refusal(&pod)
        {
            self.refuse(pod, reason, message);
            return;
        }
        self.start(uid, Update { pod: Arc::new(pod), gone: false }, !ended);
    }

    fn gone(&mut self, uid: &str, pod: Option<Pod>) {
        let Some(handle) = self.workers.get(uid) else { return };
        handle.updates.send_modify(|update| {
            update.gone = true;
            // The last state tells the grace period; a cut-down one must not replace it.
            if let Some(pod) = pod.filter(|pod| pod.spec.is_some()) {
                update.pod = Arc::new(pod);
            }
        });
    }

    fn start(&mut self, uid: String, update: Update, admitted: bool) {
        let (updates, receiver) = watch::channel(update);
        let poke = Arc::new(Notify::new());
        let worker = Worker::new(self.shared.clone(), uid.clone(), receiver, poke.clone());
        let task = kijabi_base::tasks::spawn_until("pod", self.shutdown.clone(), worker.run());
        self.workers.insert(uid, Handle { updates, poke, task, admitted });
    }

    /// Why the node does not take a pod.
    fn refusal(&self, pod: &Pod) -> Option<(&'static str, String)> {
        let mut used = Amount::default();
        for handle in self.workers.values().filter(|it| it.admitted && !it.task.is_finished()) {
            let update = handle.updates.borrow();
            let phase = update.pod.status.as_ref().and_then(|it| it.phase.as_deref());
            if !matches!(phase, Some("Succeeded" | "Failed")) {
                used = used + Amount::of(&update.pod);
            }
        }
        let node = &self.shared.node;
        let (cpu, memory) = node.allocatable;
        admit::refusal(pod, used, Amount { pods: i64::from(node.pods_max), cpu, memory })
    }

    fn refuse(&self, pod: Pod, reason: &'static str, message: String) {
        let shared = self.shared.clone();
        shared.events.pod(&pod, Kind::Warning, reason, message.clone());
        let refused = async move {
            let status = status::rejected(&pod, reason, &message, crate::time::now());
            let meta = &pod.metadata;
            let (ns, name) =
                (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
            let patch = serde_json::json!({"metadata": {"uid": meta.uid}, "status": status});
            if let Err(error) = shared.source.patch_pod_status(&ns, &name, &patch).await {
                tracing::warn!(%error, ns, name, "a pod could not be refused");
            }
        };
        kijabi_base::tasks::spawn_until("refuse-pod", self.shutdown.clone(), refused);
    }

    /// Looks at what the runtime has, wakes the workers of what changed, finds orphans.
    async fn relist(&mut self) {
        let listed = match self.shared.runtime.list().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "the runtime's pods could not be listed");
                return;
            }
        };
        self.workers.retain(|_, handle| !handle.task.is_finished());
        for (uid, handle) in &self.workers {
            if self.seen.get(uid) != listed.get(uid) {
                handle.poke.notify_one();
            }
        }
        if self.changes_seen {
            for (uid, record) in &listed {
                if !self.workers.contains_key(uid) {
                    tracing::info!(%uid, name = record.name, "removing a pod the API does not know");
                    self.start(uid.clone(), orphan(uid, record), false);
                }
            }
            if self.relists.is_multiple_of(FOLDER_CHECK_RELISTS) {
                self.remove_folders(&listed).await;
            }
            self.relists = self.relists.wrapping_add(1);
        }
        self.seen = listed;
    }

    /// Removes folders of pods that neither the API nor the runtime knows.
    async fn remove_folders(&self, listed: &BTreeMap<String, PodRecord>) {
        let Some(volumes) = &self.shared.volumes else { return };
        for uid in volumes.uids() {
            if !self.workers.contains_key(&uid)
                && !listed.contains_key(&uid)
                && let Err(error) = volumes.tear_down(&uid).await
            {
                tracing::warn!(%uid, %error, "an old pod's folder could not be removed");
            }
        }
    }
}

/// What is known of a pod that only the runtime has.
fn orphan(uid: &str, record: &PodRecord) -> Update {
    let metadata = ObjectMeta {
        name: Some(record.name.clone()),
        namespace: Some(record.namespace.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectMeta::default()
    };
    Update { pod: Arc::new(Pod { metadata, ..Pod::default() }), gone: true }
}

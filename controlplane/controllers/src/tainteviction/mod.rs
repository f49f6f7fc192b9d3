//! Evicts pods from nodes with NoExecute taints they do not tolerate, or not for ever.
//!
//! Owns: when which pod goes. Must not know: who taints nodes. A newcomer's trap: the time a pod may
//! stay runs from when the taint was put on the node, not from when this controller started.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::jiff::Timestamp;
use kijabi_client::events::{EventType, Recorder};
use kijabi_client::time::{now, now_time};
use kijabi_client::{Cache, Key, WorkQueue};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::Fate;
use crate::pods::{is_active, node_of};
use crate::worker::{Error, Reconcile, ignore_not_found};
use crate::{Context, limits, worker};

struct TaintEviction {
    client: Client,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    /// When each pod was first seen under a taint without a time.
    first_seen: Mutex<BTreeMap<Key, Timestamp>>,
    events: Recorder,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let caches = &context.caches;
    let to = queue.clone();
    let pods = caches.pods.clone();
    caches.nodes.subscribe(move |change| {
        let taints = |node: &Option<Arc<Node>>| node.as_ref().map(|node| no_execute(node));
        let (before, after) = (taints(&change.old), taints(&change.new));
        if before.unwrap_or_default() != after.unwrap_or_default() {
            let name = Key::of(change.latest().as_ref()).name;
            for pod in pods.indexed("node", &name) {
                to.add(Key::of(pod.as_ref()));
            }
        }
    });
    let to = queue.clone();
    let nodes = caches.nodes.clone();
    caches.pods.subscribe(move |change| {
        let node = nodes.get(&Key::new("", node_of(change.latest())));
        if change.new.is_none() || node.is_some_and(|node| !no_execute(&node).is_empty()) {
            to.add(Key::of(change.latest().as_ref()));
        }
    });
    let controller = Arc::new(TaintEviction {
        client: context.client.clone(),
        pods: caches.pods.clone(),
        nodes: caches.nodes.clone(),
        first_seen: Mutex::default(),
        events: context.recorder("taint-eviction-controller"),
    });
    worker::spawn(context, controller, queue, limits::WORKERS);
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    taints.into_iter().filter(|taint| taint.effect == "NoExecute").collect()
}

impl Reconcile for TaintEviction {
    type Key = Key;
    const NAME: &'static str = "taint-eviction-controller";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let pod = self.pods.get(key).filter(|pod| is_active(pod) && !node_of(pod).is_empty());
        let node = pod.as_ref().and_then(|pod| self.nodes.get(&Key::new("", node_of(pod))));
        let (Some(pod), Some(node)) = (pod, node) else {
            self.first_seen.lock().remove(key);
            return Ok(None);
        };
        let taints = no_execute(&node);
        if taints.is_empty() {
            self.first_seen.lock().remove(key);
            return Ok(None);
        }
        let seen = *self.first_seen.lock().entry(key.clone()).or_insert_with(now);
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
        match plan::plan(&tolerations.unwrap_or_default(), &taints, seen, now()) {
            Fate::Stays => Ok(None),
            Fate::StaysFor(wait) => Ok(Some(wait)),
            Fate::Goes => {
                self.evict(key, &pod).await?;
                Ok(None)
            }
        }
    }
}

impl TaintEviction {
    async fn evict(&self, key: &Key, pod: &Pod) -> Result<(), Error> {
        let message = format!("Marking for deletion Pod {key}");
        self.events.note(pod, EventType::Normal, "TaintManagerEviction", "", message);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let status = json!({"status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": now_time()}]}});
        let params = PatchParams::default();
        ignore_not_found(api.patch_status(&key.name, &params, &Patch::Strategic(status)).await)?;
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        ignore_not_found(
            api.delete(&key.name, &DeleteParams::default().preconditions(same)).await,
        )?;
        Ok(())
    }
}

//! Notices nodes that no longer report, says so in their conditions and taints, and in their pods.
//!
//! Owns: when each node was last heard of. Must not know: evicting pods, which follows from the taints.
//! A newcomer's trap: "heard of" is measured by our clock, from when a Lease or a condition changed;
//! after a restart every node starts with a full grace period.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kijabi_client::events::{EventType, Note, Recorder, reference_to};
use kijabi_client::time::now;
use kijabi_client::{Cache, Key, WorkQueue};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::{Heard, Step};
use crate::worker::{Error, Reconcile, ignore_not_found};
use crate::{Context, limits, worker};

/// How often each node is looked at (`--node-monitor-period`).
const PERIOD: Duration = Duration::from_secs(5);

struct NodeLifecycle {
    client: Client,
    nodes: Arc<Cache<Node>>,
    leases: Arc<Cache<Lease>>,
    pods: Arc<Cache<Pod>>,
    heard: Mutex<BTreeMap<String, Heard>>,
    /// How many nodes say they are ready.
    ready_nodes: Arc<AtomicI64>,
    events: Recorder,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let caches = &context.caches;
    let ready_nodes = Arc::new(AtomicI64::new(0));
    let to = queue.clone();
    let counter = ready_nodes.clone();
    caches.nodes.subscribe(move |change| {
        let is_ready = |node: &Option<Arc<Node>>| node.as_deref().is_some_and(plan::is_ready);
        let difference = i64::from(is_ready(&change.new)) - i64::from(is_ready(&change.old));
        counter.fetch_add(difference, Ordering::Relaxed);
        to.add(Key::of(change.latest().as_ref()));
    });
    let controller = Arc::new(NodeLifecycle {
        client: context.client.clone(),
        nodes: caches.nodes.clone(),
        leases: caches.leases.clone(),
        pods: caches.pods.clone(),
        heard: Mutex::default(),
        ready_nodes,
        events: context.recorder("node-controller"),
    });
    worker::spawn(context, controller, queue, limits::WORKERS);
}

impl Reconcile for NodeLifecycle {
    type Key = Key;
    const NAME: &'static str = "node-lifecycle-controller";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(node) = self.nodes.get(key) else {
            if self.heard.lock().remove(&key.name).is_some() {
                self.note(&key.name, None, "RemovingNode", "Removing Node {} from Controller");
            }
            return Ok(None);
        };
        let silent_since = self.listen(&node, now());
        let all_are_silent = self.ready_nodes.load(Ordering::Relaxed) == 0;
        for step in plan::plan(&node, silent_since, all_are_silent, now()) {
            self.carry_out(step, &node).await?;
        }
        Ok(Some(PERIOD))
    }
}

impl NodeLifecycle {
    /// Takes note of what the node says now; since when it has said nothing new.
    fn listen(&self, node: &Node, now: Timestamp) -> Timestamp {
        let name = node.metadata.name.clone().unwrap_or_default();
        let lease = self.leases.get(&Key::new("kube-node-lease", name.clone()));
        let mut heard = self.heard.lock();
        let known = heard.get(&name);
        if known.is_none() {
            self.note(&name, Some(node), "RegisteredNode", "Registered Node {} in Controller");
        }
        let updated = plan::listen(known, node, lease.as_deref(), now);
        let at = updated.at;
        heard.insert(name, updated);
        at
    }

    /// An event about the node, by name, as users see it.
    fn note(&self, name: &str, node: Option<&Node>, reason: &'static str, what: &str) {
        let by_name = || ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        let mut about = node.map_or_else(by_name, reference_to);
        // Nodes' events carry no namespace and are found by the name.
        about.namespace = None;
        let what = what.replace("{}", name);
        let message = format!("Node {name} event: {what}");
        self.events.send(Note { about, kind: EventType::Normal, reason, action: "", message });
    }

    async fn carry_out(&self, step: Step, node: &Node) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Node> = Api::all(self.client.clone());
        match step {
            Step::WriteConditions(conditions) => {
                let mut changed = node.clone();
                changed.status.get_or_insert_default().conditions = Some(conditions);
                let params = PostParams::default();
                ignore_not_found(api.replace_status(name, &params, &changed).await)?;
            }
            Step::NoteNotReady => {
                let message = format!("Node {name} status is now: NodeNotReady");
                self.events.note(node, EventType::Normal, "NodeNotReady", "", message);
            }
            Step::MarkPodsNotReady => {
                for pod in self.pods.indexed("node", name) {
                    self.mark_not_ready(&pod).await?;
                }
            }
            Step::WriteTaints(taints) => {
                // The whole list, with the version it was read at: taints others set are not lost.
                let version = node.metadata.resource_version.clone();
                let patch =
                    json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
                api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            }
        }
        Ok(())
    }

    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        if !crate::pods::is_ready(pod) {
            return Ok(());
        }
        let key = Key::of(pod);
        let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "False",
            "lastTransitionTime": kijabi_client::time::now_time()}]}});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let params = PatchParams::default();
        ignore_not_found(api.patch_status(&key.name, &params, &Patch::Strategic(patch)).await)?;
        let message = "Node is not ready".to_owned();
        self.events.note(pod, EventType::Warning, "NodeNotReady", "", message);
        Ok(())
    }
}

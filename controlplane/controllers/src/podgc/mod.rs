//! Removes pods nobody else will: on nodes that are gone, never placed but deleted, or long over.
//!
//! Owns: looking at all pods from time to time. Must not know: why nodes go. A newcomer's trap: a node
//! may be missing from the cache only for a moment; its pods are touched only after a while.

mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kijabi_client::time::{now, now_time};
use kijabi_client::{Cache, Key, WorkQueue};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::{Doomed, Why};
use crate::worker::{Error, Reconcile, ignore_not_found};
use crate::{Context, worker};

/// How often all pods are looked at.
const PERIOD: Duration = Duration::from_secs(20);

/// There is one piece of work: the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Everything;

impl fmt::Display for Everything {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all pods")
    }
}

struct PodGc {
    client: Client,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    missing_since: Mutex<BTreeMap<String, Timestamp>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::new());
    queue.add(Everything);
    let controller = Arc::new(PodGc {
        client: context.client.clone(),
        pods: context.caches.pods.clone(),
        nodes: context.caches.nodes.clone(),
        missing_since: Mutex::default(),
    });
    worker::spawn(context, controller, queue, 1);
}

impl Reconcile for PodGc {
    type Key = Everything;
    const NAME: &'static str = "pod-garbage-collector";

    async fn reconcile(&self, _: &Everything) -> Result<Option<Duration>, Error> {
        let pods = self.pods.all();
        let doomed = {
            let mut missing_since = self.missing_since.lock();
            let is_there = |name: &str| self.nodes.get(&Key::new("", name)).is_some();
            plan::note_missing(&mut missing_since, &pods, is_there, now());
            plan::plan(&pods, &missing_since, now())
        };
        for one in doomed {
            // The cache may be wrong about a node; the API is not.
            if one.why == Why::NodeGone {
                let nodes: Api<Node> = Api::all(self.client.clone());
                if nodes.get_opt(crate::pods::node_of(&one.pod)).await?.is_some() {
                    continue;
                }
            }
            self.remove(&one).await?;
        }
        Ok(Some(PERIOD))
    }
}

impl PodGc {
    async fn remove(&self, doomed: &Doomed) -> Result<(), Error> {
        let key = Key::of(doomed.pod.as_ref());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        if doomed.why == Why::NodeGone && !crate::pods::is_over(&doomed.pod) {
            let status = json!({"status": {"phase": "Failed", "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": now_time()}]}});
            let params = PatchParams::default();
            ignore_not_found(
                api.patch_status(&key.name, &params, &Patch::Strategic(status)).await,
            )?;
        }
        let same = Preconditions { uid: doomed.pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(same);
        ignore_not_found(api.delete(&key.name, &params).await)?;
        tracing::info!(pod = %key, why = ?doomed.why, "removed a pod nobody else would");
        Ok(())
    }
}

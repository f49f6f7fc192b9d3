//! Gives each node its range of pod addresses, a /24 of the cluster's.
//!
//! Owns: handing out ranges. Must not know: pod networks. A newcomer's trap: what was handed out but is
//! not yet in the cache is remembered here, or two nodes could get the same range.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kijabi_client::events::{EventType, Recorder};
use kijabi_client::{Cache, Key, WorkQueue};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

pub(crate) use self::plan::Range;
use crate::worker::{Error, Reconcile, ignore_not_found};
use crate::{Context, worker};

struct NodeIpam {
    client: Client,
    range: Range,
    nodes: Arc<Cache<Node>>,
    handed_out: Mutex<BTreeMap<String, String>>,
    events: Recorder,
}

/// Starts the controller.
pub(crate) fn start(context: &Context, range: Range) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let caches = &context.caches;
    let to = queue.clone();
    caches.nodes.subscribe(move |change| to.add(Key::of(change.latest().as_ref())));
    let controller = Arc::new(NodeIpam {
        client: context.client.clone(),
        range,
        nodes: caches.nodes.clone(),
        handed_out: Mutex::default(),
        events: context.recorder("cidrAllocator"),
    });
    // One worker: ranges are handed out one at a time.
    worker::spawn(context, controller, queue, 1);
}

fn range_of(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|range| !range.is_empty())
}

impl Reconcile for NodeIpam {
    type Key = Key;
    const NAME: &'static str = "node-ipam";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(node) = self.nodes.get(key) else {
            self.handed_out.lock().remove(&key.name);
            return Ok(None);
        };
        if range_of(&node).is_some() {
            self.handed_out.lock().remove(&key.name);
            return Ok(None);
        }
        let range = {
            let mut handed_out = self.handed_out.lock();
            let nodes = self.nodes.all();
            let taken = nodes.iter().filter_map(|node| range_of(node));
            let taken = taken.chain(handed_out.values().map(String::as_str));
            let range = match handed_out.get(&key.name) {
                Some(range) => Some(range.clone()),
                None => self.range.next_free(taken),
            };
            range.inspect(|range| {
                handed_out.insert(key.name.clone(), range.clone());
            })
        };
        let Some(range) = range else {
            let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
            self.events.note(&*node, EventType::Normal, "CIDRNotAvailable", "", message);
            return Err(Error::NotYet("no pod address range is left".to_owned()));
        };
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Strategic(json!({"spec": {"podCIDR": range, "podCIDRs": [range]}}));
        ignore_not_found(api.patch(&key.name, &PatchParams::default(), &patch).await)?;
        Ok(None)
    }
}

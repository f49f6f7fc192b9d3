//! Watches all kinds there are, as they come and go, and feeds the graph.
//!
//! Owns: one watch a kind, of metadata only. Must not know: what is decided. A newcomer's trap: after a
//! relist, objects of the kind that were not listed are gone, and must be taken out of the graph.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use kijabi_base::tasks::{self, Shutdown};
use kube::Api;
use kube::api::{DynamicObject, ObjectMeta, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;

use super::Shared;
use super::graph::{Identity, Work};
use super::kinds::{Kind, Kinds};

/// How often the kinds are looked at anew.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// The same until the first look succeeded.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);

/// The wait after a watch failed.
const WATCH_RETRY: Duration = Duration::from_secs(1);

struct Watch {
    stop: Shutdown,
    listed: watch::Receiver<bool>,
}

/// Starts watching; ends with `term`.
pub(super) fn start(shared: Arc<Shared>, term: Shutdown) {
    let watches = follow_kinds(shared, term.clone());
    tasks::spawn_until("gc-discovery", term, watches);
}

async fn follow_kinds(shared: Arc<Shared>, term: Shutdown) {
    let mut watches: BTreeMap<String, Watch> = BTreeMap::new();
    loop {
        let wait = match Kinds::discover(&shared.client).await {
            Ok(kinds) => {
                adjust(&shared, &term, &kinds, &mut watches);
                *shared.kinds.write() = kinds;
                complete(&shared, &mut watches).await;
                DISCOVERY_PERIOD
            }
            Err(error) => {
                tracing::debug!(%error, "the kinds could not be discovered");
                if watches.is_empty() { DISCOVERY_RETRY } else { DISCOVERY_PERIOD }
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Starts watches of kinds that came and ends those of kinds that went.
fn adjust(
    shared: &Arc<Shared>,
    term: &Shutdown,
    kinds: &Kinds,
    watches: &mut BTreeMap<String, Watch>,
) {
    let id = |kind: &Kind| format!("{}/{}", kind.resource.api_version, kind.resource.plural);
    let served: BTreeSet<String> = kinds.collectable().map(id).collect();
    watches.retain(|id, watch| {
        let stays = served.contains(id);
        if !stays {
            watch.stop.trigger();
        }
        stays
    });
    for kind in kinds.collectable() {
        watches.entry(id(kind)).or_insert_with(|| {
            let (listed, receiver) = watch::channel(false);
            let stop = term.child();
            let task = follow(shared.clone(), kind.clone(), listed);
            tasks::spawn_until("gc-watch", stop.clone(), task);
            Watch { stop, listed: receiver }
        });
    }
}

/// Once all kinds have listed for the first time, an owner not in the graph is worth a look.
async fn complete(shared: &Shared, watches: &mut BTreeMap<String, Watch>) {
    if shared.graph.lock().is_complete {
        return;
    }
    for watch in watches.values_mut() {
        // An error means that the watch ended, with the term.
        let _ = watch.listed.wait_for(|listed| *listed).await;
    }
    let work = shared.graph.lock().complete();
    shared.add(work);
}

impl Shared {
    pub(super) fn add(&self, work: Vec<Work>) {
        for one in work {
            self.queue.add(one);
        }
    }

    fn upsert(&self, kind: &Kind, meta: &ObjectMeta) -> Option<String> {
        let uid = meta.uid.clone()?;
        let identity = Identity {
            api_version: kind.resource.api_version.clone(),
            kind: kind.resource.kind.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone()?,
            uid: uid.clone(),
        };
        let work = self.graph.lock().upsert(identity, meta);
        self.add(work);
        Some(uid)
    }

    pub(super) fn remove(&self, uid: &str) {
        let work = self.graph.lock().remove(uid);
        self.add(work);
    }
}

async fn follow(shared: Arc<Shared>, kind: Kind, listed: watch::Sender<bool>) {
    let api: Api<PartialObjectMeta<DynamicObject>> =
        Api::all_with(shared.client.clone(), &kind.resource);
    let config = watcher::Config::default().page_size(kijabi_client::limits::LIST_PAGE_OBJECTS);
    let events = watcher::watcher(api, config);
    pin_mut!(events);
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => seen.clear(),
            Ok(Event::InitApply(object)) => seen.extend(shared.upsert(&kind, &meta_of(object))),
            Ok(Event::InitDone) => {
                for uid in known.difference(&seen) {
                    shared.remove(uid);
                }
                known = std::mem::take(&mut seen);
                listed.send_replace(true);
            }
            Ok(Event::Apply(object)) => known.extend(shared.upsert(&kind, &meta_of(object))),
            Ok(Event::Delete(object)) => {
                let uid = object.metadata.uid.unwrap_or_default();
                known.remove(&uid);
                shared.remove(&uid);
            }
            Err(error) => {
                tracing::debug!(kind = kind.resource.kind, %error, "watch failed, trying again");
                tokio::time::sleep(WATCH_RETRY).await;
            }
        }
    }
}

fn meta_of(object: PartialObjectMeta<DynamicObject>) -> ObjectMeta {
    object.metadata
}

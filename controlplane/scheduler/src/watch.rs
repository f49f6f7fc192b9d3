//! Keeps the picture and the queue in step with what the API's watches tell.
//!
//! Owns: translating changes of API objects. Must not know: how pods are placed. A newcomer's trap: a
//! pod without a node that the picture holds is one we assumed; the watch has not caught up with us.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kijabi_base::clock;
use kijabi_base::tasks::Shutdown;
use kijabi_client::cache::spawn_watch;
use kijabi_client::{Cache, Change, Key};
use kube::core::Selector;
use kube::runtime::watcher;
use kube::{Api, Client};

use crate::pod::PodInfo;
use crate::queue::Event;
use crate::run::{SCHEDULER_NAME, Shared};

/// Starts all watches and waits until each has listed once. The pods' cache is for events.
pub(crate) async fn start(
    client: &Client,
    shared: &Arc<Shared>,
    term: &Shutdown,
) -> Arc<Cache<Pod>> {
    let nodes = Cache::<Node>::new(&[]);
    let pods = Cache::<Pod>::new(&[]);
    let services = Cache::<Service>::new(&[]);
    let replica_sets = Cache::<ReplicaSet>::new(&[]);
    let namespaces = Cache::<Namespace>::new(&[]);
    let to = shared.clone();
    nodes.subscribe(move |change| on_node(&to, change));
    let to = shared.clone();
    pods.subscribe(move |change| on_pod(&to, change));
    let to = shared.clone();
    services.subscribe(move |change| on_service(&to, change));
    let to = shared.clone();
    replica_sets.subscribe(move |change| on_replica_set(&to, change));
    let to = shared.clone();
    namespaces.subscribe(move |change| on_namespace(&to, change));

    macro_rules! follow {
        ($name:literal, $cache:ident) => {
            spawn_watch(
                $name,
                Api::all(client.clone()),
                watcher::Config::default(),
                $cache.clone(),
                term.clone(),
            )
        };
    }
    follow!("scheduler-nodes", nodes);
    follow!("scheduler-services", services);
    follow!("scheduler-replicasets", replica_sets);
    follow!("scheduler-namespaces", namespaces);
    follow!("scheduler-pods", pods);
    tokio::select! {
        () = term.wait() => {}
        _ = async {
            tokio::join!(
                nodes.wait_synced(),
                services.wait_synced(),
                replica_sets.wait_synced(),
                namespaces.wait_synced(),
                pods.wait_synced(),
            )
        } => {}
    }
    pods
}

fn on_node(shared: &Shared, change: &Change<Node>) {
    let mut state = shared.state.lock();
    match &change.new {
        Some(node) => {
            if state.cluster.upsert_node(node) {
                state.queue.notice(Event::NodeChanged, clock::now());
            }
        }
        None => state.cluster.remove_node(&Key::of(change.latest().as_ref()).name),
    }
    drop(state);
    shared.wake.notify_one();
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_ours(pod: &Pod) -> bool {
    let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    name.is_none_or(|name| name == SCHEDULER_NAME)
}

/// Whether a change of a pod without a node may matter to where it fits.
fn matters(change: &Change<Pod>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            old.spec != new.spec || old.metadata.labels != new.metadata.labels
        }
        _ => true,
    }
}

/// Whether a placed pod only reported on itself, which most changes are: nothing to do.
fn is_only_a_report(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return false };
    let is_placed = new.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    is_placed
        && !matters(change)
        && old.metadata.deletion_timestamp.is_some() == new.metadata.deletion_timestamp.is_some()
        && is_over(old) == is_over(new)
}

fn on_pod(shared: &Shared, change: &Change<Pod>) {
    if is_only_a_report(change) {
        return;
    }
    let now = clock::now();
    let pod = change.latest();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let gone = change.new.is_none() || is_over(pod);
    let info = PodInfo::compile(pod);
    let mut state = shared.state.lock();
    let state = &mut *state;
    if gone {
        state.queue.remove(uid);
        if state.cluster.remove(uid) {
            state.queue.notice(Event::PodRemoved, now);
        }
    } else if let Some(node) = info.node_name.clone() {
        let labels_changed = matters(change);
        state.queue.remove(uid);
        state.cluster.place(info, &node);
        if labels_changed {
            state.queue.notice(Event::PodPlaced, now);
        }
    } else if info.terminating {
        state.queue.remove(uid);
    } else if is_ours(pod) && !state.cluster.holds(uid) {
        state.queue.upsert(info, matters(change));
    }
    shared.wake.notify_one();
}

fn on_service(shared: &Shared, change: &Change<Service>) {
    let key = Key::of(change.latest().as_ref());
    let spec = change.new.as_ref().and_then(|service| service.spec.as_ref());
    let selector = spec.and_then(|spec| spec.selector.clone()).filter(|labels| !labels.is_empty());
    let mut state = shared.state.lock();
    match selector {
        Some(selector) => state.cluster.services.insert(key, selector),
        None => state.cluster.services.remove(&key),
    }
}

fn on_replica_set(shared: &Shared, change: &Change<ReplicaSet>) {
    let key = Key::of(change.latest().as_ref());
    let spec = change.new.as_ref().and_then(|set| set.spec.as_ref());
    let selector = spec.and_then(|spec| Selector::try_from(spec.selector.clone()).ok());
    let mut state = shared.state.lock();
    match selector {
        Some(selector) => state.cluster.owners.insert("ReplicaSet", key, selector),
        None => state.cluster.owners.remove("ReplicaSet", &key),
    }
}

fn on_namespace(shared: &Shared, change: &Change<Namespace>) {
    let name = Key::of(change.latest().as_ref()).name;
    let mut state = shared.state.lock();
    let state = &mut *state;
    match &change.new {
        Some(namespace) => {
            let labels = namespace.metadata.labels.clone().unwrap_or_default();
            let old = state.cluster.namespaces.insert(name, labels.clone());
            if old.as_ref() != Some(&labels) {
                state.queue.notice(Event::NamespaceChanged, clock::now());
            }
        }
        None => {
            state.cluster.namespaces.remove(&name);
        }
    }
    shared.wake.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(version: u32, extra: Value) -> Arc<Pod> {
        let get = |key: &str| extra.get(key).cloned();
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"namespace": "default", "name": "p", "uid": "u",
                    "resourceVersion": version.to_string(), "deletionTimestamp": get("deleted"),
                    "labels": get("labels")},
                "spec": {"containers": [], "nodeName": get("node"), "schedulerName": get("scheduler")},
                "status": {"phase": get("phase")},
            }))
            .unwrap(),
        )
    }

    /// Tells the pod's story version by version; after each, where it is: queued, placed or neither.
    fn told(versions: &[Value]) -> Vec<&'static str> {
        let shared = Shared::default();
        let mut old = None;
        let mut places = Vec::new();
        for (number, version) in versions.iter().enumerate() {
            let new = (!version.is_null()).then(|| pod(number as u32, version.clone()));
            on_pod(&shared, &Change { old: old.take(), new: new.clone() });
            old = new;
            let state = shared.state.lock();
            places.push(match (state.queue.lengths().0, state.cluster.holds("u")) {
                (0, false) => "nowhere",
                (_, false) => "queued",
                (0, true) => "placed",
                (_, true) => "both",
            });
        }
        places
    }

    #[test]
    fn where_a_pod_is_in_each_part_of_its_life() {
        let deleted = "2026-01-01T00:00:00Z";
        let on = |phase: &str| json!({"node": "n", "phase": phase});
        for (versions, places) in [
            (
                vec![json!({}), on("Pending"), on("Running"), on("Succeeded")],
                vec!["queued", "placed", "placed", "nowhere"],
            ),
            (vec![json!({}), Value::Null], vec!["queued", "nowhere"]),
            (vec![on("Running"), Value::Null], vec!["placed", "nowhere"]),
            (vec![json!({}), json!({"deleted": deleted})], vec!["queued", "nowhere"]),
            (vec![json!({"scheduler": "other"})], vec!["nowhere"]),
            (vec![json!({"scheduler": "default-scheduler"})], vec!["queued"]),
        ] {
            assert_eq!(told(&versions), places, "{versions:?}");
        }
    }

    #[test]
    fn a_pod_we_assumed_is_not_queued_again_by_a_watch_that_lags() {
        let shared = Shared::default();
        let first = pod(1, json!({}));
        on_pod(&shared, &Change { old: None, new: Some(first.clone()) });
        let mut state = shared.state.lock();
        let taken = state.queue.pop(clock::now()).unwrap();
        state.cluster.assume(taken, "n");
        state.queue.remove("u");
        drop(state);
        on_pod(
            &shared,
            &Change { old: Some(first), new: Some(pod(2, json!({"labels": {"a": "b"}}))) },
        );
        let state = shared.state.lock();
        assert_eq!((state.queue.lengths(), state.cluster.holds("u")), ((0, 0, 0), true));
    }

    #[test]
    fn the_selectors_of_services_and_owners_are_followed() {
        let shared = Shared::default();
        let service = |selector: Value| -> Option<Arc<Service>> {
            serde_json::from_value(json!({"metadata": {"namespace": "a", "name": "s"},
                "spec": {"selector": selector}}))
            .ok()
        };
        let count = || shared.state.lock().cluster.services.in_namespace("a").count();
        on_service(&shared, &Change { old: None, new: service(json!({"app": "web"})) });
        assert_eq!(count(), 1);
        on_service(&shared, &Change { old: None, new: service(json!(null)) });
        assert_eq!(count(), 0, "a Service without a selector groups nothing");
        let set: Arc<ReplicaSet> = serde_json::from_value(json!({
            "metadata": {"namespace": "a", "name": "r"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}}}))
        .unwrap();
        on_replica_set(&shared, &Change { old: None, new: Some(set.clone()) });
        assert!(shared.state.lock().cluster.owners.get("ReplicaSet", "a", "r").is_some());
        on_replica_set(&shared, &Change { old: Some(set), new: None });
        assert!(shared.state.lock().cluster.owners.get("ReplicaSet", "a", "r").is_none());
    }
}

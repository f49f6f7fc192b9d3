//! ReplicaSets: so many pods of one template.
//!
//! Owns: which changes wake which set, and seeing its own work. Must not know: deployments, but that
//! sets with a common owner are related. A newcomer's trap: pods are made under random names, so only
//! the expectations keep a cache that is behind from making too many.

mod plan;
mod rank;
mod reconcile;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kijabi_client::{Cache, Change, Key, WorkQueue};
use kube::core::{Selector, SelectorExt as _};

use self::reconcile::ReplicaSets;
use crate::expectations::Expectations;
use crate::owner::controller_of;
use crate::{Context, limits, worker};

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let expectations = Arc::new(Expectations::default());
    let caches = &context.caches;
    let to = queue.clone();
    caches.replica_sets.subscribe(move |change| to.add(Key::of(change.latest().as_ref())));
    let to = queue.clone();
    let sets = caches.replica_sets.clone();
    let expected = expectations.clone();
    caches.pods.subscribe(move |change| on_pod(change, &sets, &expected, &to));
    let controller = Arc::new(ReplicaSets {
        client: context.client.clone(),
        cache: caches.replica_sets.clone(),
        pods: caches.pods.clone(),
        expectations,
        events: context.recorder("replicaset-controller"),
    });
    worker::spawn(context, controller, queue, limits::WORKERS);
}

/// The set that owns `pod`, by the cache: the uid must be right too.
fn owner_of(pod: &Pod, sets: &Cache<ReplicaSet>) -> Option<Key> {
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let key = Key::new(Key::of(pod).namespace, owner.name.clone());
    let set = sets.get(&key)?;
    (set.metadata.uid.as_deref() == Some(owner.uid.as_str())).then_some(key)
}

fn on_pod(
    change: &Change<Pod>,
    sets: &Cache<ReplicaSet>,
    expectations: &Expectations,
    queue: &WorkQueue<Key>,
) {
    let owner_before = change.old.as_ref().and_then(|pod| owner_of(pod, sets));
    let owner_now = change.new.as_ref().and_then(|pod| owner_of(pod, sets));
    if let (None, Some(owner)) = (&change.old, &owner_now) {
        expectations.created(owner);
    }
    let pod = change.latest();
    let is_going = change.new.is_none() || pod.metadata.deletion_timestamp.is_some();
    for owner in [&owner_before, &owner_now].into_iter().flatten() {
        if is_going {
            expectations.deleted(owner, pod.metadata.uid.as_deref().unwrap_or_default());
        }
        queue.add(owner.clone());
    }
    let is_orphan = change.new.as_ref().is_some_and(|pod| controller_of(&pod.metadata).is_none());
    if is_orphan {
        for key in matching(pod, sets) {
            queue.add(key);
        }
    }
}

/// The sets whose selector matches an orphan.
fn matching(pod: &Pod, sets: &Cache<ReplicaSet>) -> Vec<Key> {
    let Some(labels) = pod.metadata.labels.as_ref().filter(|labels| !labels.is_empty()) else {
        return Vec::new();
    };
    sets.in_namespace(&Key::of(pod).namespace)
        .iter()
        .filter(|set| {
            let selector = set.spec.as_ref().map(|spec| spec.selector.clone());
            let selector = selector.and_then(|selector| Selector::try_from(selector).ok());
            selector.is_some_and(|selector| !selector.selects_all() && selector.matches(labels))
        })
        .map(|set| Key::of(set.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    fn sets() -> Arc<Cache<ReplicaSet>> {
        let sets = Cache::new(&[]);
        sets.upsert(
            serde_json::from_value(json!({
                "metadata": {"namespace": "default", "name": "web", "uid": "rs"},
                "spec": {"selector": {"matchLabels": {"app": "web"}}}}))
            .unwrap(),
        );
        sets
    }

    #[test]
    fn which_pods_wake_the_set() {
        let owned = json!({"owner": "rs", "labels": {"app": "web"}});
        let of_a_namesake = json!({"owner": "older", "labels": {"app": "web"}});
        for (extra, wakes) in [
            (owned, true),
            (of_a_namesake, false),
            (json!({"labels": {"app": "web"}}), true),
            (json!({"labels": {"app": "db"}}), false),
            (json!({}), false),
        ] {
            let queue = WorkQueue::new();
            let new = Some(pod("u", extra.clone()));
            on_pod(&Change { old: None, new }, &sets(), &Expectations::default(), &queue);
            assert_eq!(!queue.is_empty(), wakes, "{extra}");
        }
    }

    #[test]
    fn the_set_waits_until_it_has_seen_its_own_work() {
        let (sets, expectations, queue) = (sets(), Expectations::default(), WorkQueue::new());
        let key = Key::new("default", "web");
        let on = |old: Option<Arc<Pod>>, new: Option<Arc<Pod>>| {
            on_pod(&Change { old, new }, &sets, &expectations, &queue);
        };
        let (one, two) = (pod("1", json!({"owner": "rs"})), pod("2", json!({"owner": "rs"})));
        expectations.expect_creations(&key, 2);
        on(None, Some(one.clone()));
        on(Some(one.clone()), Some(one.clone()));
        assert!(!expectations.are_met(&key), "an update is not a creation");
        on(None, Some(two));
        assert!(expectations.are_met(&key));
        expectations.expect_deletions(&key, ["1".to_owned()]);
        assert!(!expectations.are_met(&key));
        on(Some(one), Some(pod("1", json!({"owner": "rs", "deleted": 5}))));
        assert!(expectations.are_met(&key), "a pod that is going counts as deleted");
    }
}

//! Deployments: versions of a set of pods, rolled out, scaled, and rolled back.
//!
//! Owns: which changes wake which deployment. Must not know: pods beyond whether some still run. A
//! newcomer's trap: a deployment never touches pods; it only gives its ReplicaSets their sizes.

mod cleanup;
mod plan;
#[cfg(test)]
mod plan_tests;
mod reconcile;
mod revision;
mod rolling;
mod rounding;
mod scaling;
mod set;
mod status;
mod template;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kijabi_client::{Change, Key, WorkQueue};
use kube::core::{Selector, SelectorExt as _};

use self::reconcile::Deployments;
use crate::owner::controller_of;
use crate::{Context, limits, worker};

/// The name of the set for the deployment's present template.
fn set_name(deployment: &Deployment) -> String {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = deployment.spec.as_ref().map(|spec| template::hash(&spec.template, collisions));
    format!("{name}-{}", hash.unwrap_or_default())
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let caches = &context.caches;
    let to = queue.clone();
    caches.deployments.subscribe(move |change| to.add(Key::of(change.latest().as_ref())));
    let to = queue.clone();
    let deployments = caches.deployments.clone();
    caches.replica_sets.subscribe(move |change| {
        for key in woken_by_set(change, || {
            deployments.in_namespace(&Key::of(change.latest().as_ref()).namespace)
        }) {
            to.add(key);
        }
    });
    let to = queue.clone();
    let sets = caches.replica_sets.clone();
    caches.pods.subscribe(move |change| {
        // Only the going of pods matters here: a Recreate rollout waits for it.
        let gone = change.new.is_none()
            || change.new.as_ref().is_some_and(|pod| crate::pods::is_over(pod));
        if !gone {
            return;
        }
        let pod = change.latest();
        let Some(owner) = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")
        else {
            return;
        };
        let key = Key::new(Key::of(pod.as_ref()).namespace, owner.name.clone());
        if let Some(deployment) = sets.get(&key).and_then(|set| owner_key(&set)) {
            to.add(deployment);
        }
    });
    let controller = Arc::new(Deployments {
        client: context.client.clone(),
        cache: caches.deployments.clone(),
        replica_sets: caches.replica_sets.clone(),
        pods: caches.pods.clone(),
        events: context.recorder("deployment-controller"),
    });
    worker::spawn(context, controller, queue, limits::WORKERS);
}

fn owner_key(set: &ReplicaSet) -> Option<Key> {
    let owner = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
    Some(Key::new(Key::of(set).namespace, owner.name.clone()))
}

/// The deployments a changed set concerns: its owners before and after, or, if it has none now,
/// all whose selector matches it.
fn woken_by_set(
    change: &Change<ReplicaSet>,
    deployments: impl Fn() -> Vec<Arc<Deployment>>,
) -> Vec<Key> {
    let mut keys: Vec<Key> =
        [&change.old, &change.new].into_iter().flatten().filter_map(|set| owner_key(set)).collect();
    if let Some(new) = &change.new
        && controller_of(&new.metadata).is_none()
    {
        let labels = new.metadata.labels.clone().unwrap_or_default();
        keys.extend(deployments().iter().filter_map(|deployment| {
            let selector = deployment.spec.as_ref()?.selector.clone();
            let selector = Selector::try_from(selector).ok()?;
            (!selector.selects_all() && selector.matches(&labels))
                .then(|| Key::of(deployment.as_ref()))
        }));
    }
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(extra: Value) -> Option<Arc<ReplicaSet>> {
        let mut meta = json!({"namespace": "default", "name": "web-1", "labels": {"app": "web"}});
        for (key, part) in extra.as_object().unwrap() {
            meta[key] = part.clone();
        }
        serde_json::from_value(json!({ "metadata": meta })).ok()
    }

    #[test]
    fn which_deployments_a_changed_set_wakes() {
        let owner = |kind: &str, name: &str| json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}]});
        let deployment = |name: &str, app: &str| -> Arc<Deployment> {
            serde_json::from_value(json!({"metadata": {"namespace": "default", "name": name},
                "spec": {"selector": {"matchLabels": {"app": app}}, "template": {}}}))
            .unwrap()
        };
        for (old, new, woken) in [
            (None, set(owner("Deployment", "web")), vec!["web"]),
            (set(owner("Deployment", "web")), None, vec!["web"]),
            (set(owner("Deployment", "a")), set(owner("Deployment", "b")), vec!["a", "b"]),
            (set(owner("Deployment", "web")), set(json!({})), vec!["web"]),
            (None, set(json!({})), vec!["web"]),
            (None, set(owner("Other", "web")), vec![]),
        ] {
            let change = Change { old, new };
            let all = || vec![deployment("web", "web"), deployment("db", "db")];
            let keys = woken_by_set(&change, all);
            let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
            assert_eq!(names, woken, "{change:?}");
        }
    }
}

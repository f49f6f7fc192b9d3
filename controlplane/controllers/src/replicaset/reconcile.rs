//! Carries out the plan for one ReplicaSet.
//!
//! Owns: claiming pods, making and deleting them, the status. Must not know: which pods go first. A
//! newcomer's trap: pods are made in growing batches (1, 2, 4, …), so that a quota or a webhook that
//! refuses them all is asked once and not five hundred times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kijabi_client::events::{EventType, Recorder};
use kijabi_client::time::now;
use kijabi_client::{Cache, Key};
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{Selector, SelectorExt as _};

use super::plan::{self, Failure, Step};
use crate::expectations::Expectations;
use crate::limits;
use crate::owner::{self, Claim};
use crate::worker::{Error, Reconcile, code_of, ignore_not_found, message_of};

/// The ReplicaSet controller.
pub(crate) struct ReplicaSets {
    pub(crate) client: Client,
    pub(crate) cache: Arc<Cache<ReplicaSet>>,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) expectations: Arc<Expectations>,
    pub(crate) events: Recorder,
}

impl Reconcile for ReplicaSets {
    type Key = Key;
    const NAME: &'static str = "replicaset";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.cache.get(key) else {
            self.expectations.forget(key);
            return Ok(None);
        };
        let is_caught_up = self.expectations.are_met(key);
        let selector = set.spec.clone().unwrap_or_default().selector;
        let selector = Selector::try_from(selector)
            .map_err(|error| Error::NotYet(format!("invalid label selector: {error}")))?;
        let owned = self.claim(&set, &selector).await?;
        let mut failure = None;
        if is_caught_up && let Some(step) = plan::plan(&set, &owned, &self.related(&set), now()) {
            failure = self.carry_out(step, &set, key).await;
        }
        self.write_status(&set, plan::status(&set, &owned, failure.as_ref(), now())).await?;
        match failure {
            Some(Failure::Create(message) | Failure::Delete(message)) => {
                Err(Error::NotYet(message))
            }
            None => Ok(plan::look_again(&set, &owned, now())),
        }
    }
}

// === impl ReplicaSets ===

impl ReplicaSets {
    fn api(&self, namespace: &str) -> (Api<ReplicaSet>, Api<Pod>) {
        let client = || self.client.clone();
        (Api::namespaced(client(), namespace), Api::namespaced(client(), namespace))
    }

    /// Its pods, after adopting and releasing as its selector says.
    async fn claim(&self, set: &ReplicaSet, selector: &Selector) -> Result<Vec<Arc<Pod>>, Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let set_uid = set.metadata.uid.as_deref().unwrap_or_default();
        let (sets, api) = self.api(namespace);
        let orphans = self.pods.indexed("orphan", namespace);
        let mut owned = Vec::new();
        let mut may_adopt = None;
        for pod in self.pods.indexed("owner", set_uid).into_iter().chain(orphans) {
            let none = BTreeMap::new();
            let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
            let matches = !selector.selects_all() && selector.matches(labels);
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            match owner::claim(&set.metadata, &pod.metadata, matches) {
                Claim::Keep => owned.push(pod),
                Claim::Release => {
                    let patch = Patch::Strategic(owner::release(set_uid, uid));
                    ignore_not_found(api.patch(name, &PatchParams::default(), &patch).await)?;
                }
                // A pod that is over is not worth adopting.
                Claim::Adopt if !crate::pods::is_over(&pod) => {
                    if may_adopt.is_none() {
                        may_adopt = Some(is_still_there(&sets, set).await?);
                    }
                    if may_adopt == Some(true) {
                        let patch =
                            Patch::Strategic(owner::adoption(&owner::reference_to(set), uid));
                        owned.push(Arc::new(
                            api.patch(name, &PatchParams::default(), &patch).await?,
                        ));
                    }
                }
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(owned)
    }

    /// The pods of all sets of the same owner.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let uid = |set: &ReplicaSet| set.metadata.uid.clone().unwrap_or_default();
        let mut uids = vec![uid(set)];
        if let Some(owner) = owner::controller_of(&set.metadata) {
            uids.extend(self.cache.indexed("owner", &owner.uid).iter().map(|one| uid(one)));
        }
        uids.sort();
        uids.dedup();
        uids.iter().flat_map(|uid| self.pods.indexed("owner", uid)).collect()
    }

    async fn carry_out(&self, step: Step, set: &ReplicaSet, key: &Key) -> Option<Failure> {
        match step {
            Step::Create(count) => {
                self.expectations.expect_creations(key, count);
                self.create(set, key, count).await.err().map(Failure::Create)
            }
            Step::Delete(pods) => {
                let uids = pods.iter().filter_map(|pod| pod.metadata.uid.clone());
                self.expectations.expect_deletions(key, uids);
                self.delete(set, key, pods).await.err().map(Failure::Delete)
            }
        }
    }

    /// Makes `count` pods in batches that double as long as all goes well.
    async fn create(&self, set: &ReplicaSet, key: &Key, count: usize) -> Result<(), String> {
        let pod = new_pod(set);
        let mut left = count;
        let mut batch = limits::SLOW_START.min(left);
        while batch > 0 {
            let outcomes: Vec<Result<(), String>> = stream::iter(0..batch)
                .map(|_| self.create_one(set, &pod))
                .buffer_unordered(limits::REQUESTS_IN_FLIGHT)
                .collect()
                .await;
            left -= batch;
            let failures = outcomes.iter().filter(|outcome| outcome.is_err()).count();
            if failures > 0 {
                // What was not made will not be seen.
                for _ in 0..failures + left {
                    self.expectations.created(key);
                }
                return outcomes.into_iter().find(Result::is_err).unwrap_or(Ok(()));
            }
            batch = (batch * 2).min(left);
        }
        Ok(())
    }

    async fn create_one(&self, set: &ReplicaSet, pod: &Pod) -> Result<(), String> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let (_, api) = self.api(namespace);
        match api.create(&PostParams::default(), pod).await {
            Ok(made) => {
                let name = made.metadata.name.unwrap_or_default();
                let message = format!("Created pod: {name}");
                self.events.note(set, EventType::Normal, "SuccessfulCreate", "", message);
                Ok(())
            }
            Err(error) => {
                let text = message_of(&error);
                if !is_namespace_going(&error) {
                    let message = format!("Error creating: {text}");
                    self.events.note(set, EventType::Warning, "FailedCreate", "", message);
                }
                Err(text)
            }
        }
    }

    async fn delete(&self, set: &ReplicaSet, key: &Key, pods: Vec<Arc<Pod>>) -> Result<(), String> {
        let outcomes: Vec<Result<(), String>> = stream::iter(pods)
            .map(|pod| async move { self.delete_one(set, key, &pod).await })
            .buffer_unordered(limits::REQUESTS_IN_FLIGHT)
            .collect()
            .await;
        outcomes.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    async fn delete_one(&self, set: &ReplicaSet, key: &Key, pod: &Pod) -> Result<(), String> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let (_, api) = self.api(namespace);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let same = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let params = DeleteParams::default().preconditions(same);
        match api.delete(name, &params).await {
            Ok(_) => {
                let message = format!("Deleted pod: {name}");
                self.events.note(set, EventType::Normal, "SuccessfulDelete", "", message);
                Ok(())
            }
            Err(error) => {
                self.expectations.deleted(key, &uid);
                // Gone already, or another pod of that name by now.
                if matches!(code_of(&error), 404 | 409) {
                    return Ok(());
                }
                let text = message_of(&error);
                let message = format!("Error deleting: {text}");
                self.events.note(set, EventType::Warning, "FailedDelete", "", message);
                Err(text)
            }
        }
    }

    async fn write_status(
        &self,
        set: &ReplicaSet,
        status: k8s_openapi::api::apps::v1::ReplicaSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let (api, _) = self.api(namespace);
        let changed = ReplicaSet { status: Some(status), ..set.clone() };
        ignore_not_found(api.replace_status(name, &PostParams::default(), &changed).await)?;
        Ok(())
    }
}

async fn is_still_there(api: &Api<ReplicaSet>, set: &ReplicaSet) -> Result<bool, Error> {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let live = api.get_opt(name).await?;
    Ok(live.is_some_and(|live| {
        live.metadata.uid == set.metadata.uid && live.metadata.deletion_timestamp.is_none()
    }))
}

fn is_namespace_going(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// A pod from the set's template.
fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.clone().and_then(|spec| spec.template).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let name = set.metadata.name.as_deref().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner::reference_to(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

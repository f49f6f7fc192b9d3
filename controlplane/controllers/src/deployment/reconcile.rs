//! Carries out the plan for one deployment.
//!
//! Owns: reading the caches, claiming ReplicaSets, requests and events. Must not know: what is next.
//! A newcomer's trap: the status is written with the version the last write returned, or every pass
//! that changes two things would end in a conflict.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::Pod;
use kijabi_client::events::{EventType, Recorder};
use kijabi_client::time::now;
use kijabi_client::{Cache, Key};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{Selector, SelectorExt as _};
use kube::{Client, Resource as _};
use serde_json::json;

use super::plan::{Step, plan};
use super::revision::Annotations;
use super::set::Set;
use super::template::{HASH_LABEL, equal_ignoring_hash, hash};
use crate::owner::{self, Claim};
use crate::worker::{Error, Reconcile, code_of, ignore_not_found, message_of};

/// The deployment controller.
pub(crate) struct Deployments {
    pub(crate) client: Client,
    pub(crate) cache: Arc<Cache<Deployment>>,
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) events: Recorder,
}

impl Reconcile for Deployments {
    type Key = Key;
    const NAME: &'static str = "deployment";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(deployment) = self.cache.get(key) else { return Ok(None) };
        let spec = deployment.spec.clone().unwrap_or_default();
        let selector = Selector::try_from(spec.selector)
            .map_err(|error| Error::NotYet(format!("invalid label selector: {error}")))?;
        if selector.selects_all() {
            let message =
                "This deployment is selecting all pods. A non-empty selector is required.";
            self.events.note(
                &*deployment,
                EventType::Warning,
                "SelectingAll",
                "",
                message.to_owned(),
            );
            return Ok(None);
        }
        let owned = self.claim(&deployment, &selector).await?;
        let sets: Vec<Set> =
            owned.iter().map(|set| Set::read(set, &deployment, self.running_pods(set))).collect();
        let steps = plan(&deployment, &sets, now());
        let mut latest = (*deployment).clone();
        let mut again = None;
        for step in steps {
            match step {
                Step::LookAgain(wait) => again = Some(wait),
                step => self.carry_out(step, &mut latest).await?,
            }
        }
        Ok(again)
    }
}

// === impl Deployments ===

impl Deployments {
    fn api(&self, namespace: &str) -> (Api<Deployment>, Api<ReplicaSet>) {
        let client = || self.client.clone();
        (Api::namespaced(client(), namespace), Api::namespaced(client(), namespace))
    }

    /// The sets the deployment owns, after adopting and releasing as its selector says.
    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &Selector,
    ) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let (deployments, sets) = self.api(namespace);
        let mut owned = Vec::new();
        let mut may_adopt = None;
        for set in self.replica_sets.in_namespace(namespace) {
            let none = std::collections::BTreeMap::new();
            let labels = set.metadata.labels.as_ref().unwrap_or(&none);
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            let name = set.metadata.name.as_deref().unwrap_or_default();
            match owner::claim(&deployment.metadata, &set.metadata, selector.matches(labels)) {
                Claim::Ignore => {}
                Claim::Keep => owned.push(set),
                Claim::Release => {
                    let owner = deployment.metadata.uid.as_deref().unwrap_or_default();
                    let patch = Patch::Strategic(owner::release(owner, uid));
                    ignore_not_found(sets.patch(name, &PatchParams::default(), &patch).await)?;
                }
                Claim::Adopt => {
                    if may_adopt.is_none() {
                        may_adopt = Some(is_still_there(&deployments, deployment).await?);
                    }
                    if may_adopt == Some(true) {
                        let owner = owner::reference_to(deployment);
                        let patch = Patch::Strategic(owner::adoption(&owner, uid));
                        owned.push(Arc::new(
                            sets.patch(name, &PatchParams::default(), &patch).await?,
                        ));
                    }
                }
            }
        }
        Ok(owned)
    }

    fn running_pods(&self, set: &ReplicaSet) -> usize {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        self.pods.indexed("owner", uid).iter().filter(|pod| !crate::pods::is_over(pod)).count()
    }

    async fn carry_out(&self, step: Step, latest: &mut Deployment) -> Result<(), Error> {
        let namespace = latest.metadata.namespace.clone().unwrap_or_default();
        let deployment_name = latest.metadata.name.clone().unwrap_or_default();
        let (deployments, sets) = self.api(&namespace);
        let params = PatchParams::default();
        match step {
            Step::Create { replicas, annotations } => {
                self.create(latest, &sets, replicas, annotations).await?;
            }
            Step::Scale { set, version, from, to, annotations } => {
                let mut patch =
                    json!({"metadata": {"annotations": annotations}, "spec": {"replicas": to}});
                if !version.is_empty() {
                    patch["metadata"]["resourceVersion"] = json!(version);
                }
                sets.patch(&set, &params, &Patch::Merge(patch)).await?;
                self.note_scaled(latest, &set, from, to);
            }
            Step::Annotate { set, version, annotations, min_ready_seconds } => {
                let patch = json!({
                    "metadata": {"resourceVersion": version, "annotations": annotations},
                    "spec": {"minReadySeconds": min_ready_seconds}});
                sets.patch(&set, &params, &Patch::Merge(patch)).await?;
            }
            Step::SetRevision(revision) => {
                let annotations = json!({super::revision::REVISION: revision.to_string()});
                let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
                latest.metadata =
                    deployments.patch(&deployment_name, &params, &patch).await?.metadata;
            }
            Step::Delete { set, uid } => {
                let same = Preconditions { uid: Some(uid), resource_version: None };
                let params = DeleteParams::background().preconditions(same);
                ignore_not_found(sets.delete(&set, &params).await)?;
            }
            Step::WriteStatus(status) => write_status(&deployments, latest, *status).await?,
            Step::LookAgain(_) => {}
        }
        Ok(())
    }

    async fn create(
        &self,
        latest: &mut Deployment,
        sets: &Api<ReplicaSet>,
        replicas: i32,
        annotations: Annotations,
    ) -> Result<(), Error> {
        let set = new_set(latest, replicas, annotations);
        let name = set.metadata.name.clone().unwrap_or_default();
        match sets.create(&PostParams::default(), &set).await {
            Ok(_) => {
                if replicas > 0 {
                    self.note_scaled(latest, &name, 0, replicas);
                }
                Ok(())
            }
            Err(error) if code_of(&error) == 409 => {
                self.resolve_collision(latest, sets, &name).await
            }
            Err(error) => {
                let message =
                    format!("Failed to create new replica set {name:?}: {}", message_of(&error));
                let reason = "ReplicaSetCreateError";
                self.events.note(latest, EventType::Warning, reason, "", message);
                Err(error.into())
            }
        }
    }

    /// The name is taken: by our own set, which the cache has not shown yet, or by a stranger.
    async fn resolve_collision(
        &self,
        latest: &mut Deployment,
        sets: &Api<ReplicaSet>,
        name: &str,
    ) -> Result<(), Error> {
        let taken = sets.get(name).await?;
        let ours = owner::controller_of(&taken.metadata)
            .is_some_and(|owner| Some(&owner.uid) == latest.metadata.uid.as_ref());
        let has = taken.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let wanted = latest.spec.as_ref().map(|spec| &spec.template);
        let same = has.zip(wanted).is_some_and(|(has, wanted)| equal_ignoring_hash(has, wanted));
        if ours && same {
            return Ok(());
        }
        let mut status = latest.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        let namespace = latest.metadata.namespace.clone().unwrap_or_default();
        write_status(&self.api(&namespace).0, latest, status).await?;
        Err(Error::NotYet(format!("the name {name} is taken by another ReplicaSet")))
    }

    fn note_scaled(&self, deployment: &Deployment, set: &str, from: i32, to: i32) {
        if from == to {
            return;
        }
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        self.events.note(deployment, EventType::Normal, "ScalingReplicaSet", "", message);
    }
}

/// Asks the API, not the cache: a deployment that is gone must adopt nothing.
async fn is_still_there(api: &Api<Deployment>, deployment: &Deployment) -> Result<bool, Error> {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let live = api.get_opt(name).await?;
    Ok(live.is_some_and(|live| {
        live.metadata.uid == deployment.metadata.uid && live.metadata.deletion_timestamp.is_none()
    }))
}

async fn write_status(
    api: &Api<Deployment>,
    latest: &mut Deployment,
    status: DeploymentStatus,
) -> Result<(), Error> {
    latest.status = Some(status);
    let name = latest.metadata.name.clone().unwrap_or_default();
    *latest = api.replace_status(&name, &PostParams::default(), latest).await?;
    Ok(())
}

/// The set for the deployment's present template.
fn new_set(deployment: &Deployment, replicas: i32, annotations: Annotations) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(super::set_name(deployment)),
            namespace: deployment.meta().namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner::reference_to(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

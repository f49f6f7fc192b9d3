//! A ReplicaSet as the deployment controller sees it: the few figures its plan needs.
//!
//! Owns: reading them off the API object. Must not know: what is planned. A newcomer's trap:
//! `replicas` is what was asked for, `current` is what there is.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetCondition};
use k8s_openapi::jiff::Timestamp;

use super::template::equal_ignoring_hash;

/// Figures of one ReplicaSet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) created: Timestamp,
    /// `spec.replicas`.
    pub(crate) replicas: i32,
    /// `status.replicas`.
    pub(crate) current: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    pub(crate) terminating: Option<i32>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) min_ready_seconds: i32,
    /// Whether its status speaks of its present spec.
    pub(crate) settled: bool,
    pub(crate) deleting: bool,
    pub(crate) failure: Option<ReplicaSetCondition>,
    /// Whether it makes the pods the deployment wants now.
    pub(crate) is_current_template: bool,
    /// Its pods that have not ended.
    pub(crate) running_pods: usize,
}

impl Set {
    /// Reads `set`, which `deployment` owns.
    pub(crate) fn read(set: &ReplicaSet, deployment: &Deployment, running_pods: usize) -> Self {
        let spec = set.spec.clone().unwrap_or_default();
        let status = set.status.clone().unwrap_or_default();
        let meta = &set.metadata;
        let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
        let has = spec.template.as_ref();
        let is_current_template =
            wanted.zip(has).is_some_and(|(wanted, has)| equal_ignoring_hash(wanted, has));
        let conditions = status.conditions.unwrap_or_default();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0),
            replicas: spec.replicas.unwrap_or(1),
            current: status.replicas,
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas,
            annotations: meta.annotations.clone().unwrap_or_default(),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            settled: status.observed_generation.unwrap_or(0) >= meta.generation.unwrap_or(0),
            deleting: meta.deletion_timestamp.is_some(),
            failure: conditions.into_iter().find(|condition| condition.type_ == "ReplicaFailure"),
            is_current_template,
            running_pods,
        }
    }

    /// Order of creation; the name decides between equals.
    pub(crate) fn age_key(&self) -> (Timestamp, &str) {
        (self.created, &self.name)
    }
}

/// The sum of one figure over sets.
pub(crate) fn sum<'a>(sets: impl IntoIterator<Item = &'a Set>, of: fn(&Set) -> i32) -> i32 {
    sets.into_iter().map(of).fold(0, i32::saturating_add)
}

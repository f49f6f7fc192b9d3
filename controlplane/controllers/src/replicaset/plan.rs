//! What to do next about one ReplicaSet. Pure: same input, same steps.
//!
//! Owns: how many pods to make or take, which ones, and the status. Must not know: the API. A
//! newcomer's trap: the status describes what was there before the steps, not what they will make.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kijabi_client::time::{millis_between, whole_seconds};

use super::rank;
use crate::limits;
use crate::pods::{is_active, is_available, is_over, is_ready, ready_since};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Make so many pods.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

/// `spec.replicas`, defaulted.
pub(crate) fn replicas_of(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// What brings the number of pods in line. `owned`: its pods; `related`: those of all sets of the
/// same owner, itself included.
pub(crate) fn plan(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    related: &[Arc<Pod>],
    now: Timestamp,
) -> Option<Step> {
    if set.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let active: Vec<Arc<Pod>> = owned.iter().filter(|pod| is_active(pod)).cloned().collect();
    let wanted = replicas_of(set).max(0) as usize;
    if active.len() < wanted {
        return Some(Step::Create((wanted - active.len()).min(limits::BURST_REPLICAS)));
    }
    if active.len() > wanted {
        let excess = (active.len() - wanted).min(limits::BURST_REPLICAS);
        return Some(Step::Delete(choose(&active, related, excess, now)));
    }
    None
}

/// The `count` pods to go first.
pub(crate) fn choose(
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut pods = active.to_vec();
    if count < pods.len() {
        rank::sort(&mut pods, &rank::pods_by_node(related), now);
    }
    pods.truncate(count);
    pods
}

/// What went wrong in the steps, if anything: making or deleting, and the message.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// A pod could not be made.
    Create(String),
    /// A pod could not be deleted.
    Delete(String),
}

/// The status that `owned` pods and the outcome of the steps make.
pub(crate) fn status(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec.clone().unwrap_or_default();
    let labels = spec.template.and_then(|template| template.metadata).and_then(|meta| meta.labels);
    let labels = labels.unwrap_or_default();
    let seconds = spec.min_ready_seconds.unwrap_or(0);
    let is_fully_labeled = |pod: &Pod| {
        let has = pod.metadata.labels.as_ref();
        labels.iter().all(|(key, value)| has.and_then(|has| has.get(key)) == Some(value))
    };
    let count = |holds: &dyn Fn(&Pod) -> bool| {
        owned.iter().filter(|pod| is_active(pod) && holds(pod)).count() as i32
    };
    let some = |count: i32| (count != 0).then_some(count);
    let terminating = owned
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_some() && !is_over(pod))
        .count();
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&is_fully_labeled)),
        ready_replicas: some(count(&is_ready)),
        available_replicas: some(count(&|pod| is_available(pod, seconds, now))),
        terminating_replicas: Some(terminating as i32),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, failure, now),
    }
}

fn conditions(
    set: &ReplicaSet,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions =
        set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let had_one = conditions.iter().any(|condition| condition.type_ == REPLICA_FAILURE);
    match failure {
        None => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
        Some(failure) if !had_one => {
            let (reason, message) = match failure {
                Failure::Create(message) => ("FailedCreate", message),
                Failure::Delete(message) => ("FailedDelete", message),
            };
            conditions.push(ReplicaSetCondition {
                type_: REPLICA_FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.clone()),
                last_transition_time: Some(whole_seconds(now)),
            });
        }
        Some(_) => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// When the next ready pod becomes available by time alone.
pub(crate) fn look_again(set: &ReplicaSet, owned: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let seconds = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    owned
        .iter()
        .filter(|pod| is_active(pod) && is_ready(pod) && !is_available(pod, seconds, now))
        .filter_map(|pod| {
            let left = i64::from(seconds) * 1_000 - millis_between(ready_since(pod)?, now);
            Some(Duration::from_millis(left.max(1) as u64))
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, pod};
    use serde_json::{Value, json};

    fn set(replicas: i32, extra: Value) -> ReplicaSet {
        let mut value = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "rs", "generation": 4},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": "h"}}}}});
        for (key, part) in extra.as_object().unwrap() {
            value["spec"][key] = part.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn ready(uid: &str, since: i64) -> Arc<Pod> {
        let labels = json!({"app": "web", "pod-template-hash": "h"});
        pod(uid, json!({"node": "n", "phase": "Running", "ready": since, "labels": labels}))
    }

    fn told(step: Option<Step>) -> String {
        match step {
            None => "nothing".to_owned(),
            Some(Step::Create(count)) => format!("create {count}"),
            Some(Step::Delete(pods)) => {
                let names: Vec<_> =
                    pods.iter().map(|pod| pod.metadata.uid.clone().unwrap()).collect();
                format!("delete {}", names.join(" "))
            }
        }
    }

    #[test]
    fn how_many_to_make_or_take() {
        let over = pod("over", json!({"phase": "Failed"}));
        let going = pod("going", json!({"phase": "Running", "deleted": 5}));
        let pending = pod("pending", json!({"phase": "Pending"}));
        let a = ready("a", 0);
        for (replicas, owned, expected) in [
            (3, vec![], "create 3"),
            (3, vec![a.clone(), over.clone(), going.clone()], "create 2"),
            (1, vec![a.clone()], "nothing"),
            (1, vec![a.clone(), pending.clone()], "delete pending"),
            (0, vec![a.clone(), over, going], "delete a"),
            (900, vec![], "create 500"),
        ] {
            let step = plan(&set(replicas, json!({})), &owned, &owned, at(9));
            assert_eq!(told(step), expected, "{replicas}");
        }
        let mut deleted = set(3, json!({}));
        deleted.metadata.deletion_timestamp = Some(whole_seconds(at(1)));
        assert_eq!(plan(&deleted, &[], &[], at(9)), None);
    }

    #[test]
    fn the_status_counts_what_is_there() {
        let unlabeled = pod("b", json!({"phase": "Running", "labels": {"app": "web"}}));
        let going = pod("c", json!({"phase": "Running", "deleted": 5}));
        let owned = [ready("a", 0), ready("d", 95), unlabeled, going];
        let status = status(&set(3, json!({"minReadySeconds": 10})), &owned, None, at(100));
        assert_eq!(
            serde_json::to_value(status).unwrap(),
            json!({"replicas": 3, "fullyLabeledReplicas": 2, "readyReplicas": 2,
                "availableReplicas": 1, "terminatingReplicas": 1, "observedGeneration": 4})
        );
        let again = look_again(&set(3, json!({"minReadySeconds": 10})), &owned, at(100));
        assert_eq!(again, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_failure_is_noted_once_and_goes_with_its_cause() {
        let failure = Failure::Create("no quota".to_owned());
        let mut set = set(1, json!({}));
        set.status = Some(status(&set, &[], Some(&failure), at(1)));
        let again = status(&set, &[], Some(&failure), at(9));
        let condition = &again.conditions.as_ref().unwrap()[0];
        assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
        assert_eq!(condition.last_transition_time, Some(whole_seconds(at(1))));
        set.status = Some(again);
        assert_eq!(status(&set, &[], None, at(10)).conditions, None);
    }

    /// SYNC-1: stopped after any single creation or deletion, it comes to the same number.
    #[test]
    fn a_crash_after_any_single_request_changes_nothing_about_the_end() {
        for (start, wanted) in [(0, 5), (7, 2), (3, 3), (1, 0)] {
            let mut pods: Vec<_> =
                (0..start).map(|number| ready(&format!("p{number}"), number)).collect();
            let mut made = 0;
            while let Some(step) = plan(&set(wanted, json!({})), &pods, &pods, at(1_000)) {
                match step {
                    Step::Create(_) => {
                        made += 1;
                        pods.push(ready(&format!("new{made}"), 1_000));
                    }
                    Step::Delete(doomed) => {
                        pods.retain(|pod| pod.metadata.uid != doomed[0].metadata.uid);
                    }
                }
                assert!(made <= 10, "does not end");
            }
            assert_eq!(pods.len(), wanted as usize, "from {start}");
        }
    }
}

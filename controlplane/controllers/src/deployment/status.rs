//! What a deployment's status should say.
//!
//! Owns: figures, conditions, the progress deadline. Must not know: what is done to make progress. A
//! newcomer's trap: progress is judged against the status last written, so it must be read, not made up.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::jiff::Timestamp;
use kijabi_client::time::{millis_between, whole_seconds};

use super::rounding::{max_unavailable, replicas_of};
use super::set::{Set, sum};

pub(crate) const AVAILABLE: &str = "Available";
pub(crate) const PROGRESSING: &str = "Progressing";
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(crate) const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(crate) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(crate) const PAUSED: &str = "DeploymentPaused";
pub(crate) const RESUMED: &str = "DeploymentResumed";

/// A condition to be set now.
pub(crate) fn condition(
    type_: &str,
    status: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(whole_seconds(now)),
        last_transition_time: Some(whole_seconds(now)),
    }
}

/// The condition of this type.
pub(crate) fn find<'a>(
    status: &'a DeploymentStatus,
    type_: &str,
) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

/// Sets a condition; one of the same status and reason stays as it is.
pub(crate) fn set(status: &mut DeploymentStatus, condition: DeploymentCondition) {
    let same = find(status, &condition.type_).is_some_and(|present| {
        present.status == condition.status && present.reason == condition.reason
    });
    if !same {
        put(status, condition);
    }
}

/// Sets a condition in any case; the time of its last transition stays if its status does.
fn put(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(present) = find(status, &condition.type_)
        && present.status == condition.status
    {
        condition.last_transition_time.clone_from(&present.last_transition_time);
    }
    unset(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

/// Takes a condition away.
pub(crate) fn unset(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

/// The deadline for progress, if there is one.
pub(crate) fn progress_deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| Duration::from_secs(seconds.max(0) as u64))
}

/// The figures and the Available condition; the other conditions are carried over.
pub(crate) fn calculate(
    deployment: &Deployment,
    sets: &[Set],
    newest: Option<&Set>,
    now: Timestamp,
) -> DeploymentStatus {
    let present = deployment.status.clone().unwrap_or_default();
    let available = sum(sets, |set| set.available);
    let unavailable = (sum(sets, |set| set.replicas) - available).max(0);
    let some = |figure: i32| (figure != 0).then_some(figure);
    let terminating = sets.iter().map(|set| set.terminating).sum::<Option<i32>>();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(sets, |set| set.current)),
        updated_replicas: some(newest.map_or(0, |set| set.current)),
        ready_replicas: some(sum(sets, |set| set.ready)),
        available_replicas: some(available),
        unavailable_replicas: some(unavailable),
        terminating_replicas: terminating,
        collision_count: present.collision_count,
        conditions: present.conditions,
    };
    let minimum = replicas_of(deployment) - max_unavailable(deployment);
    let (enough, reason, message) = if available >= minimum {
        (true, "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        (false, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, condition(AVAILABLE, enough, reason, message.to_owned(), now));
    status
}

/// Whether all pods are updated, available and the only ones.
pub(crate) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let replicas = replicas_of(deployment);
    status.updated_replicas.unwrap_or(0) == replicas
        && status.replicas.unwrap_or(0) == replicas
        && status.available_replicas.unwrap_or(0) == replicas
        && status.observed_generation >= deployment.metadata.generation
}

/// Whether `new` is nearer to the goal than `old`.
fn is_progress(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let figure = |figure: Option<i32>| figure.unwrap_or(0);
    let outdated =
        |status: &DeploymentStatus| figure(status.replicas) - figure(status.updated_replicas);
    figure(new.updated_replicas) > figure(old.updated_replicas)
        || outdated(new) < outdated(old)
        || figure(new.ready_replicas) > figure(old.ready_replicas)
        || figure(new.available_replicas) > figure(old.available_replicas)
}

/// Whether the deadline has passed since the last progress.
fn is_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(deadline) = progress_deadline(deployment) else { return false };
    let Some(progressing) = find(status, PROGRESSING) else { return false };
    match progressing.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => return false,
        Some(TIMED_OUT) => return true,
        _ => {}
    }
    let since = progressing.last_update_time.as_ref().map_or(now, |at| at.0);
    millis_between(since, now) > deadline.as_millis() as i64
}

/// The whole status after a rollout step, with the Progressing and ReplicaFailure conditions.
pub(crate) fn after_rollout(
    deployment: &Deployment,
    sets: &[Set],
    newest: Option<&Set>,
    now: Timestamp,
) -> DeploymentStatus {
    let present = deployment.status.clone().unwrap_or_default();
    let mut status = calculate(deployment, sets, newest, now);
    let before = find(&present, PROGRESSING).cloned();
    if progress_deadline(deployment).is_none() {
        unset(&mut status, PROGRESSING);
    } else {
        let was_complete = status.replicas == status.updated_replicas
            && before.as_ref().and_then(|one| one.reason.as_deref()) == Some(NEW_SET_AVAILABLE);
        if !was_complete {
            judge_progress(deployment, &present, &mut status, newest, now);
        }
    }
    match replica_failure(sets, newest) {
        Some(failure) => set(&mut status, failure),
        None => unset(&mut status, REPLICA_FAILURE),
    }
    status
}

fn judge_progress(
    deployment: &Deployment,
    present: &DeploymentStatus,
    status: &mut DeploymentStatus,
    newest: Option<&Set>,
    now: Timestamp,
) {
    let who = match newest {
        Some(set) => format!("ReplicaSet {:?}", set.name),
        None => {
            format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or_default())
        }
    };
    if is_complete(deployment, status) {
        let message = format!("{who} has successfully progressed.");
        set(status, condition(PROGRESSING, true, NEW_SET_AVAILABLE, message, now));
    } else if is_progress(present, status) {
        let message = format!("{who} is progressing.");
        // Set anew even if it said so before: the deadline runs from the last progress.
        put(status, condition(PROGRESSING, true, "ReplicaSetUpdated", message, now));
    } else if is_timed_out(deployment, status, now) {
        let message = format!("{who} has timed out progressing.");
        set(status, condition(PROGRESSING, false, TIMED_OUT, message, now));
    }
}

/// The newest set's failure to make or delete pods, or else an older set's.
fn replica_failure(sets: &[Set], newest: Option<&Set>) -> Option<DeploymentCondition> {
    let newest = newest.and_then(|set| set.failure.clone());
    let failure = newest.or_else(|| sets.iter().find_map(|set| set.failure.clone()))?;
    Some(DeploymentCondition {
        type_: REPLICA_FAILURE.to_owned(),
        status: failure.status,
        reason: failure.reason,
        message: failure.message,
        last_update_time: failure.last_transition_time.clone(),
        last_transition_time: failure.last_transition_time,
    })
}

/// When to look again though nothing changes: at the deadline.
pub(crate) fn look_again(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let deadline = progress_deadline(deployment)?;
    let progressing = find(status, PROGRESSING)?;
    let is_over =
        matches!(progressing.reason.as_deref(), Some(NEW_SET_AVAILABLE | TIMED_OUT | PAUSED));
    if is_over || is_complete(deployment, status) {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?.0;
    let left = deadline.as_millis() as i64 - millis_between(since, now);
    // One second more, as the times in conditions are cut to whole seconds.
    Some(Duration::from_millis(left.max(0) as u64 + 1_000))
}

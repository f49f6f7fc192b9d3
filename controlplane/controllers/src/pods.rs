//! What several controllers ask of a pod.
//!
//! Owns: ready, available, over. Must not know: controllers. A newcomer's trap: a pod that is being
//! deleted may still be ready; whether it counts is for the asker to say.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use kijabi_client::time::millis_between;

/// The pod's phase, empty if none is reported yet.
pub(crate) fn phase_of(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether it ran to its end.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase_of(pod), "Succeeded" | "Failed")
}

/// Whether it is to run on: neither over nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_over(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// The condition of this type.
pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

/// Whether it serves.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when it serves.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|at| at.0)
}

/// Whether it has served for at least `seconds`.
pub(crate) fn is_available(pod: &Pod, seconds: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    seconds == 0
        || ready_since(pod)
            .is_some_and(|since| millis_between(since, now) >= i64::from(seconds) * 1_000)
}

/// Restarts of its containers: the most of any one.
pub(crate) fn restarts_of(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}

/// The name of its node, empty if it has none.
pub(crate) fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

//! Scaling a deployment whose template did not change, or that is paused, or in mid-rollout.
//!
//! Owns: sharing pods out over the sets that have any. Must not know: rollouts. A newcomer's trap:
//! in mid-rollout each set grows in proportion, so that a bad new version does not get all new pods.

use super::plan::Pass;
use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, written};
use super::rounding::{is_rolling, max_surge, proportion};
use super::set::{Set, sum};

/// Whether the number of replicas changed since the sets were last scaled.
pub(crate) fn is_needed(pass: &Pass) -> bool {
    let replicas = pass.replicas();
    let all = pass.sets.all();
    all.iter()
        .filter(|set| set.replicas > 0)
        .any(|set| written(&set.annotations, DESIRED_REPLICAS).is_some_and(|was| was != replicas))
}

/// Brings the sets' sizes in line with the number of replicas.
pub(crate) fn scale(pass: &mut Pass) {
    let replicas = pass.replicas();
    if let Some(set) = active_or_latest(pass) {
        if set.replicas != replicas {
            pass.scale(&set, replicas);
        }
        return;
    }
    if is_saturated(pass) {
        let active: Vec<Set> =
            pass.sets.old.iter().filter(|set| set.replicas > 0).cloned().collect();
        for set in active {
            pass.scale(&set, 0);
        }
        return;
    }
    if is_rolling(&pass.deployment) {
        share_out(pass);
    }
}

/// The only set with pods; if none has any, the newest or else the youngest.
fn active_or_latest(pass: &Pass) -> Option<Set> {
    let all = pass.sets.all();
    let mut active = all.iter().filter(|set| set.replicas > 0);
    match (active.next(), active.next()) {
        (None, _) => pass.sets.newest.as_ref().or(pass.sets.old.last()).cloned(),
        (only, None) => only.cloned(),
        _ => None,
    }
}

/// Whether the newest set has all the pods wanted, and they are available.
fn is_saturated(pass: &Pass) -> bool {
    let replicas = pass.replicas();
    pass.sets.newest.as_ref().is_some_and(|newest| {
        newest.replicas == replicas
            && written(&newest.annotations, DESIRED_REPLICAS) == Some(replicas)
            && newest.available == replicas
    })
}

/// Shares the difference out in proportion to size; what is left over goes to the largest.
fn share_out(pass: &mut Pass) {
    let replicas = pass.replicas();
    let mut sets: Vec<Set> = pass.sets.all().into_iter().filter(|set| set.replicas > 0).collect();
    let total = sum(&sets, |set| set.replicas);
    let allowed =
        if replicas > 0 { replicas.saturating_add(max_surge(&pass.deployment)) } else { 0 };
    let to_add = allowed - total;
    // The largest first; between equals the younger one grows and the older one shrinks.
    sets.sort_by(|one, other| {
        let age = one.age_key().cmp(&other.age_key());
        other.replicas.cmp(&one.replicas).then(if to_add > 0 { age.reverse() } else { age })
    });
    let status_replicas =
        pass.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
    let mut added = 0;
    let mut sizes = Vec::with_capacity(sets.len());
    for set in &sets {
        let before = written(&set.annotations, MAX_REPLICAS)
            .filter(|max| *max > 0)
            .unwrap_or(status_replicas);
        let share = proportion(set, &pass.deployment, before, to_add, added);
        added += share;
        sizes.push(set.replicas + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (set, size) in sets.iter().zip(sizes) {
        pass.scale(set, size);
    }
}

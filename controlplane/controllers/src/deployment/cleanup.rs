//! Dropping old ReplicaSets beyond `revisionHistoryLimit`.
//!
//! Owns: which ones. Must not know: when. A newcomer's trap: a set that still has pods, or whose
//! status is behind, is not dropped, though it counts.

use super::plan::{Pass, Step};
use super::revision::revision_of;

/// Plans the deletion of the old sets that are too many, the lowest revisions first.
pub(crate) fn drop_old(pass: &mut Pass) {
    let spec = pass.deployment.spec.as_ref();
    let Some(limit) = spec.and_then(|spec| spec.revision_history_limit) else { return };
    let mut sets: Vec<_> = pass.sets.old.iter().filter(|set| !set.deleting).collect();
    let excess = sets.len().saturating_sub(limit.max(0) as usize);
    sets.sort_by_key(|set| (revision_of(&set.annotations), set.created));
    let steps: Vec<Step> = sets
        .into_iter()
        .take(excess)
        .filter(|set| set.current == 0 && set.replicas == 0 && set.settled)
        .map(|set| Step::Delete { set: set.name.clone(), uid: set.uid.clone() })
        .collect();
    pass.steps.extend(steps);
}

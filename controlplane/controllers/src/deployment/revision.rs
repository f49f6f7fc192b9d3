//! Revisions and the annotations a deployment shares with its ReplicaSets.
//!
//! Owns: which annotations are copied, and how a set is renumbered. Must not know: scaling. A
//! newcomer's trap: rolling back makes no new set; the old one becomes the newest revision, and its
//! former number is remembered in its history.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;

use super::rounding::{max_surge, replicas_of};
use super::set::Set;

/// The number of a rollout, on the deployment and on each set.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Former numbers of a set that was rolled back to.
pub(crate) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// What the deployment's replicas were when the set was last scaled.
pub(crate) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// How many pods there could be in all when the set was last scaled.
pub(crate) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations that are not copied from a deployment to its sets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];

/// Longest history kept, in characters.
const HISTORY_CHARS_MAX: usize = 2_000;

/// The annotations of an object.
pub(crate) type Annotations = BTreeMap<String, String>;

/// The number in `annotations`, 0 if there is none.
pub(crate) fn revision_of(annotations: &Annotations) -> i64 {
    annotations.get(REVISION).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The number the newest set must have, above all older ones.
pub(crate) fn next_revision<'a>(old: impl IntoIterator<Item = &'a Set>) -> i64 {
    old.into_iter().map(|set| revision_of(&set.annotations)).max().unwrap_or(0) + 1
}

/// What the newest set's annotations should be; equal to `present` if nothing is to be done.
pub(crate) fn newest_annotations(
    deployment: &Deployment,
    present: &Annotations,
    revision: i64,
    exists: bool,
) -> Annotations {
    let mut annotations = present.clone();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let before = revision_of(present);
    if before < revision {
        annotations.insert(REVISION.to_owned(), revision.to_string());
        if present.contains_key(REVISION) {
            remember(&mut annotations, before);
        }
    }
    if !exists {
        set_replicas(&mut annotations, deployment);
    }
    annotations
}

/// Adds a former number to the history, dropping the oldest ones if it grows too long.
fn remember(annotations: &mut Annotations, revision: i64) {
    let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
    let mut numbers: Vec<&str> = history.split(',').filter(|number| !number.is_empty()).collect();
    let revision = revision.to_string();
    numbers.push(&revision);
    let length = |numbers: &[&str]| numbers.iter().map(|number| number.len() + 1).sum::<usize>();
    while length(&numbers) > HISTORY_CHARS_MAX && numbers.len() > 1 {
        numbers.remove(0);
    }
    let joined = numbers.join(",");
    annotations.insert(REVISION_HISTORY.to_owned(), joined);
}

/// Writes down what the set is scaled for.
pub(crate) fn set_replicas(annotations: &mut Annotations, deployment: &Deployment) {
    let replicas = replicas_of(deployment);
    let max = replicas.saturating_add(max_surge(deployment));
    annotations.insert(DESIRED_REPLICAS.to_owned(), replicas.to_string());
    annotations.insert(MAX_REPLICAS.to_owned(), max.to_string());
}

/// A number written by [`set_replicas`].
pub(crate) fn written(annotations: &Annotations, key: &str) -> Option<i32> {
    annotations.get(key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment() -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"annotations": {
                "kubernetes.io/change-cause": "set image", REVISION: "3",
                "kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "a"}},
            "spec": {"replicas": 3, "selector": {}, "template": {}}}))
        .unwrap()
    }

    fn map(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_new_set_gets_the_cause_the_number_and_what_it_is_scaled_for() {
        assert_eq!(
            newest_annotations(&deployment(), &Annotations::new(), 4, false),
            map(&[
                ("kubernetes.io/change-cause", "set image"),
                ("team", "a"),
                (REVISION, "4"),
                (DESIRED_REPLICAS, "3"),
                (MAX_REPLICAS, "4"),
            ])
        );
    }

    #[test]
    fn a_set_rolled_back_to_is_renumbered_and_remembers() {
        let old = map(&[(REVISION, "2"), (REVISION_HISTORY, "1")]);
        let renumbered = newest_annotations(&deployment(), &old, 4, true);
        assert_eq!(renumbered.get(REVISION).unwrap(), "4");
        assert_eq!(renumbered.get(REVISION_HISTORY).unwrap(), "1,2");
        assert_eq!(newest_annotations(&deployment(), &renumbered, 4, true), renumbered);
    }

    #[test]
    fn a_history_stays_within_its_bound() {
        let mut annotations = Annotations::new();
        for revision in 0..2_000 {
            remember(&mut annotations, revision);
        }
        let history = annotations.get(REVISION_HISTORY).unwrap();
        assert!(history.len() <= HISTORY_CHARS_MAX && history.ends_with(",1999"), "{history}");
    }
}

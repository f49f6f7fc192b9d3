//! What a namespace being emptied says of itself. Pure.
//!
//! Owns: the five conditions and their texts. Must not know: the API. A newcomer's trap: a condition
//! that found nothing wrong is written too, with status False.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::jiff::Timestamp;
use kijabi_client::time::whole_seconds;
use kube::api::ObjectMeta;

/// The finalizer that is ours.
const FINALIZER: &str = "kubernetes";

/// Objects of one kind that are still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remaining {
    /// `plural.group`, as the condition names it.
    kind: String,
    count: usize,
    finalizers: BTreeMap<String, usize>,
}

/// What one look found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) discovery_error: Option<String>,
    pub(crate) errors: Vec<String>,
    pub(crate) remaining: Vec<Remaining>,
}

// === impl Remaining ===

impl Remaining {
    /// Counts; none if nothing is left.
    pub(crate) fn of(
        plural: &str,
        group: &str,
        left: impl Iterator<Item = ObjectMeta>,
    ) -> Option<Self> {
        let mut remaining =
            Self { kind: format!("{plural}.{group}"), count: 0, finalizers: BTreeMap::new() };
        for meta in left {
            remaining.count += 1;
            for finalizer in meta.finalizers.into_iter().flatten() {
                *remaining.finalizers.entry(finalizer).or_default() += 1;
            }
        }
        (remaining.count > 0).then_some(remaining)
    }
}

// === impl Findings ===

impl Findings {
    /// Whether the namespace can go.
    pub(crate) fn is_empty(&self) -> bool {
        self.discovery_error.is_none() && self.errors.is_empty() && self.remaining.is_empty()
    }
}

/// Whether the namespace is being deleted and still waits for us.
pub(crate) fn is_to_empty(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.into_iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// The namespace without our finalizer.
pub(crate) fn finalized(namespace: &Namespace) -> Namespace {
    let mut namespace = namespace.clone();
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    namespace
}

/// The conditions after a look, or none if they stand as they are.
pub(crate) fn conditions(
    namespace: &Namespace,
    findings: &Findings,
    now: Timestamp,
) -> Option<Vec<NamespaceCondition>> {
    let old = namespace.status.as_ref().and_then(|status| status.conditions.clone());
    let mut all = old.clone().unwrap_or_default();
    for (type_, fine, trouble) in verdicts(findings) {
        let (status, (reason, message)) = match trouble {
            Some(trouble) => ("True", trouble),
            None => ("False", (fine.0, fine.1.to_owned())),
        };
        let condition = NamespaceCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(whole_seconds(now)),
        };
        put(&mut all, condition);
    }
    (old.as_ref() != Some(&all)).then_some(all)
}

type Verdict = (&'static str, (&'static str, &'static str), Option<(&'static str, String)>);

/// Each condition: its type, reason and message when all is well, and those of the trouble, if any.
fn verdicts(findings: &Findings) -> [Verdict; 5] {
    let discovery = findings
        .discovery_error
        .as_ref()
        .map(|error| ("DiscoveryFailed", format!("Discovery failed for some groups: {error}")));
    let content = (!findings.errors.is_empty()).then(|| {
        let count = findings.errors.len();
        let errors = findings.errors.join(", ");
        (
            "ContentDeletionFailed",
            format!("Failed to delete all resource types, {count} remaining: {errors}"),
        )
    });
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            ("ResourcesDiscovered", "All resources successfully discovered"),
            discovery,
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            None,
        ),
        (
            "NamespaceDeletionContentFailure",
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            content,
        ),
        (
            "NamespaceContentRemaining",
            ("ContentRemoved", "All content successfully removed"),
            remaining_text(&findings.remaining),
        ),
        (
            "NamespaceFinalizersRemaining",
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            finalizers_text(&findings.remaining),
        ),
    ]
}

fn remaining_text(remaining: &[Remaining]) -> Option<(&'static str, String)> {
    let mut lines: Vec<String> = remaining
        .iter()
        .map(|one| format!("{} has {} resource instances", one.kind, one.count))
        .collect();
    lines.sort();
    let text = format!("Some resources are remaining: {}", lines.join(", "));
    (!lines.is_empty()).then_some(("SomeResourcesRemain", text))
}

fn finalizers_text(remaining: &[Remaining]) -> Option<(&'static str, String)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in remaining.iter().flat_map(|one| &one.finalizers) {
        *counts.entry(finalizer).or_default() += count;
    }
    let lines: Vec<String> = counts
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let text =
        format!("Some content in the namespace has finalizers remaining: {}", lines.join(", "));
    (!lines.is_empty()).then_some(("SomeFinalizersRemain", text))
}

/// Sets a condition; the time of the last transition changes only with the status.
fn put(all: &mut Vec<NamespaceCondition>, mut condition: NamespaceCondition) {
    match all.iter_mut().find(|present| present.type_ == condition.type_) {
        None => all.push(condition),
        Some(present) => {
            if present.status == condition.status {
                condition.last_transition_time.clone_from(&present.last_transition_time);
            }
            *present = condition;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, time};
    use serde_json::json;

    fn namespace(finalizers: serde_json::Value) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": "a", "deletionTimestamp": time(1)},
            "spec": {"finalizers": finalizers}}))
        .unwrap()
    }

    fn message(all: &[NamespaceCondition], type_: &str) -> String {
        let one = all.iter().find(|one| one.type_ == type_).unwrap();
        format!(
            "{} {}: {}",
            one.status,
            one.reason.as_ref().unwrap(),
            one.message.as_ref().unwrap()
        )
    }

    #[test]
    fn what_is_left_is_said() {
        let held: ObjectMeta =
            serde_json::from_value(json!({"finalizers": ["example.com/hold"]})).unwrap();
        let findings = Findings {
            remaining: vec![
                Remaining::of("pods", "", [held.clone(), ObjectMeta::default()].into_iter())
                    .unwrap(),
                Remaining::of("deployments", "apps", [held].into_iter()).unwrap(),
            ],
            ..Findings::default()
        };
        let all = conditions(&namespace(json!(["kubernetes"])), &findings, at(5)).unwrap();
        assert_eq!(
            message(&all, "NamespaceContentRemaining"),
            "True SomeResourcesRemain: Some resources are remaining: deployments.apps has 1 resource \
             instances, pods. has 2 resource instances"
        );
        assert_eq!(
            message(&all, "NamespaceFinalizersRemaining"),
            "True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: \
             example.com/hold in 2 resource instances"
        );
        assert_eq!(
            message(&all, "NamespaceDeletionContentFailure"),
            "False ContentDeleted: All content successfully deleted, may be waiting on finalization"
        );
    }

    #[test]
    fn the_same_findings_write_nothing_and_an_empty_one_lets_go() {
        let mut namespace = namespace(json!(["other", "kubernetes"]));
        assert!(is_to_empty(&namespace));
        let all = conditions(&namespace, &Findings::default(), at(5)).unwrap();
        namespace.status.get_or_insert_default().conditions = Some(all);
        assert_eq!(conditions(&namespace, &Findings::default(), at(9)), None);
        let finalized = finalized(&namespace);
        assert_eq!(finalized.spec.as_ref().unwrap().finalizers.as_ref().unwrap(), &["other"]);
        assert!(!is_to_empty(&finalized));
    }
}

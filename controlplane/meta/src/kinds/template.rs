//! What Deployments, ReplicaSets and their kin share: a selector, a pod template, and counts in the status.
//!
//! Owns: those checks. Must not know: what a rollout is. A newcomer's trap: an absent selector
//! selects nothing, an empty one everything, and the two get different errors.

use serde_json::Value;

use super::check;
use super::look::{Look, same};
use super::pod;
use crate::field::FieldError;

/// Whose template it is: a few texts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Deployments and ReplicaSets.
    Replica,
    /// DaemonSets.
    Daemon,
    /// StatefulSets.
    Stateful,
}

impl Owner {
    /// As the text about an empty selector has it.
    fn of_empty_selector(self) -> &'static str {
        match self {
            Self::Replica => "deployment",
            Self::Daemon => "daemonset",
            Self::Stateful => "statefulset",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Replica => "ReplicaSet",
            Self::Daemon => "DaemonSet",
            Self::Stateful => "StatefulSet",
        }
    }
}

/// The selector of a spec, and its template against it.
pub(crate) fn selector_and_template(spec: &Value, owner: Owner) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let selector = spec.get_or_null("selector");
    if spec.has("selector") {
        errors.extend(check::label_selector("spec.selector", selector));
        if check::selects_all(selector) {
            let detail = format!("empty selector is invalid for {}", owner.of_empty_selector());
            errors.push(FieldError::invalid("spec.selector", selector, &detail));
        }
    } else {
        errors.push(FieldError::required("spec.selector", ""));
    }
    if check::is_selector(selector) {
        errors.extend(template(spec, selector, owner));
    } else {
        let shown = super::golang::selector(selector);
        errors.push(FieldError::invalid_text("spec.selector", &shown, "invalid label selector"));
    }
    errors
}

fn template(spec: &Value, selector: &Value, owner: Owner) -> Vec<FieldError> {
    let template = spec.get_or_null("template");
    let labels = template.get_or_null("metadata").get_or_null("labels");
    let mut errors = Vec::new();
    let asks = !selector.is_object() || !check::selects_all(selector);
    if asks && !check::selects(selector, labels) {
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", labels, detail));
    }
    errors.extend(pod::check::template(template, "spec.template"));
    let pod = template.get_or_null("spec");
    errors.extend(check::one_of(
        "spec.template.spec.restartPolicy",
        pod.text("restartPolicy"),
        &["Always"],
    ));
    if pod.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {} is not Supported", owner.kind());
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", &detail));
    }
    errors
}

/// The selector may not change.
pub(crate) fn selector_is_immutable(object: &Value, old: &Value) -> Vec<FieldError> {
    let of = |one: &Value| one.get_or_null("spec").get_or_null("selector").clone();
    let (new, old) = (of(object), of(old));
    if same(&new, &old) {
        return Vec::new();
    }
    let shown = super::golang::selector(&new);
    vec![FieldError::invalid_text("spec.selector", &shown, check::IMMUTABLE)]
}

/// Counts of a status that may not be negative.
pub(crate) fn counts(status: &Value, fields: &[&str]) -> Vec<FieldError> {
    let one =
        |field: &&str| check::not_negative(&format!("status.{field}"), status.get_or_null(field));
    fields.iter().flat_map(one).collect()
}

/// Counts of a status that may not exceed another count.
pub(crate) fn at_most(
    status: &Value,
    fields: &[&str],
    limit: &str,
    limit_shown: &str,
) -> Vec<FieldError> {
    let detail = format!("cannot be greater than {limit_shown}");
    fields
        .iter()
        .filter(|field| status.int(field) > status.int(limit))
        .map(|field| {
            let count = status.int(field).into();
            FieldError::invalid(format!("status.{field}"), &count, &detail)
        })
        .collect()
}

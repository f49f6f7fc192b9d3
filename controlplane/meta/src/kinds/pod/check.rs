//! What is wrong with a pod or a pod template.
//!
//! Owns: the checks on a `PodSpec` but those on containers and volumes. Must not know: admission.
//! A newcomer's trap: errors come in Kubernetes' order, volumes and containers before policies.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::look::Look;

/// Checks a new pod, `metadata` apart.
pub(crate) fn pod(object: &Value) -> Vec<FieldError> {
    pod_spec(object.get_or_null("spec"), "spec")
}

/// Checks a pod template.
pub(crate) fn template(template: &Value, path: &str) -> Vec<FieldError> {
    pod_spec(template.get_or_null("spec"), &format!("{path}.spec"))
}

fn pod_spec(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.list("containers").is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    errors
}

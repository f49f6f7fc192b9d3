//! What an update of a pod may not change.
//!
//! Owns: the checks on updates of pods. Must not know: containers. A newcomer's trap: none yet.

use serde_json::Value;

use crate::field::FieldError;

pub(super) fn update(object: &Value, _old: &Value) -> Vec<FieldError> {
    super::check::pod(object)
}

pub(super) fn status(_object: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}

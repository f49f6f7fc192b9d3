//! What is wrong with a container.
//!
//! Owns: the checks on containers. Must not know: the pod around them. A newcomer's trap: none yet.

use serde_json::Value;

use super::resources::amount;
use crate::field::FieldError;

/// A quantity of a resource: not negative, and whole where halves make no sense.
pub(crate) fn quantity_of(path: &str, _name: &str, value: &Value) -> Vec<FieldError> {
    match amount(value) {
        Some(amount) if amount.sign() < 0 => {
            vec![FieldError::invalid(path, value, crate::kinds::check::NOT_NEGATIVE)]
        }
        _ => Vec::new(),
    }
}

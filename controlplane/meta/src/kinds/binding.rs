//! Bindings: the request that puts a pod on a node.
//!
//! Owns: what a Binding must say. Must not know: how the pod is updated. A newcomer's trap: a
//! Binding is never stored; the kind has no verb but `create`.

use serde_json::Value;

use super::check;
use super::look::Look;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Bindings.
#[derive(Debug)]
pub struct Binding;

impl Strategy for Binding {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let target = object.get_or_null("target");
        let mut errors = Vec::new();
        if !matches!(target.text("kind"), "" | "Node") {
            let kind = target.get_or_null("kind");
            errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
        }
        if target.text("name").is_empty() {
            errors.push(FieldError::required("target.name", ""));
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        check::path_segment_name(name, prefix)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_binding_names_a_node() {
        let got: Vec<_> = Binding
            .validate_create(&json!({"target": {"kind": "Pod"}}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            got,
            [
                "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
                "target.name: Required value",
            ]
        );
    }
}

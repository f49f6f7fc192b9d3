//! Namespaces.
//!
//! Owns: the rules of core/v1 Namespace. Must not know: how a namespace is emptied. A newcomer's
//! trap: `spec.finalizers` changes through `/finalize` only, and deletion sets the phase, so the
//! handlers of those two use [`prepare_finalize`] and [`prepare_deletion`].

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::look::{Change, Look};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The finalizer that keeps a namespace until it is empty.
pub const FINALIZER: &str = "kubernetes";

/// The rules of Namespaces.
#[derive(Debug)]
pub struct Namespace;

impl Strategy for Namespace {
    fn default(&self, object: &mut Value) {
        label_with_name(object);
        let status = object.child("status");
        status.default_text("phase", "Active");
    }

    fn prepare_create(&self, object: &mut Value) {
        label_with_name(object);
        object.put("status", json!({"phase": "Active"}));
        let spec = object.child("spec");
        let mut finalizers = spec.list("finalizers").to_vec();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        spec.put("finalizers", finalizers);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        label_with_name(object);
        object.child("spec").copy_field("finalizers", old.get_or_null("spec"));
        object.copy_field("status", old);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        finalizers(object, false)
    }

    fn validate_status_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        let phase = &object["status"]["phase"];
        let going = object.get_or_null("metadata").has("deletionTimestamp");
        let (wanted, detail) = if going {
            ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
        } else {
            ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
        };
        if phase.as_str().unwrap_or("") == wanted {
            return Vec::new();
        }
        vec![FieldError::invalid("status.Phase", phase, detail)]
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        check::label_name(name, prefix)
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        (field == "status.phase").then(|| object.get_or_null("status").text("phase").into())
    }

    fn is_selectable(&self, field: &str) -> bool {
        matches!(field, "status.phase" | "name")
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let phase = object.get_or_null("status").text("phase");
        vec![show::name(object), phase.into(), show::age(object, now)]
    }
}

/// Every namespace carries its name as a label.
fn label_with_name(object: &mut Value) {
    let name = object.get_or_null("metadata").text("name").to_owned();
    if !name.is_empty() {
        object.child("metadata").child("labels").put("kubernetes.io/metadata.name", name);
    }
}

fn finalizers(object: &Value, by_index: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, one) in object.get_or_null("spec").list("finalizers").iter().enumerate() {
        let path =
            if by_index { format!("spec.finalizers[{index}]") } else { "spec.finalizers".into() };
        errors.extend(check::finalizer_name(&path, one.as_str().unwrap_or("")));
    }
    errors
}

/// Prepares an update through `/finalize`: of all but the metadata only the finalizers change.
pub fn prepare_finalize(object: &mut Value, old: &Value) {
    let finalizers = object.get_or_null("spec").list("finalizers").to_vec();
    object.copy_field("spec", old);
    object.copy_field("status", old);
    let spec = object.child("spec");
    if finalizers.is_empty() {
        spec.drop_field("finalizers");
    } else {
        spec.put("finalizers", finalizers);
    }
}

/// What is wrong with an update through `/finalize`, `metadata` apart.
pub fn validate_finalize(object: &Value) -> Vec<FieldError> {
    finalizers(object, true)
}

/// Makes a namespace whose deletion was asked for `Terminating`.
pub fn prepare_deletion(object: &mut Value) {
    object.child("status").put("phase", "Terminating");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_is_active_labelled_and_kept() {
        let mut object =
            json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["example.com/a"]}});
        Namespace.default(&mut object);
        Namespace.prepare_create(&mut object);
        assert_eq!(object["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "n"}));
        assert_eq!(object["spec"]["finalizers"], json!(["example.com/a", "kubernetes"]));
        assert_eq!(object["status"], json!({"phase": "Active"}));
    }

    #[test]
    fn finalizers_need_a_domain_and_the_phase_follows_the_deletion() {
        let bad = json!({"spec": {"finalizers": ["mine"]}});
        let got: Vec<_> = validate_finalize(&bad).iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "spec.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"
            ]
        );
        let phase = |going: bool, phase: &str| {
            let time = if going { json!("2026-01-01T00:00:00Z") } else { Value::Null };
            let object =
                json!({"metadata": {"deletionTimestamp": time}, "status": {"phase": phase}});
            Namespace.validate_status_update(&object, &object).len()
        };
        assert_eq!((phase(false, "Active"), phase(true, "Terminating")), (0, 0));
        assert_eq!((phase(true, "Active"), phase(false, "Terminating")), (1, 1));
    }
}

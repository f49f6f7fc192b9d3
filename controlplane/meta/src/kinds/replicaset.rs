//! ReplicaSets.
//!
//! Owns: the rules of apps/v1 ReplicaSet. Must not know: how pods are made. A newcomer's trap: the
//! status must add up, or the controller's update is refused.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::look::{Change, Look, bump_generation_if, same};
use super::pod::{defaults, warning};
use super::show;
use super::template::{self, Owner};
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of ReplicaSets.
#[derive(Debug)]
pub struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
        let spec = object.child("spec");
        spec.default_to("replicas", 1);
        if spec.has("template") {
            defaults::template(spec.child("template"));
        }
        object.child("status").default_to("replicas", 0);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"replicas": 0}));
        object.child("metadata").put("generation", 1);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
        let changed = !same(object.get_or_null("spec"), old.get_or_null("spec"));
        bump_generation_if(changed, object, old);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let spec = object.get_or_null("spec");
        let mut errors = Vec::new();
        for field in ["replicas", "minReadySeconds"] {
            errors.extend(check::not_negative(&format!("spec.{field}"), spec.get_or_null(field)));
        }
        errors.extend(template::selector_and_template(spec, Owner::Replica));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(object);
        errors.extend(template::selector_is_immutable(object, old));
        errors
    }

    fn validate_status_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        let status = object.get_or_null("status");
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        let mut errors = template::counts(status, &["replicas"]);
        errors.extend(template::counts(status, &parts));
        errors.extend(template::counts(status, &["terminatingReplicas", "observedGeneration"]));
        errors.extend(template::at_most(status, &parts, "replicas", "status.replicas"));
        errors.extend(template::at_most(
            status,
            &["availableReplicas"],
            "readyReplicas",
            "readyReplicas",
        ));
        errors
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        let replicas = object.get_or_null("status").int("replicas");
        (field == "status.replicas").then(|| replicas.to_string())
    }

    fn is_selectable(&self, field: &str) -> bool {
        field == "status.replicas"
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        warning::with_template(object, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let (names, images) = show::containers(spec["template"].get_or_null("spec"));
        vec![
            show::name(object),
            spec.int("replicas").into(),
            status.int("replicas").into(),
            status.int("readyReplicas").into(),
            show::age(object, now),
            names.into(),
            images.into(),
            show::selector_cell(spec.get_or_null("selector")).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_figures_must_agree() {
        let status = json!({"status": {"replicas": 1, "fullyLabeledReplicas": 2,
            "readyReplicas": 0, "availableReplicas": 1}});
        let got: Vec<_> = ReplicaSet
            .validate_status_update(&status, &json!({}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            got,
            [
                "status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas",
            ]
        );
    }
}

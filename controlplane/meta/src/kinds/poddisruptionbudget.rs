//! PodDisruptionBudgets.
//!
//! Owns: the rules of policy/v1 PodDisruptionBudget. Must not know: how many pods there are. A
//! newcomer's trap: exactly one of the two bounds may be given.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::golang;
use super::look::{Change, Look, bump_generation_if, same};
use super::show;
use super::template;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of PodDisruptionBudgets.
#[derive(Debug)]
pub struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({}));
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
        let bounds = ["minAvailable", "maxUnavailable"];
        if bounds.iter().all(|bound| spec.has(bound)) {
            let shown = golang::compact("PodDisruptionBudgetSpec", spec);
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid_text("spec", &shown, detail));
        }
        for bound in bounds {
            let value = spec.get_or_null(bound);
            let path = format!("spec.{bound}");
            errors.extend(check::count_or_percent(&path, value));
            if super::deployment::percent(value).is_some_and(|percent| percent > 100) {
                let detail = "must not be greater than 100%";
                errors.push(FieldError::invalid(path, value, detail));
            }
        }
        errors.extend(check::label_selector("spec.selector", spec.get_or_null("selector")));
        if spec.has("unhealthyPodEvictionPolicy") {
            let policies = ["AlwaysAllow", "IfHealthyBudget"];
            let policy = spec.text("unhealthyPodEvictionPolicy");
            errors.extend(check::one_of("spec.unhealthyPodEvictionPolicy", policy, &policies));
        }
        errors
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate_create(object)
    }

    fn validate_status_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        template::counts(object.get_or_null("status"), &counts)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let bound = |field: &str| match spec.get_or_null(field) {
            Value::Null => Value::from("N/A"),
            Value::String(percent) => percent.clone().into(),
            number => number.to_string().into(),
        };
        vec![
            show::name(object),
            bound("minAvailable"),
            bound("maxUnavailable"),
            status.int("disruptionsAllowed").into(),
            show::age(object, now),
        ]
    }
}

//! PriorityClasses.
//!
//! Owns: the rules of scheduling.k8s.io/v1 PriorityClass. Must not know: who preempts whom. A
//! newcomer's trap: the two `system-` classes may exist only with their own values.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::{Change, Look};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

const USER_VALUE_MAX: i64 = 1_000_000_000;
const SYSTEM: &[(&str, i64)] =
    &[("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// The rules of PriorityClasses.
#[derive(Debug)]
pub struct PriorityClass;

impl Strategy for PriorityClass {
    fn default(&self, object: &mut Value) {
        object.default_to("preemptionPolicy", "PreemptLowerPriority");
    }

    fn prepare_create(&self, object: &mut Value) {
        object.child("metadata").put("generation", 1);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let name = object.get_or_null("metadata").text("name");
        let value = object.int("value");
        let mut errors = Vec::new();
        if name.starts_with("system-") {
            let why = match SYSTEM.iter().find(|(system, _)| *system == name) {
                None => Some(format!("{name} is not a known system priority class")),
                Some((_, wanted)) if *wanted != value => {
                    Some(format!("value of {name} PriorityClass must be {wanted}"))
                }
                Some(_) if object.flag("globalDefault") => {
                    Some(format!("globalDefault of {name} PriorityClass must be false"))
                }
                Some(_) => None,
            };
            if let Some(why) = why {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                errors.push(FieldError::forbidden("metadata.name", &detail));
            }
        } else if value > USER_VALUE_MAX {
            let detail =
                format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}");
            errors.push(FieldError::forbidden("value", &detail));
        }
        let policy = object.text("preemptionPolicy");
        let policies = ["PreemptLowerPriority", "Never"];
        errors.extend(check::one_of("preemptionPolicy", policy, &policies));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if object.int("value") != old.int("value") {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        let of = |one: &Value| one.get_or_null("preemptionPolicy").clone();
        errors.extend(check::immutable("preemptionPolicy", &of(object), &of(old)));
        errors
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            show::name(object),
            object.int("value").into(),
            object.flag("globalDefault").into(),
            show::age(object, now),
            object.text("preemptionPolicy").into(),
        ]
    }
}

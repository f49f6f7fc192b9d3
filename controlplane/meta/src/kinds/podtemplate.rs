//! PodTemplates.
//!
//! Owns: the rules of core/v1 PodTemplate. Must not know: who uses them. A newcomer's trap: the
//! template stands beside `metadata`, there is no `spec`.

use jiff::Timestamp;
use serde_json::Value;

use super::look::{Change, Look, bump_generation_if, same};
use super::pod::{self, defaults};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of PodTemplates.
#[derive(Debug)]
pub struct PodTemplate;

impl Strategy for PodTemplate {
    fn default(&self, object: &mut Value) {
        defaults::template(object.child("template"));
    }

    fn prepare_create(&self, object: &mut Value) {
        object.child("metadata").put("generation", 1);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        let changed = !same(object.get_or_null("template"), old.get_or_null("template"));
        bump_generation_if(changed, object, old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        pod::check::template(object.get_or_null("template"), "template")
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate_create(object)
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let template = object.get_or_null("template");
        let (names, images) = show::containers(template.get_or_null("spec"));
        let labels = show::labels(template.get_or_null("metadata"), "labels");
        vec![show::name(object), names.into(), images.into(), labels.into()]
    }
}

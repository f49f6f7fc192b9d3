//! ControllerRevisions.
//!
//! Owns: the rules of apps/v1 ControllerRevision. Must not know: what is in the data. A newcomer's
//! trap: the data never changes; only the revision number may.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::Look;
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of ControllerRevisions.
#[derive(Debug)]
pub struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if !object.has("data") {
            errors.push(FieldError::required("data", "data is mandatory"));
        }
        errors.extend(check::not_negative("revision", object.get_or_null("revision")));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(object);
        let both = (object.get_or_null("data"), old.get_or_null("data"));
        errors.extend(check::immutable("data", both.0, both.1));
        errors
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let owners = object.get_or_null("metadata").list("ownerReferences");
        let controller = owners.iter().find(|owner| owner.flag("controller")).map(|owner| {
            let kind = owner.text("kind").to_lowercase();
            let name = owner.text("name");
            match owner.text("apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{name}"),
                None => format!("{kind}/{name}"),
            }
        });
        vec![
            show::name(object),
            controller.unwrap_or_else(|| show::NONE.into()).into(),
            object.int("revision").into(),
            show::age(object, now),
        ]
    }
}

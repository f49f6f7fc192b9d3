//! RuntimeClasses.
//!
//! Owns: the rules of node.k8s.io/v1 RuntimeClass. Must not know: container runtimes. A newcomer's
//! trap: the handler never changes.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::Look;
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of RuntimeClasses.
#[derive(Debug)]
pub struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        check::dns_label("handler", object.text("handler"))
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        check::immutable("handler", object.get_or_null("handler"), old.get_or_null("handler"))
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![show::name(object), object.text("handler").into(), show::age(object, now)]
    }
}

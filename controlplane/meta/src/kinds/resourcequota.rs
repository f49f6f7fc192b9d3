//! ResourceQuotas.
//!
//! Owns: the rules of core/v1 ResourceQuota. Must not know: what is used. A newcomer's trap: the
//! table shows the status, since that is what is enforced.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::look::{Change, Look};
use super::pod::resource_check;
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of ResourceQuotas.
#[derive(Debug)]
pub struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        amounts(object.get_or_null("spec"), "hard", "spec.hard")
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(object);
        let scopes = |one: &Value| {
            let mut all = one.get_or_null("spec").list("scopes").to_vec();
            all.sort_by_key(ToString::to_string);
            Value::from(all)
        };
        if scopes(object) != scopes(old) {
            let shown = object.get_or_null("spec").get_or_null("scopes");
            errors.push(FieldError::invalid("spec.scopes", shown, check::IMMUTABLE));
        }
        errors
    }

    fn validate_status_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        let status = object.get_or_null("status");
        let mut errors = amounts(status, "hard", "status.hard");
        errors.extend(amounts(status, "used", "status.used"));
        errors
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let status = object.get_or_null("status");
        let used = status.get_or_null("used");
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in status.entries("hard") {
            let have = if used.has(name) { used.text(name) } else { "0" };
            let text = format!("{name}: {have}/{}", hard.as_str().unwrap_or("0"));
            if name.starts_with("limits.") { &mut limits } else { &mut requests }.push(text);
        }
        vec![
            show::name(object),
            requests.join(", ").into(),
            limits.join(", ").into(),
            show::age(object, now),
        ]
    }
}

fn amounts(owner: &Value, field: &str, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in owner.entries(field) {
        let path = format!("{path}[{name}]");
        errors.extend(resource_check::quota_resource(&path, name));
        errors.extend(resource_check::quantity_of(&path, name, value));
    }
    errors
}

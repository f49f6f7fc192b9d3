//! IngressClasses.
//!
//! Owns: the rules of networking.k8s.io/v1 IngressClass. Must not know: ingress controllers. A
//! newcomer's trap: the controller never changes.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::{Change, Look, bump_generation_if, same};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

const CONTROLLER_BYTES_MAX: usize = 250;

/// The rules of IngressClasses.
#[derive(Debug)]
pub struct IngressClass;

impl Strategy for IngressClass {
    fn prepare_create(&self, object: &mut Value) {
        object.child("metadata").put("generation", 1);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        let changed = !same(object.get_or_null("spec"), old.get_or_null("spec"));
        bump_generation_if(changed, object, old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let controller = object.get_or_null("spec").text("controller");
        let path = "spec.controller";
        let mut errors = Vec::new();
        if controller.len() > CONTROLLER_BYTES_MAX {
            errors.push(check::too_long(path, CONTROLLER_BYTES_MAX));
        }
        match controller.split_once('/') {
            _ if controller.is_empty() => errors.push(FieldError::required(path, "")),
            Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
                errors.extend(check::dns_subdomain(path, host));
            }
            _ => {
                let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                errors.push(check::invalid(path, controller, detail));
            }
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let of = |one: &Value| one.get_or_null("spec").get_or_null("controller").clone();
        let mut errors = check::immutable("spec.controller", &of(object), &of(old));
        errors.extend(self.validate_create(object));
        errors
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = object.get_or_null("spec");
        let parameters = spec.get_or_null("parameters");
        let shown = if parameters.is_object() {
            let kind = parameters.text("kind");
            let name = parameters.text("name");
            match parameters.text("apiGroup") {
                "" => format!("{kind}/{name}"),
                group => format!("{kind}.{group}/{name}"),
            }
        } else {
            show::NONE.into()
        };
        vec![
            show::name(object),
            spec.text("controller").into(),
            shown.into(),
            show::age(object, now),
        ]
    }
}

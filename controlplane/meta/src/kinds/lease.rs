//! Leases.
//!
//! Owns: the rules of coordination.k8s.io/v1 Lease. Must not know: who holds them. A newcomer's
//! trap: an update may create a lease.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::Look;
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Leases.
#[derive(Debug)]
pub struct Lease;

impl Strategy for Lease {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let spec = object.get_or_null("spec");
        if spec.int_opt("leaseDurationSeconds").is_some_and(|seconds| seconds <= 0) {
            let value = spec.get_or_null("leaseDurationSeconds");
            errors.push(FieldError::invalid(
                "spec.leaseDurationSeconds",
                value,
                "must be greater than 0",
            ));
        }
        errors.extend(check::not_negative(
            "spec.leaseTransitions",
            spec.get_or_null("leaseTransitions"),
        ));
        if spec.has("strategy") {
            errors.extend(check::strategy_name("spec.strategy", spec.text("strategy")));
        } else if !spec.text("preferredHolder").is_empty() {
            let detail = "may only be specified if `strategy` is defined";
            errors.push(FieldError::forbidden("spec.preferredHolder", detail));
        }
        errors
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate_create(object)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let holder = object.get_or_null("spec").text("holderIdentity");
        vec![show::name(object), holder.into(), show::age(object, now)]
    }

    fn may_create_on_update(&self) -> bool {
        true
    }

    fn may_update_unconditionally(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_rule_has_its_words() {
        let lease = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1,
            "preferredHolder": "a"}});
        let got: Vec<_> = Lease.validate_create(&lease).iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
            ]
        );
    }
}

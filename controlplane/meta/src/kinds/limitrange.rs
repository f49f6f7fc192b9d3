//! LimitRanges.
//!
//! Owns: the rules of core/v1 LimitRange. Must not know: the pods that are limited. A newcomer's
//! trap: for containers, what is missing among default and default request follows from max and
//! min.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::check;
use super::look::{Change, Look, Repeats};
use super::pod::resources::amount;
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;
use crate::quantity::Quantity;

/// The rules of LimitRanges.
#[derive(Debug)]
pub struct LimitRange;

impl Strategy for LimitRange {
    fn default(&self, object: &mut Value) {
        for limit in object.child("spec").items_mut("limits") {
            if limit.text("type") != "Container" {
                continue;
            }
            let of = |limit: &Value, field: &str| -> Map<String, Value> {
                limit.get_or_null(field).as_object().cloned().unwrap_or_default()
            };
            let fill = |limit: &mut Value, field: &str, from: Map<String, Value>| {
                let mut all = of(limit, field);
                for (name, value) in from {
                    all.entry(name).or_insert(value);
                }
                if !all.is_empty() {
                    limit.put(field, all);
                }
            };
            let (max, min) = (of(limit, "max"), of(limit, "min"));
            fill(limit, "default", max);
            let default = of(limit, "default");
            fill(limit, "defaultRequest", default);
            fill(limit, "defaultRequest", min);
        }
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let limits = object.get_or_null("spec").list("limits");
        let repeats = Repeats::by(limits, "type");
        for (index, limit) in limits.iter().enumerate() {
            let path = format!("spec.limits[{index}]");
            let kind = limit.text("type");
            errors.extend(limit_type(&format!("{path}.type"), kind));
            if repeats.at(index) {
                errors.push(FieldError::duplicate(format!("{path}.type"), &kind.into()));
            }
            if kind == "Pod" {
                for field in ["default", "defaultRequest"] {
                    if limit.size(field) > 0 {
                        let detail = "may not be specified when `type` is 'Pod'";
                        errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
                    }
                }
            }
            let bounds = ["min", "max"];
            let storage = bounds.iter().any(|bound| limit.get_or_null(bound).has("storage"));
            if kind == "PersistentVolumeClaim" && !storage {
                let detail =
                    "either minimum or maximum storage value is required, but neither was provided";
                errors.push(FieldError::required(path.clone(), detail));
            }
            errors.extend(order(limit, &path));
        }
        errors
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate_create(object)
    }

    fn may_create_on_update(&self) -> bool {
        true
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let made = object.get_or_null("metadata").get_or_null("creationTimestamp");
        vec![show::name(object), made.clone()]
    }
}

fn limit_type(path: &str, kind: &str) -> Vec<FieldError> {
    let errors = check::qualified_name(path, kind);
    let known = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if errors.is_empty() && !kind.contains('/') && !known {
        let detail = "must be a standard limit type or fully qualified";
        return vec![check::invalid(path, kind, detail)];
    }
    errors
}

/// The five figures of each resource must lie in order.
fn order(limit: &Value, path: &str) -> Vec<FieldError> {
    let fields = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let names: std::collections::BTreeSet<&str> =
        fields.iter().flat_map(|field| limit.entries(field)).map(|(name, _)| name).collect();
    // Where the error stands and whose value it shows; what may not exceed what.
    type Rule =
        (&'static str, &'static str, (&'static str, &'static str), (&'static str, &'static str));
    const RULES: &[Rule] = &[
        ("min", "min", ("min", "min"), ("max", "max")),
        ("defaultRequest", "defaultRequest", ("min", "min"), ("defaultRequest", "default request")),
        ("defaultRequest", "defaultRequest", ("defaultRequest", "default request"), ("max", "max")),
        (
            "defaultRequest",
            "defaultRequest",
            ("defaultRequest", "default request"),
            ("default", "default limit"),
        ),
        ("default", "min", ("min", "min"), ("default", "default")),
        ("default", "max", ("default", "default"), ("max", "max")),
    ];
    let mut errors = Vec::new();
    for name in names {
        let of = |field: &str| amount(limit.get_or_null(field).get_or_null(name));
        for (at, whose, (low, low_word), (high, high_word)) in RULES {
            let (Some(lower), Some(higher)) = (of(low), of(high)) else { continue };
            if lower > higher {
                let detail =
                    format!("{low_word} value {lower} is greater than {high_word} value {higher}");
                let shown = limit.get_or_null(whose).get_or_null(name);
                errors.push(FieldError::invalid(format!("{path}.{at}[{name}]"), shown, &detail));
            }
        }
        if let Some(ratio) =
            of("maxLimitRequestRatio").filter(|ratio| *ratio < Quantity::from_milli(1000))
        {
            let path = format!("{path}.maxLimitRequestRatio[{name}]");
            let shown = limit.get_or_null("maxLimitRequestRatio").get_or_null(name);
            let detail = format!("ratio {ratio} is less than 1");
            errors.push(FieldError::invalid(path, shown, &detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_lie_in_order() {
        let range = json!({"spec": {"limits": [
            {"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}},
            {"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}},
            {"type": "PersistentVolumeClaim"}, {"type": "Thing"}, {"type": "Pod"}]}});
        let got: Vec<_> =
            LimitRange.validate_create(&range).iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
                "spec.limits[1].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
                "spec.limits[2]: Required value: either minimum or maximum storage value is required, but neither was provided",
                "spec.limits[3].type: Invalid value: \"Thing\": must be a standard limit type or fully qualified",
                "spec.limits[4].type: Duplicate value: \"Pod\"",
            ]
        );
    }
}

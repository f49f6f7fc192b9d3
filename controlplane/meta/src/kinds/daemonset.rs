//! DaemonSets.
//!
//! Owns: the rules of apps/v1 DaemonSet. Must not know: nodes. A newcomer's trap: an annotation
//! still counts the changes of the template beside the generation, as older clients expect.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::deployment::{amount, percent};
use super::golang;
use super::look::{Change, Look, bump_generation_if, same};
use super::pod::{defaults, warning};
use super::show;
use super::template::{self, Owner};
use crate::field::FieldError;
use crate::kind::Strategy;

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The rules of DaemonSets.
#[derive(Debug)]
pub struct DaemonSet;

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Value) {
        let spec = object.child("spec");
        let strategy = spec.child("updateStrategy");
        strategy.default_text("type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate" {
            let rolling = strategy.child("rollingUpdate");
            rolling.default_to("maxUnavailable", 1);
            rolling.default_to("maxSurge", 0);
        }
        spec.default_to("revisionHistoryLimit", 10);
        defaults::template(spec.child("template"));
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({}));
        object.child("metadata").put("generation", 1);
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
        let spec = |one: &Value| one.get_or_null("spec").clone();
        let (new, before) = (spec(object), spec(old));
        bump_generation_if(!same(&new, &before), object, old);
        let changed = !same(new.get_or_null("template"), before.get_or_null("template"));
        let generation = template_generation(old) + i64::from(changed);
        set_template_generation(object, generation);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let spec = object.get_or_null("spec");
        let mut errors = template::selector_and_template(spec, Owner::Daemon);
        errors.extend(check::not_negative(
            "spec.minReadySeconds",
            spec.get_or_null("minReadySeconds"),
        ));
        errors.extend(strategy(spec.get_or_null("updateStrategy")));
        errors.extend(check::not_negative(
            "spec.revisionHistoryLimit",
            spec.get_or_null("revisionHistoryLimit"),
        ));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(object);
        errors.extend(template::selector_is_immutable(object, old));
        errors
    }

    fn validate_status_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        template::counts(
            object.get_or_null("status"),
            &[
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
                "collisionCount",
            ],
        )
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        warning::with_template(object, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let pod = spec.get_or_null("template").get_or_null("spec");
        let (names, images) = show::containers(pod);
        vec![
            show::name(object),
            status.int("desiredNumberScheduled").into(),
            status.int("currentNumberScheduled").into(),
            status.int("numberReady").into(),
            status.int("updatedNumberScheduled").into(),
            status.int("numberAvailable").into(),
            show::labels(pod, "nodeSelector").into(),
            show::age(object, now),
            names.into(),
            images.into(),
            show::selector_cell(spec.get_or_null("selector")).into(),
        ]
    }
}

fn template_generation(object: &Value) -> i64 {
    let annotations = object.get_or_null("metadata").get_or_null("annotations");
    annotations.text(TEMPLATE_GENERATION).parse().unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let annotations = object.child("metadata").child("annotations");
    annotations.put(TEMPLATE_GENERATION, generation.to_string());
}

fn strategy(strategy: &Value) -> Vec<FieldError> {
    let path = "spec.updateStrategy";
    match strategy.text("type") {
        "OnDelete" => Vec::new(),
        "RollingUpdate" if !strategy.has("rollingUpdate") => {
            vec![FieldError::required(format!("{path}.rollingUpdate"), "")]
        }
        "RollingUpdate" => {
            rolling_update(strategy.get_or_null("rollingUpdate"), &format!("{path}.rollingUpdate"))
        }
        _ => {
            let shown = golang::compact("DaemonSetUpdateStrategy", strategy);
            vec![FieldError::not_supported_text(path, &shown, &["RollingUpdate", "OnDelete"])]
        }
    }
}

fn rolling_update(rolling: &Value, path: &str) -> Vec<FieldError> {
    let unavailable = rolling.get_or_null("maxUnavailable");
    let surge = rolling.get_or_null("maxSurge");
    let mut errors = Vec::new();
    for (field, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
        errors.extend(check::count_or_percent(&format!("{path}.{field}"), value));
    }
    for (field, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
        if percent(value).is_some_and(|percent| percent > 100) {
            let detail = "must not be greater than 100%";
            errors.push(FieldError::invalid(format!("{path}.{field}"), value, detail));
        }
    }
    match (amount(unavailable) != 0, amount(surge) != 0) {
        (true, true) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(format!("{path}.maxSurge"), surge, detail));
        }
        (false, false) => {
            let detail = "cannot be 0 when maxSurge is 0";
            errors.push(FieldError::required(format!("{path}.maxUnavailable"), detail));
        }
        _ => {}
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_are_counted() {
        let mut old = json!({"spec": {"template": {"a": 1}}});
        DaemonSet.prepare_create(&mut old);
        let mut new = json!({"metadata": {}, "spec": {"template": {"a": 1}, "minReadySeconds": 3}});
        DaemonSet.prepare_update(&mut new, &old);
        assert_eq!((new["metadata"].int("generation"), template_generation(&new)), (2, 1));
        new["spec"]["template"] = json!({"a": 2});
        DaemonSet.prepare_update(&mut new, &old);
        assert_eq!((new["metadata"].int("generation"), template_generation(&new)), (2, 2));
    }

    #[test]
    fn one_of_surge_and_unavailable() {
        let of = |unavailable: i64, surge: i64| {
            let rolling = json!({"maxUnavailable": unavailable, "maxSurge": surge});
            rolling_update(&rolling, "r").iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(1, 0), [""; 0]);
        assert_eq!(
            of(1, 1),
            ["r.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"]
        );
        assert_eq!(of(0, 0), ["r.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]);
    }
}

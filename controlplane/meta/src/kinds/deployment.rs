//! Deployments.
//!
//! Owns: the rules of apps/v1 Deployment. Must not know: how a rollout goes. A newcomer's trap:
//! the generation grows with annotations too, not only with the spec.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::golang;
use super::look::{Change, Look, bump_generation_if, same};
use super::pod::{defaults, warning};
use super::show;
use super::template::{self, Owner};
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Deployments.
#[derive(Debug)]
pub struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Value) {
        let spec = object.child("spec");
        spec.default_to("replicas", 1);
        let strategy = spec.child("strategy");
        strategy.default_text("type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate" {
            let rolling = strategy.child("rollingUpdate");
            rolling.default_to("maxUnavailable", "25%");
            rolling.default_to("maxSurge", "25%");
        }
        spec.default_to("revisionHistoryLimit", 10);
        spec.default_to("progressDeadlineSeconds", 600);
        defaults::template(spec.child("template"));
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({}));
        object.child("metadata").put("generation", 1);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
        let notes = |one: &Value| one.get_or_null("metadata").get_or_null("annotations").clone();
        let changed = !same(object.get_or_null("spec"), old.get_or_null("spec"))
            || !same(&notes(object), &notes(old));
        bump_generation_if(changed, object, old);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
        object.child("metadata").copy_field("labels", old.get_or_null("metadata"));
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let spec = object.get_or_null("spec");
        let mut errors = check::not_negative("spec.replicas", spec.get_or_null("replicas"));
        errors.extend(template::selector_and_template(spec, Owner::Replica));
        errors.extend(strategy(spec.get_or_null("strategy")));
        for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            errors.extend(check::not_negative(&format!("spec.{field}"), spec.get_or_null(field)));
        }
        if let Some(deadline) = spec.int_opt("progressDeadlineSeconds")
            && deadline <= spec.int("minReadySeconds")
        {
            let detail = "must be greater than minReadySeconds";
            let field = "spec.progressDeadlineSeconds";
            errors.push(FieldError::invalid(field, &deadline.into(), detail));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(object);
        errors.extend(template::selector_is_immutable(object, old));
        errors
    }

    fn validate_status_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let status = object.get_or_null("status");
        let mut errors = template::counts(
            status,
            &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ],
        );
        let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
        errors.extend(template::at_most(status, &parts, "replicas", "status.replicas"));
        errors.extend(template::at_most(
            status,
            &["availableReplicas"],
            "readyReplicas",
            "readyReplicas",
        ));
        let before = old.get_or_null("status").int("collisionCount");
        if status.int("collisionCount") < before {
            let count = status.int("collisionCount").into();
            let detail = "cannot be decremented";
            errors.push(FieldError::invalid("status.collisionCount", &count, detail));
        }
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        warning::with_template(object, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let (names, images) = show::containers(spec["template"].get_or_null("spec"));
        vec![
            show::name(object),
            format!("{}/{}", status.int("readyReplicas"), spec.int("replicas")).into(),
            status.int("updatedReplicas").into(),
            status.int("availableReplicas").into(),
            show::age(object, now),
            names.into(),
            images.into(),
            show::selector(spec.get_or_null("selector")).into(),
        ]
    }
}

fn strategy(strategy: &Value) -> Vec<FieldError> {
    match strategy.text("type") {
        "Recreate" if strategy.has("rollingUpdate") => vec![FieldError::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        )],
        "Recreate" => Vec::new(),
        "RollingUpdate" if !strategy.has("rollingUpdate") => vec![FieldError::required(
            "spec.strategy.rollingUpdate",
            "this should be defaulted and never be nil",
        )],
        "RollingUpdate" => rolling_update(strategy.get_or_null("rollingUpdate")),
        _ => {
            let shown = golang::compact("DeploymentStrategy", strategy);
            vec![FieldError::not_supported_text(
                "spec.strategy",
                &shown,
                &["Recreate", "RollingUpdate"],
            )]
        }
    }
}

fn rolling_update(rolling: &Value) -> Vec<FieldError> {
    let path = "spec.strategy.rollingUpdate";
    let unavailable = rolling.get_or_null("maxUnavailable");
    let surge = rolling.get_or_null("maxSurge");
    let mut errors = check::count_or_percent(&format!("{path}.maxUnavailable"), unavailable);
    errors.extend(check::count_or_percent(&format!("{path}.maxSurge"), surge));
    if amount(unavailable) == 0 && amount(surge) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(format!("{path}.maxUnavailable"), unavailable, detail));
    }
    if percent(unavailable).is_some_and(|percent| percent > 100) {
        let detail = "must not be greater than 100%";
        errors.push(FieldError::invalid(format!("{path}.maxUnavailable"), unavailable, detail));
    }
    errors
}

/// The figure of a percent text, if it is one.
pub(super) fn percent(value: &Value) -> Option<i64> {
    value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse().ok())
}

/// The number in a count or percent text, 0 for what is none.
pub(super) fn amount(value: &Value) -> i64 {
    percent(value).or(value.as_i64()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(strategy_of: Value) -> Vec<String> {
        strategy(&strategy_of).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn strategies() {
        let rolling = |unavailable: Value, surge: Value| {
            json!({"type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}})
        };
        for (strategy, wanted) in [
            (json!({"type": "Recreate"}), vec![]),
            (
                json!({"type": "Recreate", "rollingUpdate": {}}),
                vec![
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
            (
                rolling("101%".into(), 0.into()),
                vec![
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                ],
            ),
            (
                rolling((-1).into(), 1.into()),
                vec![
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                rolling("0%".into(), "0%".into()),
                vec![
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
                ],
            ),
        ] {
            assert_eq!(shown(strategy.clone()), wanted, "{strategy}");
        }
    }

    #[test]
    fn status_figures_must_agree() {
        let status = json!({"status": {"replicas": 1, "updatedReplicas": 2, "readyReplicas": 0,
            "availableReplicas": 1, "observedGeneration": -1}});
        let got: Vec<_> = Deployment
            .validate_status_update(&status, &json!({"status": {"collisionCount": 1}}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            got,
            [
                "status.observedGeneration: Invalid value: -1: must be greater than or equal to 0",
                "status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas",
                "status.collisionCount: Invalid value: 0: cannot be decremented"
            ]
        );
    }

    #[test]
    fn the_generation_follows_spec_and_annotations() {
        let old = json!({"metadata": {"generation": 1}, "spec": {"replicas": 1},
            "status": {"replicas": 1}});
        for (new, wanted) in [
            (json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1}}), 1),
            (json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"replicas": 1}}), 2),
            (json!({"metadata": {}, "spec": {"replicas": 2}}), 2),
        ] {
            let mut new = new;
            Deployment.prepare_update(&mut new, &old);
            assert_eq!(new["metadata"]["generation"], wanted, "{new}");
            assert_eq!(new["status"], old["status"]);
        }
    }
}

//! ReplicationControllers.
//!
//! Owns: the rules of core/v1 ReplicationController. Must not know: how pods are made. A newcomer's
//! trap: the selector is a plain map, and is taken from the template when it is missing.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::look::{Change, Look, bump_generation_if, same};
use super::pod::{self, defaults, warning};
use super::show;
use super::template;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of ReplicationControllers.
#[derive(Debug)]
pub struct ReplicationController;

impl Strategy for ReplicationController {
    fn default(&self, object: &mut Value) {
        let template = object.get_or_null("spec").get_or_null("template");
        let labels = template.get_or_null("metadata").get_or_null("labels").clone();
        let spec = object.child("spec");
        if labels.is_object() {
            if spec.size("selector") == 0 {
                spec.put("selector", labels.clone());
            }
            let metadata = object.child("metadata");
            if metadata.size("labels") == 0 {
                metadata.put("labels", labels);
            }
        }
        let spec = object.child("spec");
        spec.default_to("replicas", 1);
        if spec.has("template") {
            defaults::template(spec.child("template"));
        }
        object.child("status").default_to("replicas", 0);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"replicas": 0}));
        object.child("metadata").put("generation", 1);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
        let changed = !same(object.get_or_null("spec"), old.get_or_null("spec"));
        bump_generation_if(changed, object, old);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let spec = object.get_or_null("spec");
        let mut errors = Vec::new();
        let seconds = spec.get_or_null("minReadySeconds");
        errors.extend(check::not_negative("spec.minReadySeconds", seconds));
        if spec.size("selector") == 0 {
            errors.push(FieldError::required("spec.selector", ""));
        }
        errors.extend(check::not_negative("spec.replicas", spec.get_or_null("replicas")));
        if !spec.has("template") {
            errors.push(FieldError::required("spec.template", ""));
            return errors;
        }
        let of = spec.get_or_null("template");
        let labels = of.get_or_null("metadata").get_or_null("labels");
        let wanted = json!({"matchLabels": spec.get_or_null("selector")});
        if spec.size("selector") > 0 && !check::selects(&wanted, labels) {
            let detail = "`selector` does not match template `labels`";
            errors.push(FieldError::invalid("spec.template.metadata.labels", labels, detail));
        }
        errors.extend(pod::check::template(of, "spec.template"));
        let policy = of.get_or_null("spec").text("restartPolicy");
        errors.extend(check::one_of("spec.template.spec.restartPolicy", policy, &["Always"]));
        if of.get_or_null("spec").has("activeDeadlineSeconds") {
            let detail = "activeDeadlineSeconds in ReplicationController is not Supported";
            let path = "spec.template.spec.activeDeadlineSeconds";
            errors.push(FieldError::forbidden(path, detail));
        }
        errors
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate_create(object)
    }

    fn validate_status_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        let status = object.get_or_null("status");
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        let mut errors = template::counts(status, &["replicas"]);
        errors.extend(template::counts(status, &parts));
        errors.extend(template::counts(status, &["observedGeneration"]));
        errors.extend(template::at_most(status, &parts, "replicas", "status.replicas"));
        errors.extend(template::at_most(
            status,
            &["availableReplicas"],
            "readyReplicas",
            "readyReplicas",
        ));
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        warning::with_template(object, old)
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        let replicas = object.get_or_null("status").int("replicas");
        (field == "status.replicas").then(|| replicas.to_string())
    }

    fn is_selectable(&self, field: &str) -> bool {
        field == "status.replicas"
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let (names, images) = show::containers(spec.get_or_null("template").get_or_null("spec"));
        vec![
            show::name(object),
            spec.int("replicas").into(),
            status.int("replicas").into(),
            status.int("readyReplicas").into(),
            show::age(object, now),
            names.into(),
            images.into(),
            show::labels(spec, "selector").into(),
        ]
    }
}

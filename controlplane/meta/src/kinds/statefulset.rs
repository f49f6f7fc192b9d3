//! StatefulSets.
//!
//! Owns: the rules of apps/v1 StatefulSet. Must not know: how pods get their names. A newcomer's
//! trap: most of the spec may never change, claim templates among it.

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

/// Fields of the spec that an update may change.
const OPEN_FIELDS: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// The rules of StatefulSets.
#[derive(Debug)]
pub struct StatefulSet;

impl Strategy for StatefulSet {
    fn default(&self, object: &mut Value) {
        let spec = object.child("spec");
        spec.default_text("podManagementPolicy", "OrderedReady");
        let strategy = spec.child("updateStrategy");
        strategy.default_text("type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate" {
            strategy.child("rollingUpdate").default_to("partition", 0);
        }
        let policy = spec.child("persistentVolumeClaimRetentionPolicy");
        policy.default_text("whenDeleted", "Retain");
        policy.default_text("whenScaled", "Retain");
        spec.default_to("replicas", 1);
        spec.default_to("revisionHistoryLimit", 10);
        defaults::template(spec.child("template"));
        for claim in spec.items_mut("volumeClaimTemplates") {
            claim.put("apiVersion", "v1");
            claim.put("kind", "PersistentVolumeClaim");
            claim.child("spec").default_to("volumeMode", "Filesystem");
            claim.child("status").default_text("phase", "Pending");
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({}));
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
        let mut errors = policies(spec);
        for field in ["replicas", "minReadySeconds"] {
            errors.extend(check::not_negative(&format!("spec.{field}"), spec.get_or_null(field)));
        }
        let start = spec.get_or_null("ordinals").get_or_null("start");
        errors.extend(check::not_negative("spec.ordinals.start", start));
        errors.extend(template::selector_and_template(spec, Owner::Stateful));
        let limit = spec.get_or_null("revisionHistoryLimit");
        errors.extend(check::not_negative("spec.revisionHistoryLimit", limit));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(object);
        let closed = |one: &Value| {
            let mut spec = one.get_or_null("spec").clone();
            for field in OPEN_FIELDS {
                spec.drop_field(field);
            }
            spec
        };
        if !same(&closed(object), &closed(old)) {
            errors.push(FieldError::forbidden(
                "spec",
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                 'template', 'updateStrategy', 'revisionHistoryLimit', \
                 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ));
        }
        errors
    }

    fn validate_status_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        let status = object.get_or_null("status");
        let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        let mut errors = template::counts(status, &["replicas"]);
        errors.extend(template::counts(status, &parts));
        errors.extend(template::counts(status, &["observedGeneration", "collisionCount"]));
        errors.extend(template::at_most(status, &parts, "replicas", "status.replicas"));
        errors.extend(template::at_most(
            status,
            &["availableReplicas"],
            "readyReplicas",
            "status.readyReplicas",
        ));
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        check::label_name(name, prefix)
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        warning::with_template(object, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let (names, images) = show::containers(spec.get_or_null("template").get_or_null("spec"));
        vec![
            show::name(object),
            format!("{}/{}", status.int("readyReplicas"), spec.int("replicas")).into(),
            show::age(object, now),
            names.into(),
            images.into(),
        ]
    }
}

fn policies(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match spec.text("podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(FieldError::required("spec.podManagementPolicy", "")),
        other => errors.push(check::invalid(
            "spec.podManagementPolicy",
            other,
            "must be 'OrderedReady' or 'Parallel'",
        )),
    }
    let strategy = spec.get_or_null("updateStrategy");
    let path = "spec.updateStrategy";
    match strategy.text("type") {
        "" => errors.push(FieldError::required(path, "")),
        "OnDelete" if strategy.has("rollingUpdate") => {
            let shown =
                golang::compact("RollingUpdateStatefulSet", strategy.get_or_null("rollingUpdate"));
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid_text(format!("{path}.rollingUpdate"), &shown, detail));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let partition = strategy.get_or_null("rollingUpdate").get_or_null("partition");
            let path = format!("{path}.rollingUpdate.partition");
            errors.extend(check::not_negative(&path, partition));
        }
        _ => {
            let shown = golang::compact("StatefulSetUpdateStrategy", strategy);
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid_text(path, &shown, detail));
        }
    }
    let claims = spec.get_or_null("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let path = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
        errors.extend(check::one_of(&path, claims.text(field), &["Delete", "Retain"]));
    }
    errors
}

//! PersistentVolumeClaims.
//!
//! Owns: the rules of core/v1 PersistentVolumeClaim. Must not know: volumes. A newcomer's trap: a
//! claim without a class may get one later, once; all else but the size asked for is fixed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::golang;
use super::look::{Change, Look, same};
use super::pod::resources::amount;
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

const MODES: &[(&str, &str)] = &[
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOnce", "RWO"),
    ("ReadWriteOncePod", "RWOP"),
];

/// The rules of PersistentVolumeClaims.
#[derive(Debug)]
pub struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn default(&self, object: &mut Value) {
        object.child("spec").default_to("volumeMode", "Filesystem");
        object.child("status").default_text("phase", "Pending");
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"phase": "Pending"}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        claim_spec(object.get_or_null("spec"), "spec")
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate_create(object);
        let (spec, before) = (object.get_or_null("spec"), old.get_or_null("spec"));
        errors.extend(fixed(spec, before, old.get_or_null("status").text("phase") == "Bound"));
        errors
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let going = object.get_or_null("metadata").has("deletionTimestamp");
        let volume = spec.text("volumeName");
        let (capacity, modes) = if volume.is_empty() {
            (String::new(), String::new())
        } else {
            let capacity = status.get_or_null("capacity").text("storage").to_owned();
            (capacity, access_modes(status.list("accessModes")))
        };
        let class = spec.text("volumeAttributesClassName");
        vec![
            show::name(object),
            if going { "Terminating" } else { status.text("phase") }.into(),
            volume.into(),
            capacity.into(),
            modes.into(),
            spec.text("storageClassName").into(),
            show::or(class, "<unset>").into(),
            show::age(object, now),
            show::or(spec.text("volumeMode"), "<unset>").into(),
        ]
    }
}

/// Access modes in short, in a fixed order.
fn access_modes(modes: &[Value]) -> String {
    let order = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
    let short = |mode: &&str| MODES.iter().find(|(long, _)| long == mode).map(|(_, short)| *short);
    let given = order.iter().filter(|mode| modes.iter().any(|one| one == **mode));
    given.filter_map(short).collect::<Vec<_>>().join(",")
}

/// The spec of a claim.
pub(crate) fn claim_spec(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let modes = spec.list("accessModes");
    let at = format!("{path}.accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(at.clone(), "at least 1 access mode is required"));
    }
    errors.extend(check::label_selector(&format!("{path}.selector"), spec.get_or_null("selector")));
    let known: Vec<&str> = MODES.iter().map(|(long, _)| *long).collect();
    for mode in modes {
        errors.extend(check::one_of(&at, mode.as_str().unwrap_or(""), &known));
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(at, detail));
    }
    let asked = spec.get_or_null("resources").get_or_null("requests").get_or_null("storage");
    let at = format!("{path}.resources[storage]");
    match amount(asked) {
        None => errors.push(FieldError::required(at, "")),
        Some(amount) if amount.sign() <= 0 => {
            errors.push(FieldError::invalid(at, asked, "must be greater than zero"));
        }
        Some(_) => {}
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        if !spec.text(field).is_empty() {
            errors.extend(check::dns_subdomain(&format!("{path}.{field}"), spec.text(field)));
        }
    }
    if spec.has("volumeMode") {
        let kinds = ["Block", "Filesystem"];
        errors.extend(check::one_of(
            &format!("{path}.volumeMode"),
            spec.text("volumeMode"),
            &kinds,
        ));
    }
    errors
}

fn fixed(spec: &Value, before: &Value, bound: bool) -> Vec<FieldError> {
    let mut munged = spec.clone();
    if before.text("volumeName").is_empty() {
        munged.copy_field("volumeName", before);
    }
    if !before.has("storageClassName") {
        munged.copy_field("storageClassName", before);
    }
    let mut errors = Vec::new();
    let asked = |spec: &Value| {
        amount(spec.get_or_null("resources").get_or_null("requests").get_or_null("storage"))
    };
    let grown = asked(spec) != asked(before);
    if bound {
        munged.copy_field("resources", before);
        munged.copy_field("volumeAttributesClassName", before);
        if asked(spec) < asked(before) {
            let detail = "field can not be less than status.capacity";
            errors.push(FieldError::forbidden("spec.resources.requests.storage", detail));
        }
    } else if grown {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden("spec", detail));
        return errors;
    }
    if !same(&munged, before) {
        let shown = |spec: &Value| golang::pretty("PersistentVolumeClaimSpec", spec);
        let diff = golang::unified(&shown(before), &shown(&munged));
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{diff}"
        );
        errors.push(FieldError::forbidden("spec", &detail));
    }
    errors
}

//! Jobs.
//!
//! Owns: the rules of batch/v1 Job. Must not know: how pods are run. A newcomer's trap: the
//! selector and its labels are made from the job's uid, which the server sets before this runs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::golang;
use super::look::{Change, Look, bump_generation_if, same};
use super::pod::{self, defaults};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Jobs.
#[derive(Debug)]
pub struct Job;

impl Strategy for Job {
    fn default(&self, object: &mut Value) {
        let spec = object.child("spec");
        if !spec.has("completions") && !spec.has("parallelism") {
            spec.put("completions", 1);
        }
        spec.default_to("parallelism", 1);
        if !spec.has("backoffLimit") {
            let limit = if spec.has("backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
            spec.put("backoffLimit", limit);
        }
        spec.default_to("completionMode", "NonIndexed");
        spec.default_to("suspend", false);
        spec.default_to("manualSelector", false);
        let policy = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
        spec.default_to("podReplacementPolicy", policy);
        defaults::template(spec.child("template"));
        let labels = spec["template"].get_or_null("metadata").get_or_null("labels").clone();
        let metadata = object.child("metadata");
        if metadata.size("labels") == 0 && labels.is_object() {
            metadata.put("labels", labels);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({}));
        object.child("metadata").put("generation", 1);
        if !object.get_or_null("spec").flag("manualSelector") {
            generate_selector(object);
        }
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
        let mut errors = job_spec(spec, "spec");
        let selector = spec.get_or_null("selector");
        if spec.has("selector") {
            errors.extend(check::label_selector("spec.selector", selector));
            let labels = spec["template"].get_or_null("metadata").get_or_null("labels");
            if !check::selects(selector, labels) {
                let detail = "`selector` does not match template `labels`";
                errors.push(FieldError::invalid("spec.template.metadata.labels", labels, detail));
            }
        } else {
            errors.push(FieldError::required("spec.selector", ""));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = job_spec(object.get_or_null("spec"), "spec");
        let (spec, before) = (object.get_or_null("spec"), old.get_or_null("spec"));
        for field in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"] {
            let both = (spec.get_or_null(field), before.get_or_null(field));
            errors.extend(check::immutable(&format!("spec.{field}"), both.0, both.1));
        }
        let indexed = before.text("completionMode") == "Indexed";
        let both = (spec.get_or_null("completions"), before.get_or_null("completions"));
        if !indexed {
            errors.extend(check::immutable("spec.completions", both.0, both.1));
        }
        let (new, was) = (spec.get_or_null("template"), before.get_or_null("template"));
        if !same(new, was) {
            let mut inside = new.get_or_null("metadata").clone();
            let shown = golang::internal_pod_spec(new.get_or_null("spec"));
            if let Value::Null = inside {
                inside = json!({});
            }
            inside.put("spec", shown);
            let shown = golang::compact("PodTemplateSpec", &inside);
            let error = FieldError::invalid_text("spec.template", &shown, check::IMMUTABLE);
            errors.push(error);
        }
        errors
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        let done = object.get_or_null("status").int("succeeded");
        (field == "status.successful").then(|| done.to_string())
    }

    fn is_selectable(&self, field: &str) -> bool {
        field == "status.successful"
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let (names, images) = show::containers(spec["template"].get_or_null("spec"));
        let done = status.int("succeeded");
        let completions = match spec.int_opt("completions") {
            Some(all) => format!("{done}/{all}"),
            None => match spec.int("parallelism") {
                parallel if parallel > 1 => format!("{done}/1 of {parallel}"),
                _ => format!("{done}/1"),
            },
        };
        let time = |field: &str| show::parse_time(status.get_or_null(field));
        let duration = match (time("startTime"), time("completionTime")) {
            (None, _) => String::new(),
            (Some(start), end) => {
                show::human_duration(end.unwrap_or(now).duration_since(start).as_secs())
            }
        };
        vec![
            show::name(object),
            state(object).into(),
            completions.into(),
            duration.into(),
            show::age(object, now),
            names.into(),
            images.into(),
            show::selector_cell(spec.get_or_null("selector")).into(),
        ]
    }
}

fn state(object: &Value) -> &'static str {
    let conditions = object.get_or_null("status").list("conditions");
    let holds = |kind: &str| {
        conditions.iter().any(|one| one.text("type") == kind && one.text("status") == "True")
    };
    let states = [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ];
    if object.get_or_null("metadata").has("deletionTimestamp")
        && !holds("Complete")
        && !holds("Failed")
    {
        return "Terminating";
    }
    states.iter().find(|(kind, _)| holds(kind)).map_or("Running", |(_, shown)| *shown)
}

/// The labels by which a job knows its pods, and the selector for them.
fn generate_selector(object: &mut Value) {
    let metadata = object.get_or_null("metadata");
    let (uid, name) = (metadata.text("uid").to_owned(), metadata.text("name").to_owned());
    let pairs = [
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
    ];
    let spec = object.child("spec");
    let labels = spec.child("template").child("metadata").child("labels");
    for (key, value) in pairs {
        labels.default_to(key, value.as_str());
    }
    let selector = spec.child("selector").child("matchLabels");
    selector.default_to("batch.kubernetes.io/controller-uid", uid.as_str());
    let own = object.child("metadata").child("labels");
    for (key, value) in pairs {
        own.default_to(key, value.as_str());
    }
}

/// The spec of a job, or of a job template, but for its selector.
pub(crate) fn job_spec(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.extend(check::not_negative(&format!("{path}.{field}"), spec.get_or_null(field)));
    }
    if spec.has("completionMode") {
        let mode = spec.text("completionMode");
        let modes = ["NonIndexed", "Indexed"];
        errors.extend(check::one_of(&format!("{path}.completionMode"), mode, &modes));
        if mode == "Indexed" && !spec.has("completions") {
            let detail = "when completion mode is Indexed";
            errors.push(FieldError::required(format!("{path}.completions"), detail));
        }
    }
    if spec.has("podReplacementPolicy") {
        let policies = ["Failed", "TerminatingOrFailed"];
        let policy = spec.text("podReplacementPolicy");
        errors.extend(check::one_of(&format!("{path}.podReplacementPolicy"), policy, &policies));
    }
    let template = spec.get_or_null("template");
    errors.extend(pod::check::template(template, &format!("{path}.template")));
    let at = format!("{path}.template.spec.restartPolicy");
    match template.get_or_null("spec").text("restartPolicy") {
        "OnFailure" | "Never" => {}
        "" | "Always" => {
            let detail = "valid values: \"OnFailure\", \"Never\"";
            errors.push(FieldError::required(at, detail));
        }
        other => errors.extend(check::one_of(&at, other, &["OnFailure", "Never"])),
    }
    errors
}

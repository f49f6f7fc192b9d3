//! CronJobs.
//!
//! Owns: the rules of batch/v1 CronJob. Must not know: when a schedule comes round. A newcomer's
//! trap: the job template is not defaulted as a job would be, only its pod template is.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::cron;
use super::job;
use super::look::{Change, Look, bump_generation_if, same};
use super::pod::defaults;
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// Longest name: the jobs' names add eleven characters to it.
const NAME_MAX: usize = 52;

/// The rules of CronJobs.
#[derive(Debug)]
pub struct CronJob;

impl Strategy for CronJob {
    fn default(&self, object: &mut Value) {
        let spec = object.child("spec");
        spec.default_text("concurrencyPolicy", "Allow");
        spec.default_to("suspend", false);
        spec.default_to("successfulJobsHistoryLimit", 3);
        spec.default_to("failedJobsHistoryLimit", 1);
        defaults::template(spec.child("jobTemplate").child("spec").child("template"));
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
        let mut errors = Vec::new();
        let name = object.get_or_null("metadata").text("name");
        if name.len() > NAME_MAX {
            let detail = format!("must be no more than {NAME_MAX} characters");
            errors.push(check::invalid("metadata.name", name, &detail));
        }
        errors.extend(rules(object));
        errors
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        rules(object)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let last = status.get_or_null("lastScheduleTime");
        let last = if last.is_null() { show::NONE.into() } else { show::since(last, now) };
        let jobs = spec.get_or_null("jobTemplate").get_or_null("spec");
        let (names, images) = show::containers(jobs.get_or_null("template").get_or_null("spec"));
        vec![
            show::name(object),
            spec.text("schedule").into(),
            show::or(spec.text("timeZone"), show::NONE).into(),
            if spec.flag("suspend") { "True" } else { "False" }.into(),
            status.list("active").len().into(),
            last.into(),
            show::age(object, now),
            names.into(),
            images.into(),
            show::selector_cell(jobs.get_or_null("selector")).into(),
        ]
    }
}

fn rules(object: &Value) -> Vec<FieldError> {
    let spec = object.get_or_null("spec");
    let schedule = spec.text("schedule");
    let mut errors = Vec::new();
    if schedule.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else {
        if let Err(detail) = cron::schedule(schedule) {
            errors.push(check::invalid("spec.schedule", schedule, &detail));
        }
        if schedule.contains("TZ") {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.push(check::invalid("spec.schedule", schedule, detail));
        }
    }
    let seconds = spec.get_or_null("startingDeadlineSeconds");
    errors.extend(check::not_negative("spec.startingDeadlineSeconds", seconds));
    let policies = ["Allow", "Forbid", "Replace"];
    let policy = spec.text("concurrencyPolicy");
    errors.extend(super::pod::check::required_word("spec.concurrencyPolicy", policy, &policies));
    let jobs = spec.get_or_null("jobTemplate").get_or_null("spec");
    errors.extend(job::job_spec(jobs, "spec.jobTemplate.spec"));
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.extend(check::not_negative(&format!("spec.{field}"), spec.get_or_null(field)));
    }
    errors
}

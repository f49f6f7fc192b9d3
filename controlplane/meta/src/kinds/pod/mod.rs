//! Pods.
//!
//! Owns: the rules of core/v1 Pod. Must not know: admission, scheduling, the node agent. A
//! newcomer's trap: most of a pod's spec may never change, and the refusal shows a diff.

pub(crate) mod check;
mod container_check;
pub(crate) mod defaults;
mod env_check;
mod placement_check;
mod probe_check;
pub(crate) mod resource_check;
pub(crate) mod resources;
mod security_check;
mod table;
mod update_check;
mod volume_check;
pub(crate) mod warning;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::look::{Change, Look, bump_generation_if, same};
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Pods.
#[derive(Debug)]
pub struct Pod;

impl Strategy for Pod {
    fn default(&self, object: &mut Value) {
        defaults::pod(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        let spec = object.child("spec");
        if spec.int("terminationGracePeriodSeconds") < 0 {
            spec.put("terminationGracePeriodSeconds", 1);
        }
        let class = resources::qos_class(spec);
        let gated = !spec.list("schedulingGates").is_empty();
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if gated {
            let condition = json!({"type": "PodScheduled", "status": "False",
                "reason": "SchedulingGated", "lastProbeTime": null, "lastTransitionTime": null,
                "message": "Scheduling is blocked due to non-empty scheduling gates"});
            status.put("conditions", vec![condition]);
        }
        object.put("status", status);
        object.child("metadata").put("generation", 1);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("status", old);
        let changed = !same(object.get_or_null("spec"), old.get_or_null("spec"));
        bump_generation_if(changed, object, old);
    }

    fn prepare_status_update(&self, object: &mut Value, old: &Value) {
        object.copy_field("spec", old);
        let before = old.get_or_null("metadata");
        let metadata = object.child("metadata");
        metadata.copy_field("ownerReferences", before);
        metadata.copy_field("deletionTimestamp", before);
        let class = old.get_or_null("status").text("qosClass").to_owned();
        if !class.is_empty() {
            object.child("status").default_text("qosClass", &class);
        }
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        check::new_pod(object)
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        update_check::update(object, old)
    }

    fn validate_status_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        update_check::status(object, old)
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() { Vec::new() } else { warning::pod(object) }
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let text = match field {
            "spec.nodeName" | "spec.host" => spec.text("nodeName"),
            "spec.restartPolicy" => spec.text("restartPolicy"),
            "spec.schedulerName" => spec.text("schedulerName"),
            "spec.serviceAccountName" => spec.text("serviceAccountName"),
            "spec.hostNetwork" => return Some(spec.flag("hostNetwork").to_string()),
            "status.phase" => status.text("phase"),
            "status.podIP" | "status.podIPs" => match status.list("podIPs").first() {
                Some(first) => first.text("ip"),
                None => status.text("podIP"),
            },
            "status.nominatedNodeName" => status.text("nominatedNodeName"),
            _ => return None,
        };
        Some(text.into())
    }

    fn is_selectable(&self, field: &str) -> bool {
        self.selectable_field(&Value::Null, field).is_some()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        table::row(object, now)
    }

    fn row_conditions(&self, object: &Value) -> Vec<Value> {
        table::row_conditions(object)
    }

    /// A pod that was never scheduled, or has ended, goes at once.
    fn grace_period_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let (spec, status) = (object.get_or_null("spec"), object.get_or_null("status"));
        let own = spec.int_opt("terminationGracePeriodSeconds").unwrap_or(0);
        let mut seconds = asked.unwrap_or(own);
        if spec.text("nodeName").is_empty()
            || matches!(status.text("phase"), "Failed" | "Succeeded")
        {
            seconds = 0;
        }
        Some(if seconds < 0 { 1 } else { seconds })
    }
}

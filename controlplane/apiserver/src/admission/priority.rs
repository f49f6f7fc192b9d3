//! Priority: a pod's class name becomes a number, and only so.
//!
//! Owns: the two classes every cluster has. Must not know: scheduling. A newcomer's trap: a client
//! may send the number too, for instance when it copies a pod, but only if it is the class's.
//!
// Differs from Kubernetes: PriorityClass objects are not served yet, so there are the two built-in
// classes and no others.

use futures::future::BoxFuture;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::status::ApiError;

const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const PREEMPTS: &str = "PreemptLowerPriority";

/// The plugin.
pub(super) struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let outcome = if attributes.is_object("", "pods") && object["spec"].is_object() {
            match attributes.operation {
                Operation::Create => created(attributes, &mut object["spec"]),
                Operation::Update => {
                    keep(attributes, &mut object["spec"]);
                    Ok(())
                }
                Operation::Delete => Ok(()),
            }
        } else {
            Ok(())
        };
        Box::pin(std::future::ready(outcome))
    }
}

fn created(attributes: &Attributes<'_>, spec: &mut Value) -> Result<(), ApiError> {
    let class = spec["priorityClassName"].as_str().unwrap_or_default();
    let priority = if class.is_empty() {
        0
    } else {
        let known = SYSTEM_CLASSES.iter().find(|(name, _)| *name == class);
        let missing =
            || attributes.forbidden(&format!("no PriorityClass with name {class} was found"));
        known.ok_or_else(missing)?.1
    };
    if let Some(given) = spec["priority"].as_i64()
        && given != priority
    {
        return Err(attributes.forbidden(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority \
             admission controller computed {priority} from the given PriorityClass name"
        )));
    }
    if let Some(given) = spec["preemptionPolicy"].as_str()
        && given != PREEMPTS
    {
        return Err(attributes.forbidden(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
             priority admission controller computed {PREEMPTS} from the given PriorityClass name"
        )));
    }
    spec["priority"] = priority.into();
    spec["preemptionPolicy"] = PREEMPTS.into();
    Ok(())
}

/// An update that does not know these fields leaves them.
fn keep(attributes: &Attributes<'_>, spec: &mut Value) {
    let Some(old) = attributes.old else { return };
    for field in ["priority", "preemptionPolicy"] {
        if spec[field].is_null() && !old["spec"][field].is_null() {
            spec[field] = old["spec"][field].clone();
        }
    }
}

//! `pods/binding` and `bindings`: the scheduler puts a pod on a node.
//!
//! Owns: the one way a pod gets its node. Must not know: why this node. A newcomer's trap: a pod is
//! bound once; a second Binding conflicts even if it names the same node.

use http::StatusCode;
use kijabi_meta::codec::Expected;
use kijabi_meta::objectmeta;
use serde_json::{Value, json};

use super::change::{Change, Rules};
use super::managed::Tracking;
use super::options::WriteOptions;
use super::{Call, Handlers, decode, delete, is_terminating, meta, timestamp};
use crate::admission::Operation;
use crate::body::RequestBody;
use crate::exchange::Response;
use crate::registry::Registry;
use crate::status::{ApiError, GroupResource, Status};

const BINDING: Expected<'static> = Expected { group: "", version: "v1", kind: "Binding" };
const SUBRESOURCE: GroupResource<'static> = GroupResource { group: "", resource: "pods/binding" };

impl Handlers {
    pub(super) async fn create_binding(
        &self,
        call: &Call,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let options = WriteOptions::parse(&call.info.query, "CreateOptions", false)?;
        let mut binding = decode::read(call, body, BINDING, options.field_validation).await?;
        decode::match_namespace(call, &mut binding)?;
        if !call.name.is_empty() {
            check_name(call, &binding)?;
        }
        let name = meta(&binding, "name").to_owned();
        let attributes = call.attributes(Operation::Create, &name, None, options.dry_run);
        self.admission().admit(&attributes, &mut binding).await?;
        check_target(&binding)?;
        self.admission().validate(&attributes, Some(&binding)).await?;
        let pods = Registry::kind("", "v1", "pods").ok_or_else(ApiError::unknown_resource)?;
        let pod_call = call.about(pods, &name);
        let mut wish = |old: &Value| bound(&name, old, &binding);
        let change = Change {
            call: &pod_call,
            options: &options,
            rules: Rules::Own,
            tracking: Tracking::None,
            wish: &mut wish,
        };
        self.change(change).await?.ok_or_else(|| pod_call.not_found())?;
        Ok(delete::status_response(call, StatusCode::CREATED, &Status::success_code(201)))
    }
}

fn check_name(call: &Call, binding: &Value) -> Result<(), ApiError> {
    if meta(binding, "name") == call.name {
        return Ok(());
    }
    Err(ApiError::bad_request("name in URL does not match name in Binding object"))
}

/// Kubernetes answers these with a bare field error and code 500.
fn check_target(binding: &Value) -> Result<(), ApiError> {
    let target = &binding["target"];
    let kind = target["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        let text = "target.kind: Unsupported value: ";
        return Err(ApiError::generic(format!(
            "{text}{kind:?}: supported values: \"Node\", \"<empty>\""
        )));
    }
    if target["name"].as_str().unwrap_or_default().is_empty() {
        return Err(ApiError::generic("target.name: Required value"));
    }
    Ok(())
}

/// The pod on its node.
fn bound(name: &str, pod: &Value, binding: &Value) -> Result<Value, ApiError> {
    let conflict = |why: String| Err(ApiError::conflict(SUBRESOURCE, name, &why));
    if is_terminating(pod) {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
        return conflict(format!("pod {name} is already assigned to node {node:?}"));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (wanted, there) = (meta(binding, field), meta(pod, field));
        if !wanted.is_empty() && wanted != there {
            return conflict(format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {there}"
            ));
        }
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    for field in ["annotations", "labels"] {
        merge_map(&mut pod, field, &binding["metadata"][field]);
    }
    set_scheduled(&mut pod);
    Ok(pod)
}

fn merge_map(pod: &mut Value, field: &str, given: &Value) {
    let Some(given) = given.as_object().filter(|given| !given.is_empty()) else { return };
    let mut merged = pod["metadata"][field].as_object().cloned().unwrap_or_default();
    merged.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
    objectmeta::set(pod, field, merged.into());
}

/// The condition that tells the pod found its node.
fn set_scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": timestamp(),
    });
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    match conditions.iter_mut().find(|one| one["type"] == "PodScheduled") {
        Some(present) if present["status"] == "True" => {}
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
    pod["status"]["conditions"] = conditions.into();
}

//! What an update of a pod may not change.
//!
//! Owns: which fields of a pod are open to change and how. Must not know: resizing and ephemeral
//! containers, which have paths of their own. A newcomer's trap: the refusal shows a diff of
//! Kubernetes' internal form of the spec, so it is made from that form.

use std::collections::BTreeSet;

use serde_json::Value;

use super::resources::qos_class;
use crate::field::FieldError;
use crate::kinds::check;
use crate::kinds::golang;
use crate::kinds::look::{Change, Look, same};

const OPEN_FIELDS: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
/// Longest spec whose change is shown as a diff.
const DIFF_LINES_MAX: usize = 20_000;

/// Checks an update of the pod itself, `metadata` apart.
pub(super) fn update(object: &Value, old: &Value) -> Vec<FieldError> {
    let (spec, before) = (object.get_or_null("spec"), old.get_or_null("spec"));
    let mut errors = super::check::pod(object);
    for list in ["containers", "initContainers"] {
        let path = format!("spec.{list}");
        if spec.list(list).len() != before.list(list).len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(path, detail));
            return errors;
        }
    }
    match active_deadline(spec, before) {
        Ok(more) => errors.extend(more),
        Err(error) => {
            errors.push(error);
            return errors;
        }
    }
    errors.extend(only_more_tolerations(spec, before));
    errors.extend(only_fewer_gates(spec, before));
    if same(spec, before) {
        return errors;
    }
    let class = qos_class(spec);
    if class != qos_class(before) {
        errors.push(check::invalid("metadata", class, "Pod QOS is immutable"));
    }
    let munged = with_open_fields_of(spec, before);
    if !same(&munged, before) {
        let diff = diff(before, &munged);
        let detail = format!("pod updates may not change fields other than {OPEN_FIELDS}\n{diff}");
        errors.push(FieldError::forbidden("spec", &detail));
    }
    errors
}

fn diff(before: &Value, after: &Value) -> String {
    let shown = |spec: &Value| golang::pretty("PodSpec", &golang::internal_pod_spec(spec));
    let (before, after) = (shown(before), shown(after));
    if before.lines().count().max(after.lines().count()) > DIFF_LINES_MAX {
        // Differs from Kubernetes: the diff of a very long spec is left out, as its cost grows
        // with the square of the length.
        return String::new();
    }
    golang::unified(&before, &after)
}

/// A deadline may be set, or come earlier. `Err` ends the checks.
fn active_deadline(spec: &Value, before: &Value) -> Result<Option<FieldError>, FieldError> {
    let path = "spec.activeDeadlineSeconds";
    let (new, old) =
        (spec.int_opt("activeDeadlineSeconds"), before.int_opt("activeDeadlineSeconds"));
    match (new, old) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            let errors = check::within(path, new, 0, i64::from(i32::MAX));
            errors.into_iter().next().map_or(Ok(None), Err)
        }
        (Some(new), Some(old)) if old < new => {
            let detail = "must be less than or equal to previous value";
            Err(FieldError::invalid(path, &new.into(), detail))
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            Ok(Some(FieldError::invalid(path, &Value::Null, detail)))
        }
        _ => Ok(None),
    }
}

fn only_more_tolerations(spec: &Value, before: &Value) -> Option<FieldError> {
    let plain = |one: &Value| {
        let mut one = one.clone();
        one.drop_field("tolerationSeconds");
        one.to_string()
    };
    let new: BTreeSet<String> = spec.list("tolerations").iter().map(plain).collect();
    let lost = before.list("tolerations").iter().any(|old| !new.contains(&plain(old)));
    let detail = "existing toleration can not be modified except its tolerationSeconds";
    lost.then(|| FieldError::forbidden("spec.tolerations", detail))
}

fn only_fewer_gates(spec: &Value, before: &Value) -> Vec<FieldError> {
    let old: BTreeSet<&str> =
        before.list("schedulingGates").iter().map(|gate| gate.text("name")).collect();
    spec.list("schedulingGates")
        .iter()
        .filter(|gate| !old.contains(gate.text("name")))
        .map(|gate| {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.text("name")
            );
            FieldError::forbidden("spec.schedulingGates", &detail)
        })
        .collect()
}

/// The new spec with the old one's values of every field that may change.
fn with_open_fields_of(spec: &Value, before: &Value) -> Value {
    let mut munged = spec.clone();
    for list in ["containers", "initContainers"] {
        for (one, old) in munged.items_mut(list).iter_mut().zip(before.list(list)) {
            one.copy_field("image", old);
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        munged.copy_field(field, before);
    }
    let grace = "terminationGracePeriodSeconds";
    if before.int(grace) < 0 && munged.int(grace) == 1 {
        munged.copy_field(grace, before);
    }
    let gated = !before.list("schedulingGates").is_empty();
    let kept = |spec: &Value| {
        before
            .entries("nodeSelector")
            .iter()
            .all(|(key, value)| spec.get_or_null("nodeSelector").get(key) == Some(value))
    };
    // A gated pod may be narrowed to fewer nodes.
    if gated && kept(spec) {
        munged.copy_field("nodeSelector", before);
    }
    munged
}

/// Checks an update through `/status`.
pub(super) fn status(object: &Value, old: &Value) -> Vec<FieldError> {
    let (spec, status, before) =
        (object.get_or_null("spec"), object.get_or_null("status"), old.get_or_null("status"));
    let mut errors = Vec::new();
    if spec.text("nodeName") != old.get_or_null("spec").text("nodeName") {
        errors.push(FieldError::forbidden("status.nodeName", "may not be changed directly"));
    }
    let nominated = status.text("nominatedNodeName");
    if !nominated.is_empty() && nominated != before.text("nominatedNodeName") {
        errors.extend(check::dns_subdomain("status.nominatedNodeName", nominated));
    }
    let (class, class_before) = (status.get_or_null("qosClass"), before.get_or_null("qosClass"));
    errors.extend(check::immutable("status.qosClass", class, class_before));
    if spec.text("restartPolicy") != "Always" {
        let failures_restart = spec.text("restartPolicy") == "OnFailure";
        errors.extend(no_resurrection(status, before, "containerStatuses", failures_restart));
    }
    for (list, field) in [("podIPs", "ip"), ("hostIPs", "ip")] {
        for (index, one) in status.list(list).iter().enumerate() {
            errors.extend(check::ip(&format!("status.{list}[{index}]"), one.text(field)));
        }
    }
    errors
}

/// A container that will not be restarted stays terminated.
fn no_resurrection(
    status: &Value,
    before: &Value,
    list: &str,
    failures_restart: bool,
) -> Vec<FieldError> {
    let ended = |one: &Value| one.get_or_null("state").get_or_null("terminated").clone();
    let alive: BTreeSet<&str> = status
        .list(list)
        .iter()
        .filter(|one| !ended(one).is_object())
        .map(|one| one.text("name"))
        .collect();
    let mut errors = Vec::new();
    for (index, old) in before.list(list).iter().enumerate() {
        let end = ended(old);
        if !end.is_object() || (failures_restart && end.int("exitCode") != 0) {
            continue;
        }
        if alive.contains(old.text("name")) {
            let detail = "may not be transitioned to non-terminated state";
            let path = format!("status.{list}[{index}].state");
            errors.push(FieldError::forbidden(path, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::pod::defaults;

    type Case = (&'static str, fn(&mut Value), &'static [&'static str]);

    fn pod() -> Value {
        let mut pod = json!({"spec": {"containers": [{"name": "c", "image": "a"}],
            "tolerations": [{"key": "a", "operator": "Exists"}], "activeDeadlineSeconds": 10,
            "serviceAccountName": "default"}});
        defaults::pod(&mut pod);
        pod
    }

    #[test]
    fn open_fields_may_change() {
        let old = pod();
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = "b".into();
        new["spec"]["activeDeadlineSeconds"] = 9.into();
        new["spec"]["tolerations"] =
            json!([{"key": "b", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]);
        assert_eq!(update(&new, &old), []);
    }

    #[test]
    fn each_refusal_has_its_words() {
        let old = pod();
        let cases: [Case; 5] = [
            (
                "a container more",
                |spec| {
                    spec["containers"] = json!([spec["containers"][0], {"name": "d", "image": "a",
                    "terminationMessagePolicy": "File", "imagePullPolicy": "Never"}]);
                },
                &["spec.containers: Forbidden: pod updates may not add or remove containers"],
            ),
            (
                "a later deadline",
                |spec| spec["activeDeadlineSeconds"] = 11.into(),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value",
                ],
            ),
            (
                "no deadline",
                |spec| spec.drop_field("activeDeadlineSeconds"),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
                ],
            ),
            (
                "no toleration",
                |spec| spec["tolerations"] = json!([]),
                &[
                    "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
                ],
            ),
            (
                "a gate",
                |spec| spec["schedulingGates"] = json!([{"name": "g"}]),
                &[
                    "spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
                ],
            ),
        ];
        for (what, change, wanted) in cases {
            let mut new = old.clone();
            change(&mut new["spec"]);
            let got: Vec<_> = update(&new, &old).iter().map(ToString::to_string).collect();
            assert_eq!(got, wanted, "{what}");
        }
    }

    #[test]
    fn status_updates() {
        let ended =
            json!({"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]});
        let running = json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]});
        let of = |policy: &str, status: &Value| json!({"spec": {"restartPolicy": policy}, "status": status});
        assert_eq!(super::status(&of("Always", &running), &of("Always", &ended)), []);
        let got = super::status(&of("Never", &running), &of("Never", &ended));
        assert_eq!(
            got.first().map(ToString::to_string).as_deref(),
            Some(
                "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
            )
        );
    }
}

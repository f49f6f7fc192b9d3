//! Events, in both of their forms.
//!
//! Owns: the rules of core/v1 and events.k8s.io/v1 Event and the way from one form to the other.
//! Must not know: how long events are kept. A newcomer's trap: there is one stored object, in the
//! core/v1 form; the newer form only renames fields, and only asks more of a client that uses it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check;
use super::look::{Change, Look};
use super::show::{self, UNKNOWN, or};
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of core/v1 Events.
#[derive(Debug)]
pub struct CoreEvent;

/// The rules of events.k8s.io/v1 Events.
#[derive(Debug)]
pub struct NewEvent;

/// Field by field: the name in core/v1, and the name in events.k8s.io/v1.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(map) = object.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(value) = map.remove(from) {
            map.insert(to.into(), value);
        }
    }
}

/// Makes an events.k8s.io/v1 Event a core/v1 one.
pub fn to_core(object: &mut Value) {
    rename(object, RENAMED.iter().map(|(core, new)| (*new, *core)));
    object.put("apiVersion", "v1");
    // These have no `omitempty` in core/v1.
    for (field, zero) in [
        ("involvedObject", json!({})),
        ("source", json!({})),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("eventTime", Value::Null),
        ("reportingComponent", "".into()),
        ("reportingInstance", "".into()),
    ] {
        if object.get(field).is_none() {
            object.put(field, zero);
        }
    }
}

/// Makes a core/v1 Event an events.k8s.io/v1 one.
pub fn from_core(object: &mut Value) {
    rename(object, RENAMED.iter().copied());
    object.put("apiVersion", "events.k8s.io/v1");
    // These are shown in core/v1 but left out in events.k8s.io/v1 when they are empty.
    for field in ["note", "deprecatedCount", "reportingController", "reportingInstance"] {
        if matches!(object.get(field), Some(value) if value == "" || value == 0) {
            object.drop_field(field);
        }
    }
    if object.get("regarding").is_some_and(|one| one == &json!({})) {
        object.drop_field("regarding");
    }
}

impl Strategy for CoreEvent {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        legacy(object, "reportingComponent")
    }

    fn validate_update(&self, object: &Value, _old: &Value) -> Vec<FieldError> {
        legacy(object, "reportingComponent")
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        check::path_segment_name(name, prefix)
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        selected(object, field)
    }

    fn is_selectable(&self, field: &str) -> bool {
        selected(&Value::Null, field).is_some()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        row(object, now)
    }

    fn may_create_on_update(&self) -> bool {
        true
    }
}

impl Strategy for NewEvent {
    fn to_storage(&self, object: &mut Value) {
        to_core(object);
    }

    fn to_served(&self, object: &mut Value) {
        from_core(object);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut core = object.clone();
        to_core(&mut core);
        let mut errors = legacy(&core, "reportingController");
        if !core.has("eventTime") {
            errors.push(FieldError::required("eventTime", ""));
        }
        let kind = core.text("type");
        if !matches!(kind, "Normal" | "Warning") {
            let detail = format!("has invalid value: {kind}");
            errors.push(check::invalid("type", "", &detail));
        }
        let unset = "needs to be unset";
        for field in ["firstTimestamp", "lastTimestamp", "count"] {
            if core.has(field) && core[field] != 0 {
                errors.push(check::invalid(field, "", unset));
            }
        }
        let source = core.get_or_null("source");
        if !source.text("component").is_empty() || !source.text("host").is_empty() {
            errors.push(check::invalid("source", "", unset));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let (mut new, mut was) = (object.clone(), old.clone());
        to_core(&mut new);
        to_core(&mut was);
        let mut errors = legacy(&new, "reportingController");
        if new.get("series") != was.get("series") && new.has("series") {
            errors.extend(series(new.get_or_null("series")));
        }
        for (field, path) in [
            ("involvedObject", "involvedObject"),
            ("reason", "reason"),
            ("message", "message"),
            ("source", "source"),
            ("firstTimestamp", "firstTimestamp"),
            ("lastTimestamp", "lastTimestamp"),
            ("count", "count"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingComponent", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ] {
            let both = (new.get_or_null(field), was.get_or_null(field));
            errors.extend(check::immutable(path, both.0, both.1));
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        check::path_segment_name(name, prefix)
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        let core_field = Self::core_field(field)?;
        let mut core = object.clone();
        to_core(&mut core);
        selected(&core, &core_field)
    }

    fn is_selectable(&self, field: &str) -> bool {
        Self::core_field(field).is_some()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut core = object.clone();
        to_core(&mut core);
        row(&core, now)
    }

    fn may_create_on_update(&self) -> bool {
        true
    }
}

impl NewEvent {
    /// The core/v1 name of a selectable field.
    fn core_field(field: &str) -> Option<String> {
        match field {
            "reason" | "type" => Some(field.into()),
            "reportingController" => Some("reportingComponent".into()),
            _ => {
                let core = format!("involvedObject.{}", field.strip_prefix("regarding.")?);
                selected(&Value::Null, &core).map(|_| core)
            }
        }
    }
}

fn selected(object: &Value, field: &str) -> Option<String> {
    let involved = object.get_or_null("involvedObject");
    let text = match field {
        "reason" | "type" | "reportingComponent" => object.text(field),
        "source" => {
            or(object.get_or_null("source").text("component"), object.text("reportingComponent"))
        }
        _ => match field.strip_prefix("involvedObject.")? {
            part @ ("kind" | "namespace" | "name" | "uid" | "apiVersion" | "resourceVersion"
            | "fieldPath") => involved.text(part),
            _ => return None,
        },
    };
    Some(text.into())
}

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let involved = object.get_or_null("involvedObject");
    let mut target = involved.text("kind").to_lowercase();
    if !involved.text("name").is_empty() {
        target = format!("{target}/{}", involved.text("name"));
    }
    let since = |field: &str| show::since(object.get_or_null(field), now);
    let mut first = since("firstTimestamp");
    if first == UNKNOWN {
        first = since("eventTime");
    }
    let mut last = since("lastTimestamp");
    if last == UNKNOWN {
        last.clone_from(&first);
    }
    let mut count = object.int("count").max(1);
    if object.has("series") {
        let series = object.get_or_null("series");
        last = show::since(series.get_or_null("lastObservedTime"), now);
        count = series.int("count");
    }
    let source = object.get_or_null("source");
    let component = or(source.text("component"), object.text("reportingComponent"));
    let host = or(source.text("host"), object.text("reportingInstance"));
    let source = if host.is_empty() { component.into() } else { format!("{component}, {host}") };
    vec![
        last.into(),
        object.text("type").into(),
        object.text("reason").into(),
        target.into(),
        involved.text("fieldPath").into(),
        source.into(),
        object.text("message").trim().into(),
        first.into(),
        count.into(),
        show::name(object),
    ]
}

fn series(series: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if series.int("count") < 2 {
        errors.push(check::invalid("series.count", "", "should be at least 2"));
    }
    if !series.has("lastObservedTime") {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
    errors
}

/// What every event must keep to, in its core/v1 form.
fn legacy(object: &Value, controller_field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let namespace = object.get_or_null("metadata").text("namespace");
    let involved = object.get_or_null("involvedObject").get_or_null("namespace");
    let involved_text = involved.as_str().unwrap_or("");
    let does_not_match = || {
        check::invalid("involvedObject.namespace", involved_text, "does not match event.namespace")
    };
    if object.has("eventTime") {
        if involved_text.is_empty() && !matches!(namespace, "default" | "kube-system") {
            errors.push(does_not_match());
        }
        errors.extend(with_event_time(object, controller_field));
    } else if involved_text.is_empty() {
        if !matches!(namespace, "" | "default") {
            errors.push(does_not_match());
        }
    } else if involved_text != namespace {
        errors.push(does_not_match());
    }
    errors.extend(check::dns_subdomain("namespace", namespace));
    errors
}

fn with_event_time(object: &Value, controller_field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let controller = object.text("reportingComponent");
    if controller.is_empty() {
        errors.push(FieldError::required(controller_field, ""));
    }
    errors.extend(check::qualified_name(controller_field, controller));
    for (field, most, needed) in [
        ("reportingInstance", 128, true),
        ("action", 128, true),
        ("reason", 128, true),
        ("message", 1024, false),
    ] {
        let text = object.text(field);
        if needed && text.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
        if text.len() > most {
            let detail = format!("can have at most {most} characters");
            errors.push(check::invalid(field, "", &detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_are_one_object() {
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": "e", "namespace": "g"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "example.com/x", "reportingInstance": "i", "action": "A",
            "reason": "R", "type": "Normal", "note": "n", "regarding": {"kind": "Pod"},
            "deprecatedSource": {}, "deprecatedFirstTimestamp": null,
            "deprecatedLastTimestamp": null});
        let mut core = new.clone();
        to_core(&mut core);
        assert_eq!((core.text("message"), core.text("reportingComponent")), ("n", "example.com/x"));
        assert_eq!(core["involvedObject"], json!({"kind": "Pod"}));
        from_core(&mut core);
        assert_eq!(core, new);
    }

    #[test]
    fn rows() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let event = json!({"metadata": {"name": "e"}, "count": 4, "type": "Warning", "reason": "Failed",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
            "source": {"component": "kubelet", "host": "n1"}, "message": " m\n",
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:59:00Z"});
        assert_eq!(
            row(&event, now),
            json!([
                "60s",
                "Warning",
                "Failed",
                "pod/p",
                "spec.containers{c}",
                "kubelet, n1",
                "m",
                "60m",
                4,
                "e"
            ])
            .as_array()
            .unwrap()
            .clone()
        );
        let mut repeated = json!({"eventTime": "2026-01-01T00:00:00.000000Z",
            "involvedObject": {"kind": "Node"},
            "series": {"count": 7, "lastObservedTime": "2026-01-01T00:58:00.000000Z"}});
        let cells = row(&repeated, now);
        assert_eq!((&cells[0], &cells[3], &cells[8]), (&"2m".into(), &"node".into(), &7.into()));
        repeated.drop_field("series");
        assert_eq!(row(&repeated, now)[8], 1);
    }

    #[test]
    fn the_newer_form_asks_for_more() {
        let old = json!({"metadata": {"namespace": "g"}, "involvedObject": {"namespace": "g"}});
        assert_eq!(CoreEvent.validate_create(&old), []);
        let new = json!({"metadata": {"namespace": "g"}, "regarding": {"namespace": "g"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Loud", "deprecatedCount": 2});
        let got: Vec<_> =
            NewEvent.validate_create(&new).iter().map(|one| one.field.clone()).collect();
        assert_eq!(
            got,
            [
                "reportingController",
                "reportingController",
                "reportingController",
                "reportingInstance",
                "action",
                "reason",
                "type",
                "count"
            ]
        );
    }

    #[test]
    fn selectable_fields() {
        let event =
            json!({"reason": "R", "involvedObject": {"uid": "u"}, "reportingComponent": "c"});
        assert_eq!(CoreEvent.selectable_field(&event, "involvedObject.uid").unwrap(), "u");
        assert_eq!(CoreEvent.selectable_field(&event, "source").unwrap(), "c");
        assert!(!CoreEvent.is_selectable("involvedObject.color"));
        let mut new = event.clone();
        from_core(&mut new);
        assert_eq!(NewEvent.selectable_field(&new, "regarding.uid").unwrap(), "u");
        assert!(!NewEvent.is_selectable("involvedObject.uid"));
    }
}

//! `metadata`: what is checked and carried over for objects of every kind.
//!
//! Owns: the rules for names, labels, annotations, owners, finalizers and immutable fields. Must not
//! know: rules of single kinds (a kind's name syntax comes as a function). A newcomer's trap: on an
//! update Kubernetes lists metadata errors twice in the causes (once for all kinds, once for the
//! kind) but once in the message; [`validate_update`] gives the full list.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{FieldError, Reason};
use crate::name;

/// All keys and values of annotations together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Length of a field manager's name.
const FIELD_MANAGER_LENGTH_MAX: usize = 128;
/// Length of a subresource's name in managed fields.
const SUBRESOURCE_LENGTH_MAX: usize = 256;
const NOTHING: Value = Value::Null;

fn metadata<'a>(object: &'a Value, field: &str) -> &'a Value {
    object.get("metadata").and_then(|one| one.get(field)).unwrap_or(&NOTHING)
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    metadata(object, field).as_str().unwrap_or_default()
}

/// Checks the metadata of a new object. `name_is_wrong(name, prefix)` is the kind's rule for names.
pub fn validate_create(
    object: &Value,
    namespaced: bool,
    name_is_wrong: impl Fn(&str, bool) -> Vec<String>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut name_errors = |field: &str, value: &str, prefix| {
        for detail in name_is_wrong(value, prefix) {
            errors.push(FieldError::invalid(field, &value.into(), &detail));
        }
    };
    let (generate_name, name) = (text(object, "generateName"), text(object, "name"));
    if !generate_name.is_empty() {
        name_errors("metadata.generateName", generate_name, true);
    }
    if name.is_empty() {
        let detail = "name or generateName is required";
        errors.push(FieldError::required("metadata.name", detail));
    } else {
        name_errors("metadata.name", name, false);
    }
    errors.extend(namespace_errors(text(object, "namespace"), namespaced));
    let generation = metadata(object, "generation");
    if generation.as_i64().unwrap_or_default() < 0 {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("metadata.generation", generation, detail));
    }
    errors.extend(common(object));
    errors.extend(finalizer_errors(metadata(object, "finalizers")));
    errors.extend(standard_finalizer_errors(metadata(object, "finalizers")));
    errors
}

/// Checks the metadata of a changed object against the old one, after [`keep_system_fields`].
pub fn validate_update(object: &Value, old: &Value) -> Vec<FieldError> {
    let mut once = Vec::new();
    if !metadata(old, "deletionTimestamp").is_null() {
        once.extend(new_finalizer_error(
            metadata(object, "finalizers"),
            metadata(old, "finalizers"),
        ));
    }
    if text(object, "resourceVersion").is_empty() {
        let detail = "must be specified for an update";
        once.push(FieldError::invalid("metadata.resourceVersion", &"".into(), detail));
    }
    let generation = |object| metadata(object, "generation").as_i64().unwrap_or_default();
    if generation(object) < generation(old) {
        let value = generation(object).into();
        let detail = "must not be decremented";
        once.push(FieldError::invalid("metadata.generation", &value, detail));
    }
    for field in ["name", "namespace", "uid"] {
        if text(object, field) != text(old, field) {
            once.push(immutable(field, &text(object, field).into()));
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if metadata(object, field) != metadata(old, field) {
            once.push(immutable(field, metadata(object, field)));
        }
    }
    once.extend(common(object));
    let mut errors = once.clone();
    errors.append(&mut once);
    errors.extend(standard_finalizer_errors(metadata(object, "finalizers")));
    errors
}

/// Clients cannot change `generation`: it is the old one until the kind's rules raise it.
pub fn keep_generation(object: &mut Value, old: &Value) {
    set(object, "generation", metadata(old, "generation").clone());
}

/// Carries over what an update may leave out or cannot change: uid, creation and deletion times.
pub fn keep_system_fields(object: &mut Value, old: &Value) {
    if text(object, "uid").is_empty() {
        set(object, "uid", metadata(old, "uid").clone());
    }
    for field in ["creationTimestamp", "deletionTimestamp"] {
        if !metadata(old, field).is_null() {
            set(object, field, metadata(old, field).clone());
        }
    }
    let grace = "deletionGracePeriodSeconds";
    if metadata(object, grace).is_null() {
        set(object, grace, metadata(old, grace).clone());
    }
}

/// Sets or, with null, removes a field of metadata.
pub fn set(object: &mut Value, field: &str, value: Value) {
    let Some(object) = object.as_object_mut() else { return };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Default::default()));
    let Some(metadata) = metadata.as_object_mut() else { return };
    if value.is_null() {
        metadata.remove(field);
    } else {
        metadata.insert(field.into(), value);
    }
}

/// Checks a `fieldManager` parameter.
pub fn field_manager_errors(manager: &str, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if manager.len() > FIELD_MANAGER_LENGTH_MAX {
        errors.push(too_long(field, FIELD_MANAGER_LENGTH_MAX));
    }
    for (at, char) in manager.char_indices() {
        if char.is_control() || (char.is_whitespace() && char != ' ') {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(char));
            errors.push(FieldError::invalid(field, &manager.into(), &detail));
        }
    }
    errors
}

/// Checks a set of labels that stands at `field`.
pub fn label_errors(labels: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        for detail in name::label_key(key) {
            errors.push(FieldError::invalid(field, &key.as_str().into(), &detail));
        }
        for detail in name::label_value(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(field, value, &detail));
        }
    }
    errors
}

/// Checks a set of annotations that stands at `field`.
pub fn annotation_errors(annotations: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        bytes += key.len() + value.as_str().unwrap_or_default().len();
        for detail in name::label_key(&key.to_lowercase()) {
            errors.push(FieldError::invalid(field, &key.as_str().into(), &detail));
        }
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(too_long(field, ANNOTATIONS_BYTES_MAX));
    }
    errors
}

fn namespace_errors(namespace: &str, namespaced: bool) -> Vec<FieldError> {
    let field = "metadata.namespace";
    match (namespaced, namespace.is_empty()) {
        (true, true) => vec![FieldError::required(field, "")],
        (true, false) => name::dns1123_label(namespace)
            .iter()
            .map(|detail| FieldError::invalid(field, &namespace.into(), detail))
            .collect(),
        (false, true) => Vec::new(),
        (false, false) => vec![FieldError::forbidden(field, "not allowed on this type")],
    }
}

/// What is checked on creation and on update alike.
fn common(object: &Value) -> Vec<FieldError> {
    let mut errors = label_errors(metadata(object, "labels"), "metadata.labels");
    errors.extend(annotation_errors(metadata(object, "annotations"), "metadata.annotations"));
    errors.extend(owner_errors(metadata(object, "ownerReferences")));
    errors.extend(managed_fields_errors(metadata(object, "managedFields")));
    errors
}

fn owner_errors(owners: &Value) -> Vec<FieldError> {
    let field = "metadata.ownerReferences";
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for one in owners.as_array().into_iter().flatten() {
        let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
        let api_version = text("apiVersion");
        let version = api_version.rsplit('/').next().unwrap_or_default();
        if version.is_empty() || api_version.matches('/').count() > 1 {
            let detail = "version must not be empty";
            let field = format!("{field}.apiVersion");
            errors.push(FieldError::invalid(field, &api_version.into(), detail));
        }
        for name in ["kind", "name", "uid"] {
            if text(name).is_empty() {
                let field = format!("{field}.{name}");
                errors.push(FieldError::invalid(field, &"".into(), "must not be empty"));
            }
        }
        if api_version == "v1" && text("kind") == "Event" {
            let head = format!("Invalid value: {}", shown_owner(one));
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::with(Reason::Invalid, field, &head, detail));
        }
        if one.get("controller") == Some(&Value::Bool(true)) {
            let current = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                None => controller = Some(current),
                Some(first) => {
                    let all = owners.as_array().into_iter().flatten().map(shown_owner);
                    let all = all.collect::<Vec<_>>().join(",");
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"
                    );
                    let head = format!("Invalid value: [{all}]");
                    errors.push(FieldError::with(Reason::Invalid, field, &head, &detail));
                }
            }
        }
    }
    errors
}

/// An owner as Go prints it: fields in the order of their declaration.
fn shown_owner(owner: &Value) -> String {
    let fields = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let shown = fields
        .iter()
        .filter_map(|name| owner.get(*name).map(|value| format!("\"{name}\":{value}")))
        .collect::<Vec<_>>();
    format!("{{{}}}", shown.join(","))
}

fn finalizers(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().map(|one| one.as_str().unwrap_or_default())
}

fn finalizer_errors(value: &Value) -> Vec<FieldError> {
    let field = "metadata.finalizers";
    let mut errors = Vec::new();
    for one in finalizers(value) {
        for detail in name::label_key(one) {
            errors.push(FieldError::invalid(field, &one.into(), &detail));
        }
    }
    let has = |name| finalizers(value).any(|one| one == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(field, value, detail));
    }
    errors
}

/// Finalizers without a domain must be those that Kubernetes knows.
fn standard_finalizer_errors(value: &Value) -> Vec<FieldError> {
    let standard = ["kubernetes", "orphan", "foregroundDeletion"];
    let detail = "name is neither a standard finalizer name nor is it fully qualified";
    finalizers(value)
        .enumerate()
        .filter(|(_, one)| !one.contains('/') && !standard.contains(one))
        .map(|(at, one)| {
            FieldError::invalid(format!("metadata.finalizers[{at}]"), &one.into(), detail)
        })
        .collect()
}

fn new_finalizer_error(new: &Value, old: &Value) -> Option<FieldError> {
    let old: BTreeSet<_> = finalizers(old).collect();
    let extra: BTreeSet<_> = finalizers(new).filter(|one| !old.contains(one)).collect();
    if extra.is_empty() {
        return None;
    }
    let quoted = extra.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ");
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{quoted}}}"
    );
    Some(FieldError::forbidden("metadata.finalizers", &detail))
}

fn managed_fields_errors(entries: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (at, one) in entries.as_array().into_iter().flatten().enumerate() {
        let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
        let path = |name| format!("metadata.managedFields[{at}].{name}");
        if !["Apply", "Update"].contains(&text("operation")) {
            let value = text("operation").into();
            let detail = "must be `Apply` or `Update`";
            errors.push(FieldError::invalid(path("operation"), &value, detail));
        }
        if !["", "FieldsV1"].contains(&text("fieldsType")) {
            let value = text("fieldsType").into();
            errors.push(FieldError::invalid(path("fieldsType"), &value, "must be `FieldsV1`"));
        }
        errors.extend(field_manager_errors(text("manager"), &path("manager")));
        if text("subresource").len() > SUBRESOURCE_LENGTH_MAX {
            errors.push(too_long(&path("subresource"), SUBRESOURCE_LENGTH_MAX));
        }
    }
    errors
}

fn too_long(field: &str, bytes: usize) -> FieldError {
    let detail = format!("may not be more than {bytes} bytes");
    FieldError::with(Reason::TooLong, field, "Too long", &detail)
}

fn immutable(field: &str, value: &Value) -> FieldError {
    FieldError::invalid(format!("metadata.{field}"), value, "field is immutable")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn created(metadata: Value) -> Vec<String> {
        let object = json!({"metadata": metadata});
        let errors = validate_create(&object, true, name::name_is_subdomain);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn creation_in_the_words_of_kubernetes() {
        assert_eq!(
            created(json!({"namespace": "g"})),
            ["metadata.name: Required value: name or generateName is required"]
        );
        assert_eq!(
            created(json!({"name": "fin2", "namespace": "g", "finalizers": ["nodomain"]})),
            [
                "metadata.finalizers[0]: Invalid value: \"nodomain\": name is neither a standard finalizer name nor is it fully qualified"
            ]
        );
        let owner = |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid, "controller": true});
        assert_eq!(
            created(
                json!({"name": "o", "namespace": "g", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]})
            ),
            ["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"]
        );
        assert_eq!(
            created(
                json!({"name": "o", "namespace": "g", "ownerReferences": [owner("p", "1"), owner("q", "2")]})
            ),
            [
                "metadata.ownerReferences: Invalid value: [{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"p\",\"uid\":\"1\",\"controller\":true},{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"q\",\"uid\":\"2\",\"controller\":true}]: Only one reference can have Controller set to true. Found \"true\" in references for Pod/p and Pod/q"
            ]
        );
        let annotations =
            created(json!({"name": "z", "namespace": "g", "annotations": {"/": "v"}}));
        assert_eq!(annotations.len(), 3);
    }

    #[test]
    fn an_update_keeps_what_clients_cannot_change() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3, "resourceVersion": "7"}});
        let mut new = json!({"metadata": {"name": "a", "resourceVersion": "7", "generation": 99}});
        keep_generation(&mut new, &old);
        keep_system_fields(&mut new, &old);
        assert_eq!(new, old);
        assert!(validate_update(&new, &old).is_empty());
        set(&mut new, "uid", "2".into());
        let errors = validate_update(&new, &old);
        assert_eq!(errors.len(), 2, "once for all kinds, once for the kind");
        assert_eq!(errors[0].to_string(), "metadata.uid: Invalid value: \"2\": field is immutable");
    }

    #[test]
    fn no_finalizer_is_added_to_what_is_going() {
        let old = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "7", "finalizers": ["e.com/x"]}});
        let mut new = old.clone();
        set(&mut new, "finalizers", json!(["e.com/x", "e.com/y"]));
        assert_eq!(
            validate_update(&new, &old)[0].to_string(),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"e.com/y\"}"
        );
    }
}

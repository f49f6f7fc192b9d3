//! ConfigMaps.
//!
//! Owns: the rules of core/v1 ConfigMap. Must not know: who mounts them. A newcomer's trap: keys
//! of `data` and `binaryData` share one space.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::Look;
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The most bytes that the values of a ConfigMap or Secret may have together.
pub(crate) const DATA_BYTES_MAX: usize = 1024 * 1024;

/// The rules of ConfigMaps.
#[derive(Debug)]
pub struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let binary = object.get_or_null("binaryData");
        let mut bytes = 0;
        for (key, value) in object.entries("data") {
            let path = format!("data[{key}]");
            errors.extend(check::config_key(&path, key));
            if binary.has(key) {
                let detail = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(path, &key.into(), detail));
            }
            bytes += value.as_str().map_or(0, str::len);
        }
        for (key, value) in object.entries("binaryData") {
            errors.extend(check::config_key(&format!("binaryData[{key}]"), key));
            bytes += decoded_length(value);
        }
        if bytes > DATA_BYTES_MAX {
            errors.push(check::too_long("", DATA_BYTES_MAX));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = frozen(object, old, &["data", "binaryData"]);
        errors.extend(self.validate_create(object));
        errors
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let entries = object.size("data") + object.size("binaryData");
        vec![show::name(object), entries.into(), show::age(object, now)]
    }
}

/// The bytes that a base64 text stands for.
pub(crate) fn decoded_length(base64: &Value) -> usize {
    let text = base64.as_str().unwrap_or("");
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

/// What may not change once `immutable` is set.
pub(crate) fn frozen(object: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    let detail = "field is immutable when `immutable` is set";
    if !old.flag("immutable") {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if !object.flag("immutable") {
        errors.push(FieldError::forbidden("immutable", detail));
    }
    for field in fields {
        if !super::look::same(object.get_or_null(field), old.get_or_null(field)) {
            errors.push(FieldError::forbidden(*field, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_frozen_map_stays_as_it_is() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let new = json!({"data": {"a": "2"}, "binaryData": {"b": "eA=="}});
        let got: Vec<_> =
            ConfigMap.validate_update(&new, &old).iter().map(|one| one.field.clone()).collect();
        assert_eq!(got, ["immutable", "data", "binaryData"]);
    }

    #[test]
    fn a_map_has_at_most_a_megabyte() {
        let map = |bytes: usize| json!({"data": {"a": "x".repeat(bytes)}});
        assert_eq!(ConfigMap.validate_create(&map(DATA_BYTES_MAX)), []);
        let got = ConfigMap.validate_create(&map(DATA_BYTES_MAX + 1));
        assert_eq!(
            got.first().map(ToString::to_string).as_deref(),
            Some(": Too long: may not be more than 1048576 bytes")
        );
    }
}

//! Merge patch (RFC 7386).
//!
//! Owns: the merge. Must not know: types. A newcomer's trap: null removes, and lists are replaced.

use serde_json::{Map, Value};

use super::{PatchError, Patched, read_object};

pub(super) fn apply(object: Value, patch: &[u8], lenient: bool) -> Result<Patched, PatchError> {
    let (patch, strict) = read_object(patch).map_err(|why| {
        PatchError::BadRequest(if lenient {
            "Invalid JSON Patch".into()
        } else {
            format!("error decoding patch: {why}")
        })
    })?;
    let mut object = object;
    merge(&mut object, patch);
    Ok(Patched { object, strict, shown: None })
}

/// Merges a patch into a value.
fn merge(value: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *value = patch;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(fields) = value else { return };
    for (key, patch) in patch {
        if patch.is_null() {
            fields.remove(&key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), patch);
        }
    }
}

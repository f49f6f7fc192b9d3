//! Patches: JSON patch, merge patch and strategic merge patch.
//!
//! Owns: applying a patch to an object, and the errors in the words of Kubernetes. Must not know:
//! server-side apply (see `managed`). A newcomer's trap: what comes out is not yet an object of its
//! kind; [`finish`] checks it and brings it to normal form.

mod json_patch;
mod merge;
mod order;
mod strategic;

use serde_json::Value;

use crate::codec::json::{self, Node};
use crate::codec::{self, Decoded};
use crate::schema::Type;

/// Operations in one JSON patch.
pub const OPERATIONS_MAX: usize = 10_000;
/// Bytes that the copy operations of one JSON patch may add.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The kinds of patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    Strategic,
}

/// Why a patch is refused. Each is a status of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400 with this message.
    #[error("{0}")]
    BadRequest(String),
    /// 413 with this message.
    #[error("{0}")]
    TooLarge(String),
    /// 422 without a word of why: `the server rejected our request due to an error in our request`.
    #[error("the server rejected our request due to an error in our request")]
    Unprocessable,
    /// 422 with one cause for the field `patch`: an invalid value and why.
    #[error("patch: Invalid value: {value:?}: {why}")]
    Invalid {
        /// The patched object or the patch, as text.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// 500 with this message and no reason.
    #[error("{0}")]
    Internal(String),
}

/// A patched object and what strict clients want to hear about the patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// The object, not yet checked.
    pub object: Value,
    /// Unknown and duplicate fields in the patch itself.
    pub strict: Vec<String>,
    /// What a refusal shows: for strategic patches the patch, else the patched object.
    shown: Option<String>,
}

/// Applies a patch to an object in normal form. `lenient` is for `fieldValidation=Ignore`.
pub fn apply(
    kind: Kind,
    object: Value,
    patch: &[u8],
    target: &'static Type,
    lenient: bool,
) -> Result<Patched, PatchError> {
    match kind {
        Kind::Json => json_patch::apply(object, patch, lenient),
        Kind::Merge => merge::apply(object, patch, lenient),
        Kind::Strategic => strategic::apply(object, patch, target),
    }
}

/// Checks a patched object and brings it to the normal form of its type.
pub fn finish(patched: Patched, target: &'static Type) -> Result<Decoded, PatchError> {
    let shown = patched.shown;
    let text = patched.object.to_string();
    match codec::normal(patched.object, target) {
        Ok(mut decoded) => {
            let mut strict = patched.strict;
            strict.append(&mut decoded.strict);
            Ok(Decoded { object: decoded.object, strict })
        }
        Err(why) => Err(PatchError::Invalid { value: shown.unwrap_or(text), why }),
    }
}

/// The error that `fieldValidation=Strict` makes of unknown and duplicate fields of a patch.
pub fn refuse_strict(decoded: &Decoded) -> Result<(), PatchError> {
    if decoded.strict.is_empty() {
        return Ok(());
    }
    let why = format!("strict decoding error: {}", decoded.strict.join(", "));
    Err(PatchError::Invalid { value: decoded.object.to_string(), why })
}

/// Reads a patch that must be an object, with reports of duplicates.
fn read_object(patch: &[u8]) -> Result<(Value, Vec<String>), String> {
    let node = json::parse(patch)?;
    match node {
        Node::Object(_) | Node::Null => {}
        other => {
            let found = other.go_kind();
            return Err(format!(
                "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            ));
        }
    }
    let decoded = codec::untyped(node);
    let object =
        if decoded.object.is_null() { Value::Object(Default::default()) } else { decoded.object };
    Ok((object, decoded.strict))
}

/// A value as Go's `%v` prints it.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let shown = fields.iter().map(|(key, value)| format!("{key}:{}", go_value(value)));
            format!("map[{}]", shown.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;

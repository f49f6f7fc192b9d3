//! Field errors: what is wrong with which field, in the words of Kubernetes' field validation.
//!
//! Owns: the kinds of field error, their text and their `causes` entry. Must not know: which kind
//! of object is checked. A newcomer's trap: the bad value is printed the way Go prints it (`%q`
//! for strings, JSON for structures), and clients compare these texts.

use std::fmt::Write as _;

use serde_json::Value;

/// The reason of a field error, as it stands in `status.details.causes[].reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `FieldValueNotFound`
    NotFound,
    /// `FieldValueRequired`
    Required,
    /// `FieldValueDuplicate`
    Duplicate,
    /// `FieldValueInvalid`
    Invalid,
    /// `FieldValueNotSupported`
    NotSupported,
    /// `FieldValueForbidden`
    Forbidden,
    /// `FieldValueTooLong`
    TooLong,
    /// `FieldValueTooMany`
    TooMany,
    /// `InternalError`
    Internal,
    /// `FieldValueTypeInvalid`
    TypeInvalid,
}

impl Reason {
    /// The word in a Status cause.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Why.
    pub reason: Reason,
    /// The path, such as `spec.containers[0].name`.
    pub field: String,
    /// The whole text after the path, such as `Required value: image`.
    pub message: String,
}

impl FieldError {
    /// `Required value` with an optional detail.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        Self::with(Reason::Required, field, "Required value", detail)
    }

    /// `Invalid value: <value>: <detail>`.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::with(Reason::Invalid, field, &format!("Invalid value: {}", shown(value)), detail)
    }

    /// The same for a value that is already a text, such as a Go structure.
    pub fn invalid_text(field: impl Into<String>, shown: &str, detail: &str) -> Self {
        Self::with(Reason::Invalid, field, &format!("Invalid value: {shown}"), detail)
    }

    /// `Duplicate value: <value>` for a value that is already a text.
    pub fn duplicate_text(field: impl Into<String>, shown: &str) -> Self {
        Self::with(Reason::Duplicate, field, &format!("Duplicate value: {shown}"), "")
    }

    /// `Duplicate value: <value>`.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::with(Reason::Duplicate, field, &format!("Duplicate value: {}", shown(value)), "")
    }

    /// `Not found: <value>`.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self::with(Reason::NotFound, field, &format!("Not found: {}", shown(value)), "")
    }

    /// `Unsupported value: <value>: supported values: "a", "b"`.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        Self::not_supported_text(field, &shown(value), supported)
    }

    /// The same for a value that is already a text.
    pub fn not_supported_text(field: impl Into<String>, shown: &str, supported: &[&str]) -> Self {
        let detail = if supported.is_empty() {
            String::new()
        } else {
            let quoted: Vec<_> = supported.iter().map(|one| format!("{one:?}")).collect();
            format!("supported values: {}", quoted.join(", "))
        };
        let head = format!("Unsupported value: {shown}");
        Self::with(Reason::NotSupported, field, &head, &detail)
    }

    /// `Forbidden: <detail>`.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::with(Reason::Forbidden, field, "Forbidden", detail)
    }

    /// An error of any reason, from its head text and detail.
    pub fn with(reason: Reason, field: impl Into<String>, head: &str, detail: &str) -> Self {
        let message = if detail.is_empty() { head.into() } else { format!("{head}: {detail}") };
        Self { reason, field: field.into(), message }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A value as Kubernetes prints it in a field error: strings quoted, `null` for what is absent.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => go_quoted(text),
        // Go's JSON escapes what might upset a browser.
        other => other
            .to_string()
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026"),
    }
}

/// A text in quotes as Go's `%q` writes it.
pub fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            letter if letter.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(letter));
            }
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

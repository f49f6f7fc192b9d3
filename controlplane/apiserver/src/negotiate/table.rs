//! Tables and metadata-only objects.
//!
//! Owns: their layout. Must not know: the cells of a kind, which its rules make. A newcomer's trap:
//! a row carries the object's metadata unless the client says otherwise; kubectl needs it for
//! names, namespaces and sorting.

use jiff::Timestamp;
use kijabi_base::clock;
use kijabi_meta::field::FieldError;
use kijabi_meta::kind::Kind;
use serde_json::{Value, json};

use crate::status::ApiError;

/// What stands in a row beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Reads the parameter `includeObject`.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => {
                let detail = "must be 'Metadata', 'Object', 'None', or empty";
                let error = FieldError::invalid("includeObject", &other.into(), detail);
                Err(ApiError::invalid_options("TableOptions", &[error]))
            }
        }
    }
}

/// A table of `objects`; its metadata is the caller's.
pub(super) fn table<'a>(
    kind: &Kind,
    version: &str,
    headers: bool,
    include: IncludeObject,
    objects: impl IntoIterator<Item = &'a Value>,
) -> Value {
    let now = now();
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let beside = match include {
                IncludeObject::None => Value::Null,
                IncludeObject::Metadata => partial_metadata(object, version),
                IncludeObject::Object => object.clone(),
            };
            let mut row = json!({"cells": kind.strategy.row(object, now), "object": beside});
            let conditions = kind.strategy.row_conditions(object);
            if !conditions.is_empty() {
                row["conditions"] = conditions.into();
            }
            row
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": {},
        "columnDefinitions": if headers { columns(kind) } else { Value::Null },
        "rows": rows,
    })
}

fn columns(kind: &Kind) -> Value {
    let column = |column: &kijabi_meta::kind::Column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    };
    kind.columns.iter().map(column).collect()
}

/// The `PartialObjectMetadata` of an object.
pub fn partial_metadata(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object["metadata"],
    })
}

/// The wall clock, for ages.
fn now() -> Timestamp {
    Timestamp::from_millisecond(clock::wall_ms() as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

//! Objects to protobuf messages, by the schema table.
//!
//! Owns: the message of every shape. Must not know: the envelope. A newcomer's trap: what is absent or
//! of the wrong type is left out, and maps are written sorted by key, so equal objects give equal bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::special::{self, Precision};
use super::decode::is_wrapped;
use super::wire::{put_bytes, put_double, put_number};
use crate::schema::{Element, Shape, Type};

/// The message of an object.
pub(super) fn message(object: &Value, target: &'static Type) -> Vec<u8> {
    let mut out = Vec::new();
    for field in target.own.iter().filter(|one| one.number != 0) {
        let Some(value) = object.get(field.name) else { continue };
        match (field.element.shape, value) {
            (_, Value::Null) => {}
            (Shape::List(item), Value::Array(items)) if !is_wrapped(&field.element) => {
                for one in items {
                    put(&mut out, field.number, one, item);
                }
            }
            (Shape::Map(item), Value::Object(entries)) => {
                for (key, value) in entries {
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    put(&mut entry, 2, value, item);
                    put_bytes(&mut out, field.number, &entry);
                }
            }
            _ => put(&mut out, field.number, value, &field.element),
        }
    }
    for inline in target.inlines.iter().filter(|one| one.number != 0) {
        let inner = message(object, inline.target.get());
        if !inner.is_empty() {
            put_bytes(&mut out, inline.number, &inner);
        }
    }
    out
}

fn put(out: &mut Vec<u8>, number: u32, value: &Value, element: &Element) {
    match element.shape {
        Shape::String | Shape::Duration => {
            put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes());
        }
        Shape::Bytes => {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
            put_bytes(out, number, &bytes);
        }
        Shape::Int32 | Shape::Int64 => {
            put_number(out, number, value.as_i64().unwrap_or_default() as u64);
        }
        Shape::Bool => put_number(out, number, u64::from(value == &Value::Bool(true))),
        Shape::Double => put_double(out, number, value.as_f64().unwrap_or_default()),
        Shape::Struct(target) => put_bytes(out, number, &message(value, target.get())),
        Shape::List(item) => {
            let mut inner = Vec::new();
            for one in value.as_array().into_iter().flatten() {
                put(&mut inner, 1, one, item);
            }
            put_bytes(out, number, &inner);
        }
        Shape::Quantity => {
            let mut inner = Vec::new();
            put_bytes(&mut inner, 1, value.as_str().unwrap_or("0").as_bytes());
            put_bytes(out, number, &inner);
        }
        Shape::IntOrString => {
            let mut inner = Vec::new();
            let text = value.as_str();
            put_number(&mut inner, 1, u64::from(text.is_some()));
            put_number(&mut inner, 2, value.as_i64().unwrap_or_default() as u64);
            put_bytes(&mut inner, 3, text.unwrap_or_default().as_bytes());
            put_bytes(out, number, &inner);
        }
        Shape::Time => put_bytes(out, number, &time(value, Precision::Seconds)),
        Shape::MicroTime => put_bytes(out, number, &time(value, Precision::Micros)),
        Shape::Raw | Shape::FieldsV1 | Shape::Json => {
            let mut inner = Vec::new();
            put_bytes(&mut inner, 1, value.to_string().as_bytes());
            put_bytes(out, number, &inner);
        }
        Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStrings => {
            put_bytes(out, number, &schema_union(value, element.shape));
        }
        Shape::Map(_) | Shape::Any => {}
    }
}

fn time(value: &Value, precision: Precision) -> Vec<u8> {
    let mut inner = Vec::new();
    let parsed = value.as_str().and_then(|text| special::parse_time(text, precision).ok());
    if let Some(time) = parsed {
        put_number(&mut inner, 1, time.as_second() as u64);
        put_number(&mut inner, 2, time.subsec_nanosecond() as u64);
    }
    inner
}

fn schema_union(value: &Value, shape: Shape) -> Vec<u8> {
    let mut inner = Vec::new();
    let schema = |value: &Value| message(value, special::schema_type());
    match (shape, value) {
        (Shape::SchemaOrBool, Value::Object(_)) => {
            put_number(&mut inner, 1, 1);
            put_bytes(&mut inner, 2, &schema(value));
        }
        (Shape::SchemaOrBool, _) => {
            put_number(&mut inner, 1, u64::from(value == &Value::Bool(true)));
        }
        (_, Value::Object(_)) => put_bytes(&mut inner, 1, &schema(value)),
        (Shape::SchemaOrArray, Value::Array(items)) => {
            for one in items {
                put_bytes(&mut inner, 2, &schema(one));
            }
        }
        (_, Value::Array(items)) => {
            for one in items {
                put_bytes(&mut inner, 2, one.as_str().unwrap_or_default().as_bytes());
            }
        }
        _ => {}
    }
    inner
}

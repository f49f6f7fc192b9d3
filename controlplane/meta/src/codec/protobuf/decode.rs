//! Protobuf messages to trees, by the schema table.
//!
//! Owns: which JSON value a message's fields are. Must not know: the envelope. A newcomer's trap: a
//! repeated field comes in pieces, a map as a list of entries, and unknown numbers are skipped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::json::{self, NESTING_MAX, Node};
use super::super::special::{self, Precision};
use super::wire::{Reader, Wire};
use crate::schema::{Element, Shape, Type};

/// Reads a message of a type.
pub(super) fn message(bytes: &[u8], target: &'static Type, depth: usize) -> Result<Node, String> {
    let mut fields = Vec::new();
    collect(bytes, target, depth, &mut fields)?;
    Ok(Node::Object(fields))
}

/// Adds a message's fields to those of the object it is part of.
fn collect(
    bytes: &[u8],
    target: &'static Type,
    depth: usize,
    fields: &mut Vec<(String, Node)>,
) -> Result<(), String> {
    if depth > NESTING_MAX {
        return Err("exceeded max depth".into());
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if let Some(field) = target.own.iter().find(|one| one.number == number) {
            match field.element.shape {
                Shape::List(item) if !is_wrapped(&field.element) => {
                    let list = slot(fields, field.name, || Node::Array(Vec::new()));
                    let Node::Array(items) = list else { continue };
                    read_items(wire, item, field.name, depth, items)?;
                }
                Shape::Map(item) => {
                    let (key, value) = entry(wire.bytes(field.name)?, item, field.name, depth)?;
                    let map = slot(fields, field.name, || Node::Object(Vec::new()));
                    let Node::Object(entries) = map else { continue };
                    entries.push((key, value));
                }
                _ => {
                    let value = value(wire, &field.element, field.name, depth)?;
                    *slot(fields, field.name, || Node::Null) = value;
                }
            }
        } else if let Some(inline) = target.inlines.iter().find(|one| one.number == number) {
            collect(wire.bytes(target.short)?, inline.target.get(), depth + 1, fields)?;
        }
    }
    Ok(())
}

/// The place of a field, made if it is not there yet. Pieces of a list usually come in a row.
fn slot<'a>(
    fields: &'a mut Vec<(String, Node)>,
    name: &str,
    empty: impl Fn() -> Node,
) -> &'a mut Node {
    let at = match fields.iter().rposition(|(key, _)| key == name) {
        Some(at) => at,
        None => {
            fields.push((name.into(), empty()));
            fields.len() - 1
        }
    };
    &mut fields[at].1
}

/// Named list types are messages of their own, with the items in field 1.
pub(super) fn is_wrapped(element: &Element) -> bool {
    matches!(element.go, Some("v1.Verbs" | "v1.ExtraValue"))
}

fn read_items(
    wire: Wire<'_>,
    item: &Element,
    name: &str,
    depth: usize,
    items: &mut Vec<Node>,
) -> Result<(), String> {
    // Lists of numbers may come packed.
    if let (Shape::Int32 | Shape::Int64, Wire::Bytes(packed)) = (item.shape, wire) {
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            let number = Wire::Varint(reader.varint()?);
            items.push(value(number, item, name, depth)?);
        }
        return Ok(());
    }
    items.push(value(wire, item, name, depth)?);
    Ok(())
}

fn entry(bytes: &[u8], item: &Element, name: &str, depth: usize) -> Result<(String, Node), String> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => key = wire.text(name)?,
            2 => found = Some(value(wire, item, name, depth)?),
            _ => {}
        }
    }
    let found = match (found, item.shape) {
        (Some(found), _) => found,
        (None, Shape::Bytes) => Node::String(String::new()),
        (None, _) => Node::Null,
    };
    Ok((key, found))
}

fn value(wire: Wire<'_>, element: &Element, name: &str, depth: usize) -> Result<Node, String> {
    let depth = depth + 1;
    Ok(match element.shape {
        Shape::String | Shape::Duration => Node::String(wire.text(name)?),
        Shape::Bytes => Node::String(STANDARD.encode(wire.bytes(name)?)),
        Shape::Int32 => Node::Number((wire.number(name)? as i32).to_string()),
        Shape::Int64 => Node::Number((wire.number(name)? as i64).to_string()),
        Shape::Bool => Node::Bool(wire.number(name)? != 0),
        Shape::Double => match json::float_value(wire.double(name)?) {
            Value::Number(number) => Node::Number(number.to_string()),
            _ => return Err(format!("json: unsupported value in field {name}")),
        },
        Shape::Struct(target) => message(wire.bytes(name)?, target.get(), depth)?,
        Shape::List(item) => {
            let mut items = Vec::new();
            for wire in all(wire.bytes(name)?, 1)? {
                items.push(value(wire, item, name, depth)?);
            }
            Node::Array(items)
        }
        Shape::Map(_) => return Err(format!("proto: map within a map in field {name}")),
        Shape::Quantity => Node::String(match last(wire.bytes(name)?, 1)? {
            Some(text) => text.text(name)?,
            None => "0".into(),
        }),
        Shape::IntOrString => {
            let bytes = wire.bytes(name)?;
            let is_text = last(bytes, 1)?.map_or(Ok(0), |one| one.number(name))? == 1;
            if is_text {
                Node::String(last(bytes, 3)?.map_or(Ok(String::new()), |one| one.text(name))?)
            } else {
                let number = last(bytes, 2)?.map_or(Ok(0), |one| one.number(name))?;
                Node::Number((number as i32).to_string())
            }
        }
        Shape::Time => time(wire.bytes(name)?, name, Precision::Seconds)?,
        Shape::MicroTime => time(wire.bytes(name)?, name, Precision::Micros)?,
        Shape::Raw | Shape::FieldsV1 | Shape::Json => match last(wire.bytes(name)?, 1)? {
            Some(raw) => raw_json(raw.bytes(name)?)?,
            None => Node::Null,
        },
        Shape::Any => Node::Null,
        Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStrings => {
            schema_union(wire.bytes(name)?, element.shape, name, depth)?
        }
    })
}

fn raw_json(bytes: &[u8]) -> Result<Node, String> {
    if bytes.is_empty() { Ok(Node::Null) } else { json::parse(bytes) }
}

fn time(bytes: &[u8], name: &str, precision: Precision) -> Result<Node, String> {
    if bytes.is_empty() {
        return Ok(Node::Null);
    }
    let part = |number| last(bytes, number)?.map_or(Ok(0), |one| one.number(name));
    let seconds = part(1)? as i64;
    let nanos = if precision == Precision::Seconds { 0 } else { part(2)? as i32 };
    let time = special::time_of_parts(seconds, nanos.clamp(0, 999_999_999));
    Ok(special::time_value(time, precision).into())
}

fn schema_union(bytes: &[u8], shape: Shape, name: &str, depth: usize) -> Result<Node, String> {
    let schema = |wire: Wire<'_>| message(wire.bytes(name)?, special::schema_type(), depth + 1);
    let schema_number = if matches!(shape, Shape::SchemaOrBool) { 2 } else { 1 };
    if let Some(one) = last(bytes, schema_number)? {
        return schema(one);
    }
    match shape {
        Shape::SchemaOrBool => {
            Ok(Node::Bool(last(bytes, 1)?.map_or(Ok(0), |one| one.number(name))? != 0))
        }
        Shape::SchemaOrArray => {
            let items = all(bytes, 2)?.into_iter().map(schema).collect::<Result<Vec<_>, _>>()?;
            Ok(if items.is_empty() { Node::Null } else { Node::Array(items) })
        }
        _ => {
            let texts = all(bytes, 2)?.into_iter().map(|one| one.text(name).map(Node::String));
            texts.collect::<Result<Vec<_>, _>>().map(Node::Array)
        }
    }
}

/// All values of a field.
fn all(bytes: &[u8], wanted: u32) -> Result<Vec<Wire<'_>>, String> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some((number, wire)) = reader.field()? {
        if number == wanted {
            found.push(wire);
        }
    }
    Ok(found)
}

/// A field's value: the last one counts.
fn last(bytes: &[u8], wanted: u32) -> Result<Option<Wire<'_>>, String> {
    Ok(all(bytes, wanted)?.pop())
}

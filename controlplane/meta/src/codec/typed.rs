//! From a tree to an object of a schema type, as Go's decoder would fill the structure.
//!
//! Owns: type checks, pruning and reporting of unknown and duplicate fields, zero values, what
//! `omitempty` leaves out. Must not know: media types, kinds. A newcomer's trap: the result is what Go
//! would write back after reading, so required fields appear even if the client left them out.

use serde_json::{Map, Value};

use super::json::{self, Node};
use super::special;
use crate::schema::{Element, Field, Shape, Type};

/// Kubernetes reports at most this many unknown or duplicate fields.
const REPORTED_MAX: usize = 100;

/// A decoded object and what strict clients want to hear about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object.
    pub object: Value,
    /// Unknown and duplicate fields, such as `unknown field "spec.foo"`.
    pub strict: Vec<String>,
}

/// Fills a type from a tree. The error is the text of Go's decoder.
pub(super) fn decode(node: Node, target: &'static Type) -> Result<Decoded, String> {
    let mut decoder = Decoder::default();
    let object = match node {
        Node::Object(fields) => decoder.structure(fields, target)?,
        Node::Null => zero_structure(target),
        other => {
            decoder.mismatch(other.go_kind(), &target.go_name());
            Value::Null
        }
    };
    match decoder.saved {
        Some(error) => Err(error),
        None => Ok(Decoded { object, strict: decoder.strict }),
    }
}

/// A value of a type, checked and brought to the form that Go would write.
pub fn normal(value: Value, target: &'static Type) -> Result<Decoded, String> {
    decode(value.into(), target)
}

/// Any JSON as it is, with reports of duplicate fields.
pub(crate) fn untyped(node: Node) -> Decoded {
    let mut decoder = Decoder::default();
    let object = decoder.untyped(node);
    Decoded { object, strict: decoder.strict }
}

#[derive(Default)]
struct Decoder {
    /// The first type error; later ones are not told.
    saved: Option<String>,
    strict: Vec<String>,
    /// Path of field names, for type errors: each with the type that holds it.
    fields: Vec<(&'static Type, &'static str)>,
    /// Path with keys and indexes, for unknown fields.
    path: String,
    /// Set below types that decode themselves: Go is not strict there.
    lenient: bool,
}

impl Decoder {
    fn mismatch(&mut self, found: &str, wanted: &str) {
        if self.saved.is_some() {
            return;
        }
        self.saved = Some(self.mismatch_text(found, wanted));
    }

    fn mismatch_text(&self, found: &str, wanted: &str) -> String {
        let place = match self.fields.last() {
            None => "Go value".into(),
            Some((holder, _)) => {
                let path: Vec<_> = self.fields.iter().map(|(one, name)| told(one, name)).collect();
                format!("Go struct field {}.{}", holder.short, path.join("."))
            }
        };
        format!("json: cannot unmarshal {found} into {place} of type {wanted}")
    }

    /// The error of a value that decodes itself: it ends the decoding, whatever was saved before.
    fn stop(&self, stop: special::Stop) -> String {
        match stop {
            special::Stop::Text(text) => text,
            special::Stop::Mismatch { found, wanted } => self.mismatch_text(&found, wanted),
        }
    }

    fn save(&mut self, error: String) {
        self.saved.get_or_insert(error);
    }

    fn report(&mut self, what: &str, field: &str) {
        if self.lenient || self.strict.len() >= REPORTED_MAX {
            return;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        let report = format!("{what} {:?}", format!("{}{dot}{field}", self.path));
        if !self.strict.contains(&report) {
            self.strict.push(report);
        }
    }

    fn structure(
        &mut self,
        fields: Vec<(String, Node)>,
        target: &'static Type,
    ) -> Result<Value, String> {
        let mut object = Map::new();
        let mut seen: Vec<&'static str> = Vec::new();
        for (key, node) in fields {
            let Some(field) = target.field(&key) else {
                if target.open {
                    let value = self.at_key(&key, |decoder| Ok(decoder.untyped(node)))?;
                    if object.insert(key.clone(), value).is_some() {
                        self.report("duplicate field", &key);
                    }
                } else {
                    self.report("unknown field", &key);
                }
                continue;
            };
            if seen.contains(&field.name) {
                self.report("duplicate field", field.name);
            } else {
                seen.push(field.name);
            }
            self.fields.push((target, field.name));
            let value = self.at_key(&key, |decoder| decoder.value(node, &field.element))?;
            self.fields.pop();
            object.insert(key, value);
        }
        finish(&mut object, target);
        Ok(Value::Object(object))
    }

    fn at_key<T>(
        &mut self,
        key: &str,
        inner: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        let result = inner(self);
        self.path.truncate(length);
        result
    }

    fn at_index<T>(
        &mut self,
        index: usize,
        inner: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        use std::fmt::Write as _;
        let length = self.path.len();
        write!(self.path, "[{index}]").expect("writing to a String cannot fail");
        let result = inner(self);
        self.path.truncate(length);
        result
    }

    /// A value of some shape. `Err` is for types that decode themselves: Go stops there at once.
    fn value(&mut self, node: Node, element: &Element) -> Result<Value, String> {
        if node == Node::Null {
            return Ok(zero(element));
        }
        match (element.shape, node) {
            (Shape::Struct(target), Node::Object(fields)) => self.structure(fields, target.get()),
            (Shape::List(item), Node::Array(nodes)) => {
                let mut items = Vec::with_capacity(nodes.len());
                for (at, node) in nodes.into_iter().enumerate() {
                    items.push(self.at_index(at, |decoder| decoder.value(node, item))?);
                }
                Ok(Value::Array(items))
            }
            (Shape::Map(item), Node::Object(fields)) => {
                let mut map = Map::new();
                for (key, node) in fields {
                    if map.contains_key(&key) {
                        self.report("duplicate field", &key);
                    }
                    let value = self.at_key(&key, |decoder| decoder.value(node, item))?;
                    map.insert(key, value);
                }
                Ok(Value::Object(map))
            }
            (Shape::String, Node::String(text)) => Ok(Value::String(text)),
            (Shape::Bool, Node::Bool(value)) => Ok(Value::Bool(value)),
            (Shape::Int32, Node::Number(text)) => Ok(match text.parse::<i32>() {
                Ok(number) => number.into(),
                Err(_) => self.out_of_range(&text, element),
            }),
            (Shape::Int64, Node::Number(text)) => Ok(match text.parse::<i64>() {
                Ok(number) => number.into(),
                Err(_) => self.out_of_range(&text, element),
            }),
            (Shape::Double, Node::Number(text)) => Ok(match text.parse::<f64>() {
                Ok(number) if number.is_finite() => json::float_value(number),
                _ => self.out_of_range(&text, element),
            }),
            (Shape::Bytes, Node::String(text)) => Ok(match special::bytes(&text) {
                Ok(text) => Value::String(text),
                Err(error) => {
                    self.save(error);
                    Value::Null
                }
            }),
            (Shape::Any, node) => Ok(self.untyped(node)),
            (Shape::Raw | Shape::Json | Shape::FieldsV1, node) => Ok(node.into()),
            (Shape::Quantity, node) => special::quantity(node).map_err(|stop| self.stop(stop)),
            (Shape::IntOrString, node) => {
                special::int_or_string(node).map_err(|stop| self.stop(stop))
            }
            (Shape::Time, node) => {
                special::time(node, special::Precision::Seconds).map_err(|stop| self.stop(stop))
            }
            (Shape::MicroTime, node) => {
                special::time(node, special::Precision::Micros).map_err(|stop| self.stop(stop))
            }
            (Shape::Duration, Node::String(text)) => Ok(Value::String(text)),
            (Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStrings, node) => {
                self.schema_union(node, element)
            }
            (_, node) => {
                self.mismatch(node.go_kind(), &element.go_name());
                Ok(zero(element))
            }
        }
    }

    fn out_of_range(&mut self, text: &str, element: &Element) -> Value {
        self.mismatch(&format!("number {text}"), &element.go_name());
        Value::Null
    }

    /// Any JSON; only duplicates are reported.
    fn untyped(&mut self, node: Node) -> Value {
        match node {
            Node::Array(nodes) => {
                let item = |(at, node)| self.at_index(at, |decoder| Ok(decoder.untyped(node)));
                let items: Result<Vec<_>, String> =
                    nodes.into_iter().enumerate().map(item).collect();
                items.map_or(Value::Null, Value::Array)
            }
            Node::Object(fields) => {
                let mut map = Map::new();
                for (key, node) in fields {
                    if map.contains_key(&key) {
                        self.report("duplicate field", &key);
                    }
                    let value = self.at_key(&key, |decoder| Ok(decoder.untyped(node)));
                    map.insert(key, value.unwrap_or_default());
                }
                Value::Object(map)
            }
            other => other.into(),
        }
    }

    /// The unions in a CRD's schema, which decode themselves and so are not strict inside.
    fn schema_union(&mut self, node: Node, element: &Element) -> Result<Value, String> {
        let schema = special::schema_type();
        let lenient = std::mem::replace(&mut self.lenient, true);
        let value = match (element.shape, node) {
            (_, Node::Object(fields)) => self.structure(fields, schema),
            (Shape::SchemaOrBool, Node::Bool(value)) => Ok(Value::Bool(value)),
            (Shape::SchemaOrBool, _) => Err("boolean or JSON schema expected".into()),
            (Shape::SchemaOrArray, Node::Array(nodes)) => {
                let one = |node| match node {
                    Node::Object(fields) => self.structure(fields, schema),
                    other => Ok(other.into()),
                };
                nodes.into_iter().map(one).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            (Shape::SchemaOrStrings, node @ Node::Array(_)) => Ok(node.into()),
            _ => Ok(Value::Null),
        };
        self.lenient = lenient;
        value
    }
}

/// A field as a type error tells it: behind the names of embedded types.
fn told(holder: &'static Type, name: &str) -> String {
    if holder.own.iter().any(|one| one.name == name) {
        return name.into();
    }
    for inline in &holder.inlines {
        let target = inline.target.get();
        if target.field(name).is_some() {
            return format!("{}.{}", target.short, told(target, name));
        }
    }
    name.into()
}

/// Leaves out what `omitempty` leaves out and adds what Go would write as zero.
fn finish(object: &mut Map<String, Value>, target: &'static Type) {
    for field in &target.fields {
        match object.get(field.name) {
            Some(value) if is_left_out(field, value) => {
                object.remove(field.name);
            }
            Some(_) => {}
            None if is_written_when_absent(field) => {
                object.insert(field.name.into(), zero(&field.element));
            }
            None => {}
        }
    }
}

fn is_left_out(field: &Field, value: &Value) -> bool {
    if !field.omit_empty {
        return false;
    }
    if field.element.pointer {
        return value.is_null();
    }
    match field.element.shape {
        Shape::String => value.as_str().is_none_or(str::is_empty),
        Shape::Bool => value == &Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double => value.as_f64() == Some(0.0),
        Shape::List(_) | Shape::Bytes | Shape::Map(_) | Shape::Any => is_empty(value),
        _ => field.omit_zero && *value == zero(&field.element),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Go writes structures even if empty: `omitempty` does not apply to them.
fn is_written_when_absent(field: &Field) -> bool {
    if !field.omit_empty {
        return true;
    }
    let structure = matches!(
        field.element.shape,
        Shape::Struct(_)
            | Shape::Quantity
            | Shape::IntOrString
            | Shape::Time
            | Shape::MicroTime
            | Shape::Duration
            | Shape::Raw
    );
    structure && !field.element.pointer && !field.omit_zero
}

/// What Go writes for a value that was never set.
pub(super) fn zero(element: &Element) -> Value {
    if element.pointer {
        return Value::Null;
    }
    match element.shape {
        Shape::String => "".into(),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => 0.into(),
        Shape::Bool => false.into(),
        Shape::Quantity => "0".into(),
        Shape::Duration => "0s".into(),
        Shape::Struct(target) => zero_structure(target.get()),
        _ => Value::Null,
    }
}

fn zero_structure(target: &'static Type) -> Value {
    let mut object = Map::new();
    finish(&mut object, target);
    Value::Object(object)
}

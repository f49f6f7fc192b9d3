//! What the schema says of a place in an object: scalar, list or map, and how each is merged.
//!
//! Owns: reading that from the schema table, or from a custom resource's schema. Must not know: values
//! beyond their JSON kind. A newcomer's trap: a list without markers is one unit (atomic), a map without
//! markers is merged by key.

use serde_json::Value;

use super::set::Step;
use crate::schema::{Element, Field, ListKind, Shape, Type};

/// A place in the schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// A structure of the table.
    Structure(&'static Type),
    /// A field of the table.
    Field(&'static Field),
    /// An item of a list or a value of a map of the table.
    Item(&'static Element),
    /// A place in a custom resource's schema.
    Custom(&'a Value),
    /// Anything: maps are merged by key, lists are units.
    Anything,
    /// Anything below a unit, or nothing at all.
    Unit,
}

/// What a place holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Atom<'a> {
    Scalar,
    List(List, Place<'a>),
    Map { atomic: bool, place: Place<'a> },
}

/// How a list is merged.
#[derive(Clone, Copy, Debug)]
pub(super) enum List {
    Atomic,
    Set,
    Keyed(Keys),
}

/// The keys of a list's items.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys {
    Table(&'static [&'static str]),
    One(&'static str),
    /// Those that the list's own schema names (custom resources).
    Schema,
}

impl<'a> Place<'a> {
    /// What the place holds, given a value there (the kind of value decides where anything goes).
    pub(super) fn atom(self, value: Option<&Value>) -> Atom<'a> {
        match self {
            Self::Structure(target) => Atom::Map { atomic: target.atomic, place: self },
            Self::Field(field) => field_atom(field, value),
            Self::Item(element) => element_atom(element, None, value),
            Self::Custom(schema) => custom_atom(schema, value),
            Self::Anything | Self::Unit => anything(value),
        }
    }

    /// The place of a field of a map, and whether the schema names the field.
    pub(super) fn field(self, name: &str) -> (Option<Place<'a>>, bool) {
        match self {
            Self::Structure(target) => match target.field(name) {
                Some(field) => (Some(Self::Field(field)), true),
                None if target.open => (Some(Self::Anything), false),
                None => (None, false),
            },
            Self::Field(field) => Self::Item(&field.element).field(name),
            Self::Item(element) => match element.shape {
                Shape::Struct(target) => Self::Structure(target.get()).field(name),
                Shape::Map(item) => (Some(Self::Item(item)), false),
                _ => (Some(Self::Anything), false),
            },
            Self::Custom(schema) => custom_field(schema, name),
            Self::Anything | Self::Unit => (Some(Self::Anything), false),
        }
    }

    /// The default of a field of an item, which counts where the item leaves out a key.
    fn default_of(self, name: &str) -> Option<Value> {
        match self.field(name).0? {
            Self::Field(field) => field.default.and_then(|text| serde_json::from_str(text).ok()),
            Self::Custom(schema) => schema.get("default").cloned(),
            _ => None,
        }
    }

    /// Below a step of a path: whether the schema names it, and the place there.
    pub(super) fn step(self, step: &str) -> (bool, Place<'a>) {
        if let Some(name) = step.strip_prefix("f:") {
            let Atom::Map { place, .. } = self.atom(None) else { return (false, Self::Unit) };
            let (found, named) = place.field(name);
            return (named, found.unwrap_or(Self::Unit));
        }
        match self.atom(Some(&Value::Array(Vec::new()))) {
            Atom::List(_, item) if step.starts_with("k:") => (false, item),
            _ => (false, Self::Unit),
        }
    }
}

fn field_atom<'a>(field: &'static Field, value: Option<&Value>) -> Atom<'a> {
    element_atom(&field.element, Some(field), value)
}

fn element_atom<'a>(
    element: &'static Element,
    field: Option<&'static Field>,
    value: Option<&Value>,
) -> Atom<'a> {
    let atomic = field.and_then(|one| one.atomic);
    match element.shape {
        Shape::Struct(target) => Atom::Map {
            atomic: atomic.unwrap_or(target.get().atomic),
            place: Place::Structure(target.get()),
        },
        Shape::Map(_) => Atom::Map { atomic: atomic.unwrap_or(false), place: Place::Item(element) },
        Shape::List(item) => {
            Atom::List(field.map_or(List::Atomic, list_of_field), Place::Item(item))
        }
        Shape::Raw | Shape::FieldsV1 => Atom::Map { atomic: false, place: Place::Anything },
        Shape::Any
        | Shape::Json
        | Shape::SchemaOrArray
        | Shape::SchemaOrBool
        | Shape::SchemaOrStrings => anything(value),
        _ => Atom::Scalar,
    }
}

fn list_of_field(field: &'static Field) -> List {
    match field.list {
        Some(ListKind::Atomic) => List::Atomic,
        Some(ListKind::Set) => List::Set,
        Some(ListKind::Map) => List::Keyed(Keys::Table(field.keys)),
        None if field.merge => match field.merge_key {
            Some(key) => List::Keyed(Keys::One(key)),
            None => List::Set,
        },
        None => List::Atomic,
    }
}

fn anything<'a>(value: Option<&Value>) -> Atom<'a> {
    match value {
        Some(Value::Array(_)) => Atom::List(List::Atomic, Place::Unit),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => Atom::Scalar,
        _ => Atom::Map { atomic: false, place: Place::Anything },
    }
}

fn custom_atom<'a>(schema: &'a Value, value: Option<&Value>) -> Atom<'a> {
    let preserves = schema["x-kubernetes-preserve-unknown-fields"] == true;
    match schema["type"].as_str() {
        Some("object") => Atom::Map {
            atomic: schema["x-kubernetes-map-type"] == "atomic",
            place: Place::Custom(schema),
        },
        Some("array") => {
            let item = schema.get("items").map_or(Place::Anything, Place::Custom);
            let list = match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => List::Set,
                Some("map") => List::Keyed(Keys::Schema),
                _ => List::Atomic,
            };
            Atom::List(list, item)
        }
        Some(_) if !preserves => Atom::Scalar,
        _ => anything(value),
    }
}

fn custom_field<'a>(schema: &'a Value, name: &str) -> (Option<Place<'a>>, bool) {
    if let Some(found) = schema["properties"].get(name) {
        return (Some(Place::Custom(found)), true);
    }
    match schema.get("additionalProperties") {
        Some(found) if found.is_object() => (Some(Place::Custom(found)), false),
        Some(Value::Bool(true)) => (Some(Place::Anything), false),
        _ => {
            let preserves = schema["x-kubernetes-preserve-unknown-fields"] == true;
            let free = schema.get("properties").is_none();
            ((preserves || free).then_some(Place::Anything), false)
        }
    }
}

impl Keys {
    fn names(self, holder: Place<'_>) -> Vec<&str> {
        match (self, holder) {
            (Self::One(key), _) => vec![key],
            (Self::Table(keys), _) => keys.to_vec(),
            (Self::Schema, Place::Custom(schema)) => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array();
                keys.into_iter().flatten().filter_map(Value::as_str).collect()
            }
            (Self::Schema, _) => Vec::new(),
        }
    }
}

/// The step that leads to an item of a list that is merged. `holder` is the list's place.
pub(super) fn item_step(
    list: List,
    holder: Place<'_>,
    item: Place<'_>,
    value: &Value,
) -> Result<Step, String> {
    let keys = match list {
        List::Atomic => return Err("invalid indexing of non-associative list".into()),
        List::Set => return set_step(value),
        List::Keyed(keys) => keys,
    };
    let names = keys.names(holder);
    let Some(fields) = value.as_object() else {
        return Err(if value.is_null() {
            "associative list with keys may not have a null element".into()
        } else {
            "associative list with keys may not have non-map elements".into()
        });
    };
    let Atom::Map { place, .. } = item.atom(Some(value)) else {
        return Err("associative list may not have non-map types".into());
    };
    let mut key = serde_json::Map::new();
    for name in &names {
        let found = fields.get(*name).cloned().or_else(|| place.default_of(name));
        if let Some(found) = found {
            key.insert((*name).into(), found);
        }
    }
    if key.is_empty() {
        let quoted: Vec<_> = names.iter().map(|one| format!("{one:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            quoted.join(" ")
        ));
    }
    // Sorted by name, however the map is ordered.
    let mut parts: Vec<_> = key.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
    parts.sort();
    Ok(format!("k:{{{}}}", parts.join(",")))
}

fn set_step(value: &Value) -> Result<Step, String> {
    match value {
        Value::Object(_) => {
            Err("associative list without keys has an element that's a map type".into())
        }
        Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
        Value::Null => {
            Err("associative list without keys has an element that's an explicit null".into())
        }
        other => Ok(format!("v:{other}")),
    }
}

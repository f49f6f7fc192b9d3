//! Strategic merge patch: a merge that knows which lists are merged, by which key.
//!
//! Owns: the merge and its directives (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList`,
//! `$setElementOrder`). Must not know: kinds. A newcomer's trap: directives stand in the patch beside
//! the data, and must never reach the object.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::order::{self, Places};
use super::{PatchError, Patched, go_value, read_object};
use crate::schema::{Element, Shape, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const DELETE_FROM_LIST_BARE: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const ELEMENT_ORDER_BARE: &str = "$setElementOrder";

pub(super) type Fields = Map<String, Value>;
type Result<T> = std::result::Result<T, PatchError>;

pub(super) fn apply(object: Value, patch: &[u8], target: &'static Type) -> Result<Patched> {
    let (patch, strict) = read_object(patch).map_err(PatchError::BadRequest)?;
    let shown = go_value(&patch);
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::BadRequest("invalid JSON document".into()));
    };
    let object = Value::Object(merge_fields(object, patch, Place::Structure(target))?);
    Ok(Patched { object, strict, shown: Some(shown) })
}

/// What the schema says of the object being merged.
#[derive(Clone, Copy)]
enum Place {
    Structure(&'static Type),
    /// A map or a value without structure: its fields cannot be looked up.
    Other(&'static str),
}

/// What the schema says of a field.
struct Meta {
    place: Place,
    merge: bool,
    key: Option<&'static str>,
}

impl Place {
    fn of(element: &Element) -> Self {
        match element.shape {
            Shape::Struct(target) => Self::Structure(target.get()),
            Shape::Map(_) => Self::Other("map"),
            Shape::List(_) => Self::Other("slice"),
            _ => Self::Other("struct"),
        }
    }

    fn field(self, name: &str) -> Result<Meta> {
        match self {
            Self::Structure(target) => match target.field(name) {
                Some(field) => {
                    let item = match &field.element.shape {
                        Shape::List(item) => item,
                        _ => &field.element,
                    };
                    Ok(Meta { place: Self::of(item), merge: field.merge, key: field.merge_key })
                }
                None if target.open => {
                    Ok(Meta { place: Self::Other("map"), merge: false, key: None })
                }
                None => Err(PatchError::Internal(format!(
                    "unable to find api field in struct {} for the json field {name:?}",
                    target.short
                ))),
            },
            Self::Other(kind) => Err(PatchError::Internal(format!(
                "merging an object in json but data type is not struct, instead is: {kind}"
            ))),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Structure(target) => target.short.into(),
            Self::Other(kind) => kind.into(),
        }
    }
}

fn bad_order() -> PatchError {
    PatchError::BadRequest("invalid patch format of setElementOrder list".into())
}

pub(super) fn no_merge_key(fields: &Fields, key: &str) -> PatchError {
    let shown = go_value(&Value::Object(fields.clone()));
    PatchError::Internal(format!("map: {shown} does not contain declared merge key: {key}"))
}

fn unknown_directive(directive: &Value, patch: &Fields) -> PatchError {
    let (directive, patch) = (go_value(directive), go_value(&Value::Object(patch.clone())));
    PatchError::Internal(format!("unknown patch type: {directive} in map: {patch}"))
}

fn merge_fields(mut object: Fields, mut patch: Fields, place: Place) -> Result<Fields> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Fields::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut object, &mut patch)?;
    set_element_orders(&mut object, &mut patch, place)?;
    for (key, value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_FROM_LIST) {
            Some(name) => (name.to_owned(), true),
            None if key.starts_with(DELETE_FROM_LIST_BARE) => {
                let text = "invalid patch format of primitive list";
                return Err(PatchError::BadRequest(text.into()));
            }
            None => (key, false),
        };
        if value.is_null() {
            object.remove(&key);
            continue;
        }
        let merged = match (object.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let place = place.field(&key)?.place;
                Some(Value::Object(merge_fields(old, new, place)?))
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let meta = place.field(&key)?;
                let merged = if deletes {
                    let gone = Places::of(&new, None);
                    old.into_iter().filter(|one| gone.find(one, None).is_none()).collect()
                } else if meta.merge {
                    merge_lists(old, new, &meta)?
                } else {
                    new
                };
                Some(Value::Array(merged))
            }
            (old, _) if deletes => old,
            (_, mut new) => {
                discard_nulls(&mut new);
                without_directives(new)
            }
        };
        if let Some(merged) = merged {
            object.insert(key, merged);
        }
    }
    Ok(object)
}

/// `$retainKeys`: fields not in the list go, and the patch must not have others.
fn retain_keys(object: &mut Fields, patch: &mut Fields) -> Result<()> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || PatchError::BadRequest("invalid patch format of retainKeys".into());
    let Value::Array(keys) = keys else { return Err(bad()) };
    let kept = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let other = |(name, value): (&String, &Value)| {
        !value.is_null()
            && !name.starts_with(DELETE_FROM_LIST_BARE)
            && !name.starts_with(ELEMENT_ORDER_BARE)
            && !kept(name)
    };
    if patch.iter().any(other) {
        return Err(bad());
    }
    object.retain(|name, _| kept(name));
    Ok(())
}

/// `$setElementOrder/x`: merges list `x` and orders it as asked.
fn set_element_orders(object: &mut Fields, patch: &mut Fields, place: Place) -> Result<()> {
    let orders: Vec<_> =
        patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER_BARE)).cloned().collect();
    for name in orders {
        let wanted = patch.remove(&name).unwrap_or_default();
        let Value::Array(wanted) = wanted else { return Err(not_a_list(&wanted)) };
        let key = name.strip_prefix(ELEMENT_ORDER).ok_or_else(bad_order)?;
        let old = object.get(key).map(as_list).transpose()?;
        let new = patch.get(key).map(as_list).transpose()?;
        let meta = place.field(key)?;
        order::check(new.as_deref().unwrap_or_default(), &wanted, meta.key)?;
        if old.is_none() && new.is_none() {
            continue;
        }
        let both = (old.as_deref().unwrap_or_default(), new.as_deref().unwrap_or_default());
        check_items(both.0, both.1)?;
        if both.0.is_empty() && both.1.is_empty() {
            let text = "no elements in any of the given slices";
            return Err(PatchError::Internal(text.into()));
        }
        let merged = match (&old, new) {
            (None, None) => Vec::new(),
            (Some(old), None) => old.clone(),
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) => {
                if meta.merge {
                    merge_lists(old.clone(), new, &meta)?
                } else {
                    new
                }
            }
        };
        let ordered =
            order::ordered(merged, &wanted, old.as_deref().unwrap_or_default(), meta.key)?;
        patch.remove(key);
        object.insert(key.into(), Value::Array(ordered));
    }
    Ok(())
}

fn as_list(value: &Value) -> Result<Vec<Value>> {
    value.as_array().cloned().ok_or_else(|| not_a_list(value))
}

fn not_a_list(value: &Value) -> PatchError {
    let found = match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        _ => "map[string]interface {}",
    };
    PatchError::Internal(format!("expected a []interface {{}}, but received a {found}"))
}

/// What Go calls the type of a list's item.
fn item_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// Items of lists that are merged must be of one type, and not lists.
fn check_items(old: &[Value], new: &[Value]) -> Result<()> {
    let mut types = old.iter().chain(new).map(item_type);
    let first = types.next();
    if first == Some("list") {
        return Err(PatchError::Unprocessable);
    }
    if types.any(|one| Some(one) != first) {
        let shown = |list: &[Value]| go_value(&list.to_vec().into());
        let both = format!("[{} {}]", shown(old), shown(new));
        return Err(PatchError::Internal(format!("list element types are not identical: {both}")));
    }
    Ok(())
}

fn merge_lists(old: Vec<Value>, new: Vec<Value>, meta: &Meta) -> Result<Vec<Value>> {
    check_items(&old, &new)?;
    if !old.iter().chain(&new).any(Value::is_object) {
        let mut merged: Vec<Value> = Vec::new();
        let mut places = Places::of(&[], None);
        for one in old.iter().chain(&new) {
            if places.find(one, None).is_none() {
                places.add(one, None, merged.len());
                merged.push(one.clone());
            }
        }
        return order::ordered(merged, &new, &old, None);
    }
    let Some(key) = meta.key else {
        return Err(PatchError::Internal(format!(
            "cannot merge lists without merge key for {}",
            meta.place.name()
        )));
    };
    let (old, new) = special_items(old, new, key)?;
    let mut merged = old.clone();
    let mut places = Places::of(&old, Some(key));
    for one in &new {
        let Value::Object(fields) = one else { continue };
        if !fields.contains_key(key) {
            return Err(no_merge_key(fields, key));
        }
        match places.find(one, Some(key)) {
            Some(at) => {
                let Value::Object(known) = merged[at].take() else { continue };
                merged[at] = Value::Object(merge_fields(known, fields.clone(), meta.place)?);
            }
            None => {
                places.add(one, Some(key), merged.len());
                merged.push(one.clone());
            }
        }
    }
    order::ordered(merged, &new, &old, Some(key))
}

/// Items with a directive: those to delete are deleted, `replace` empties the list first.
fn special_items(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut rest, mut replaces) = (Vec::new(), false);
    let mut gone = BTreeSet::new();
    for one in new {
        let Some(fields) = one.as_object() else { continue };
        match fields.get(DIRECTIVE) {
            None => rest.push(one),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    let value = fields.get(key).ok_or_else(|| no_merge_key(fields, key))?;
                    gone.insert(value.to_string());
                }
                Some("replace") => replaces = true,
                Some("merge") => {
                    let text = "merging lists cannot yet be specified in the patch";
                    return Err(PatchError::Internal(text.into()));
                }
                _ => return Err(unknown_directive(directive, fields)),
            },
        }
    }
    if !gone.is_empty() {
        old.retain(|known| known.get(key).is_none_or(|one| !gone.contains(&one.to_string())));
    }
    Ok(if replaces { (rest, Vec::new()) } else { (old, rest) })
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// The value without directives, or `None` if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let kept = |(key, value)| without_directives(value).map(|value| (key, value));
            Some(Value::Object(fields.into_iter().filter_map(kept).collect()))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        other => Some(other),
    }
}

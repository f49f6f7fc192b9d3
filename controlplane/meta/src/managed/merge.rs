//! Merging an applied configuration into an object, taking paths out of one, and checking one.
//!
//! Owns: these three walks over a value. Must not know: managers. A newcomer's trap: merging never
//! removes anything; what a manager no longer applies is taken out afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::place::{Atom, List, Place, item_step};
use super::set::{Set, Step};

/// The object with the configuration's values, or why a list cannot be merged.
pub(super) fn merge(place: Place<'_>, live: &Value, config: &Value) -> Result<Value, String> {
    Ok(merged(place, Some(live), Some(config))?.unwrap_or(Value::Null))
}

fn is_void(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        None | Some(Value::Null) => true,
        Some(_) => false,
    }
}

fn merged(
    place: Place<'_>,
    live: Option<&Value>,
    config: Option<&Value>,
) -> Result<Option<Value>, String> {
    let leaf = || Ok(config.or(live).cloned());
    match place.atom(config.or(live)) {
        Atom::Scalar => leaf(),
        Atom::List(List::Atomic, _) | Atom::Map { atomic: true, .. } => leaf(),
        _ if is_void(live) && is_void(config) => leaf(),
        Atom::List(list, item) => merge_items(list, place, item, live, config),
        Atom::Map { place, .. } => {
            let old = live.and_then(Value::as_object);
            let new = config.and_then(Value::as_object);
            let mut out = Map::new();
            for name in old.into_iter().chain(new).flat_map(|one| one.keys()) {
                if out.contains_key(name) {
                    continue;
                }
                let inner = place.field(name).0.unwrap_or(Place::Anything);
                let (old, new) =
                    (old.and_then(|one| one.get(name)), new.and_then(|one| one.get(name)));
                if let Some(value) = merged(inner, old, new)? {
                    out.insert(name.clone(), value);
                }
            }
            Ok((!out.is_empty()).then_some(Value::Object(out)))
        }
    }
}

type Indexed<'v> = Vec<(Step, &'v Value)>;

fn indexed<'v>(
    list: List,
    holder: Place<'_>,
    item: Place<'_>,
    value: Option<&'v Value>,
) -> Result<Indexed<'v>, String> {
    let items = value.and_then(Value::as_array).into_iter().flatten().enumerate();
    items
        .map(|(at, one)| {
            let step = item_step(list, holder, item, one);
            step.map(|step| (step, one)).map_err(|why| format!("element {at}: {why}"))
        })
        .collect()
}

/// Merges two lists: items of both keep the configuration's order, the live list's own items stay
/// where they are between them.
fn merge_items(
    list: List,
    holder: Place<'_>,
    item: Place<'_>,
    live: Option<&Value>,
    config: Option<&Value>,
) -> Result<Option<Value>, String> {
    let left = indexed(list, holder, item, live)?;
    let right = indexed(list, holder, item, config)?;
    // An item that the live list holds more than once is not merged with the new one.
    let mut live_values: BTreeMap<&Step, Option<&Value>> = BTreeMap::new();
    for (step, value) in &left {
        live_values.entry(step).and_modify(|one| *one = None).or_insert(Some(value));
    }
    let live_value = |step: &Step| live_values.get(step).copied().flatten();
    let right_steps: BTreeSet<&Step> = right.iter().map(|(step, _)| step).collect();
    let in_right = |step: &Step| right_steps.contains(step);
    let mut shared =
        right.iter().map(|(step, _)| step).filter(|step| live_values.contains_key(step));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&Step> = BTreeSet::new();
    let mut out = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((left_step, _)), Some((right_step, right_value))) = (left.get(l), right.get(r))
        {
            if left_step == right_step {
                done.insert(left_step);
                out.extend(merged(item, live_value(left_step), Some(right_value))?);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if in_right(left_step) && next_shared.is_some_and(|next| next != left_step) {
                l += 1;
                continue;
            }
        }
        if let Some((step, value)) = left.get(l) {
            if !in_right(step) {
                out.extend(merged(item, Some(value), None)?);
                l += 1;
                continue;
            }
            if done.contains(step) {
                l += 1;
            }
        }
        if let Some((step, value)) = right.get(r) {
            done.insert(step);
            out.extend(merged(item, live_value(step), Some(value))?);
            r += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}

/// The value without the paths of a set; `None` if nothing is left of it.
pub(super) fn remove(place: Place<'_>, value: &Value, gone: &Set) -> Option<Value> {
    match place.atom(Some(value)) {
        Atom::Scalar => Some(value.clone()),
        Atom::List(List::Atomic, _) | Atom::Map { atomic: true, .. } => None,
        Atom::List(list, item) => {
            let items = value.as_array().filter(|one| !one.is_empty())?;
            let (mut out, mut touched) = (Vec::new(), false);
            for one in items {
                let step = item_step(list, place, item, one).unwrap_or_default();
                if gone.has_step(&step) {
                    continue;
                }
                out.push(match gone.below(&step) {
                    Some(below) => {
                        touched = true;
                        remove(item, one, below).unwrap_or_else(|| emptied(one))
                    }
                    None => one.clone(),
                });
            }
            (touched || !out.is_empty()).then_some(Value::Array(out))
        }
        Atom::Map { place, .. } => {
            let fields = value.as_object().filter(|one| !one.is_empty())?;
            let (mut out, mut touched) = (Map::new(), false);
            for (name, one) in fields {
                let step = format!("f:{name}");
                if gone.has_step(&step) {
                    continue;
                }
                let kept = match gone.below(&step) {
                    Some(below) => {
                        touched = true;
                        let inner = place.field(name).0.unwrap_or(Place::Anything);
                        remove(inner, one, below).unwrap_or_else(|| emptied(one))
                    }
                    None => one.clone(),
                };
                out.insert(name.clone(), kept);
            }
            (touched || !out.is_empty()).then_some(Value::Object(out))
        }
    }
}

/// What stays of a list or map of which all was taken.
fn emptied(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

/// What is wrong with a configuration: undeclared fields, wrong types, duplicate items.
pub(super) fn check(place: Place<'_>, value: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    check_at(place, value, &mut Vec::new(), &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        _ => Err(format!("errors:\n  {}", errors.join("\n  "))),
    }
}

fn check_at(place: Place<'_>, value: &Value, path: &mut Vec<Step>, errors: &mut Vec<String>) {
    let wrong = |path: &[Step], what: &str| {
        let path = super::set::shown(path);
        if path.is_empty() { what.to_owned() } else { format!("{path}: {what}") }
    };
    match (place.atom(Some(value)), value) {
        (_, Value::Null) => {}
        (Atom::Scalar, Value::Array(_) | Value::Object(_)) => {
            let kind = if value.is_array() { "[]interface {}" } else { "map[string]interface {}" };
            errors.push(wrong(path, &format!("expected any scalar, got {kind}")));
        }
        (Atom::Scalar, _) => {
            if let Some(what) = scalar_error(place, value) {
                errors.push(wrong(path, &what));
            }
        }
        (Atom::List(list, item), Value::Array(items)) => {
            let mut seen: BTreeSet<Step> = BTreeSet::new();
            for (at, one) in items.iter().enumerate() {
                let step = match list {
                    List::Atomic => format!("i:{at}"),
                    _ => match item_step(list, place, item, one) {
                        Ok(step) => step,
                        Err(why) => {
                            errors.push(wrong(path, &format!("element {at}: {why}")));
                            return;
                        }
                    },
                };
                if seen.contains(&step) {
                    let shown = super::set::shown(std::slice::from_ref(&step));
                    errors.push(wrong(path, &format!("duplicate entries for key {shown}")));
                }
                path.push(step.clone());
                seen.insert(step);
                check_at(item, one, path, errors);
                path.pop();
            }
        }
        (Atom::List(..), other) => {
            errors.push(wrong(path, &format!("expected list, got {}", go_value(other))));
        }
        (Atom::Map { place, .. }, Value::Object(fields)) => {
            for (name, one) in fields {
                path.push(format!("f:{name}"));
                match place.field(name).0 {
                    Some(inner) => check_at(inner, one, path, errors),
                    None => errors.push(wrong(path, "field not declared in schema")),
                }
                path.pop();
            }
        }
        (Atom::Map { .. }, other) => {
            errors.push(wrong(path, &format!("expected map, got {}", go_value(other))));
        }
    }
}

/// A value as these errors show it.
fn go_value(value: &Value) -> String {
    format!("&{{{}}}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn scalar_error(place: Place<'_>, value: &Value) -> Option<String> {
    use crate::schema::Shape;
    let shape = match place {
        Place::Field(field) => field.element.shape,
        Place::Item(element) => element.shape,
        _ => return None,
    };
    match (shape, value) {
        (Shape::Int32 | Shape::Int64 | Shape::Double, Value::Number(_))
        | (Shape::String | Shape::Bytes, Value::String(_))
        | (Shape::Bool, Value::Bool(_)) => None,
        (Shape::Int32 | Shape::Int64 | Shape::Double, other) => {
            let found = if other.is_string() { "string" } else { "bool" };
            Some(format!("expected numeric (int or float), got {found}"))
        }
        (Shape::String | Shape::Bytes, other) => {
            Some(format!("expected string, got {}", go_value(other)))
        }
        (Shape::Bool, other) => Some(format!("expected boolean, got {}", go_value(other))),
        _ => None,
    }
}

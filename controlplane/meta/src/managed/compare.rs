//! What differs between two objects, as sets of paths.
//!
//! Owns: the comparison and the paths that an object mentions. Must not know: managers. A newcomer's
//! trap: a field that appears counts with all its parents that appeared with it, while the field set of
//! an applied configuration counts only leaves and items.

use std::collections::BTreeMap;

use serde_json::Value;

use super::place::{Atom, List, Place, item_step};
use super::set::{Set, Step};

/// The difference between two objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comparison {
    pub(super) removed: Set,
    pub(super) modified: Set,
    pub(super) added: Set,
}

/// Compares two objects at a place.
pub(super) fn compare(place: Place<'_>, old: &Value, new: &Value) -> Comparison {
    let mut walker = Walker { out: Comparison::default(), path: Vec::new() };
    walker.compare(place, Some(old), Some(new));
    walker.out
}

impl Comparison {
    /// Without fields that do not count for the request.
    pub(super) fn without(self, ignored: &Set) -> Self {
        Self {
            removed: self.removed.without_trees(ignored),
            modified: self.modified.without_trees(ignored),
            added: self.added.without_trees(ignored),
        }
    }
}

struct Walker {
    out: Comparison,
    path: Vec<Step>,
}

/// A list or map that holds nothing, or is not there.
fn is_void(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

fn same_kind(a: &Atom<'_>, b: &Atom<'_>) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

impl Walker {
    fn compare(&mut self, place: Place<'_>, old: Option<&Value>, new: Option<&Value>) {
        let is_leaf = match (old, new) {
            (Some(old_value), Some(new_value)) => {
                let (was, is) = (place.atom(Some(old_value)), place.atom(Some(new_value)));
                let differs = !same_kind(&was, &is) && !old_value.is_null() && !new_value.is_null();
                if differs {
                    self.atom(was, place, old, new);
                }
                self.atom(is, place, old, new)
            }
            _ => self.atom(place.atom(old.or(new)), place, old, new),
        };
        if !is_leaf {
            if old.is_none() {
                self.out.added.insert(&self.path);
            } else if new.is_none() {
                self.out.removed.insert(&self.path);
            }
        }
    }

    /// Compares by what the place holds; whether that was a leaf.
    fn atom(
        &mut self,
        atom: Atom<'_>,
        place: Place<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> bool {
        match atom {
            Atom::Scalar => self.leaf(old, new),
            Atom::List(list, item) => {
                let void = is_void(old) && is_void(new);
                if matches!(list, List::Atomic) || void {
                    return self.leaf(old, new);
                }
                self.items(list, place, item, old, new);
                false
            }
            Atom::Map { atomic, place } => {
                if atomic || (is_void(old) && is_void(new)) {
                    return self.leaf(old, new);
                }
                self.fields(place, old, new);
                false
            }
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) -> bool {
        match (old, new) {
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(old), Some(new)) if !equal(old, new) => self.out.modified.insert(&self.path),
            _ => {}
        }
        true
    }

    fn at(&mut self, step: Step, inner: impl FnOnce(&mut Self)) {
        self.path.push(step);
        inner(self);
        self.path.pop();
    }

    fn fields(&mut self, place: Place<'_>, old: Option<&Value>, new: Option<&Value>) {
        let old = old.and_then(Value::as_object);
        let new = new.and_then(Value::as_object);
        let mut names: Vec<&String> =
            old.into_iter().chain(new).flat_map(|one| one.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (old, new) = (old.and_then(|one| one.get(name)), new.and_then(|one| one.get(name)));
            let inner = place.field(name).0.unwrap_or(Place::Anything);
            self.at(format!("f:{name}"), |walker| walker.compare(inner, old, new));
        }
    }

    fn items(
        &mut self,
        list: List,
        holder: Place<'_>,
        item: Place<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) {
        let old = grouped(list, holder, item, old);
        let mut new = grouped(list, holder, item, new);
        for (step, was) in old {
            let is = new.remove(&step).unwrap_or_default();
            self.at(step, |walker| walker.item(item, &was, &is));
        }
        for (step, is) in new {
            self.at(step, |walker| walker.item(item, &[], &is));
        }
    }

    /// Compares what stands under one step. Duplicates are a unit: they come and go as one.
    fn item(&mut self, item: Place<'_>, was: &[&Value], is: &[&Value]) {
        match (was, is) {
            ([] | [_], [] | [_]) => {
                self.compare(item, was.first().copied(), is.first().copied());
            }
            ([_, _, ..], [_, _, ..]) => {
                if was != is {
                    self.out.modified.insert(&self.path);
                }
            }
            ([_, _, ..], _) => {
                if let Some(one) = is.first() {
                    self.compare(item, None, Some(one));
                }
                self.out.removed.insert(&self.path);
            }
            _ => {
                if let Some(one) = was.first() {
                    self.compare(item, Some(one), None);
                }
                self.out.added.insert(&self.path);
            }
        }
    }
}

/// Items by their steps; items without a step are left out.
fn grouped<'v>(
    list: List,
    holder: Place<'_>,
    item: Place<'_>,
    value: Option<&'v Value>,
) -> BTreeMap<Step, Vec<&'v Value>> {
    let mut out: BTreeMap<Step, Vec<&Value>> = BTreeMap::new();
    for one in value.and_then(Value::as_array).into_iter().flatten() {
        if let Ok(step) = item_step(list, holder, item, one) {
            out.entry(step).or_default().push(one);
        }
    }
    out
}

/// Equal as JSON: `1` and `1.0` are the same number.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// The paths that an object mentions: leaves and items of lists.
pub(super) fn field_set(place: Place<'_>, value: &Value) -> Set {
    let mut out = Set::default();
    mentioned(place, value, &mut Vec::new(), &mut out);
    out
}

fn mentioned(place: Place<'_>, value: &Value, path: &mut Vec<Step>, out: &mut Set) {
    match place.atom(Some(value)) {
        Atom::Scalar | Atom::List(List::Atomic, _) | Atom::Map { atomic: true, .. } => {
            out.insert(path);
        }
        Atom::List(list, item) => {
            for (step, values) in grouped(list, place, item, Some(value)) {
                path.push(step);
                if let [one] = values.as_slice() {
                    mentioned(item, one, path, out);
                }
                out.insert(path);
                path.pop();
            }
        }
        Atom::Map { place, .. } => {
            for (name, one) in value.as_object().into_iter().flatten() {
                let (inner, named) = place.field(name);
                path.push(format!("f:{name}"));
                mentioned(inner.unwrap_or(Place::Anything), one, path, out);
                let empty_map = one.as_object().is_some_and(serde_json::Map::is_empty);
                if one.is_null() || empty_map || !named {
                    out.insert(path);
                }
                path.pop();
            }
        }
    }
}

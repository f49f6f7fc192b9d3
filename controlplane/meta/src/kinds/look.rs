//! Short ways to look into and change a JSON object whose types are already right.
//!
//! Owns: reading with Go's zero values, writing defaults. Must not know: any kind. A newcomer's
//! trap: an absent field and a `null` read the same, as in Go after decoding; use [`Look::has`]
//! where Kubernetes distinguishes a nil pointer from a zero.

use serde_json::{Map, Value};

/// Reading fields with Go's zero values.
pub(crate) trait Look {
    /// The field, or `null`.
    fn get_or_null(&self, key: &str) -> &Value;
    /// The field as a string, or the empty string.
    fn text(&self, key: &str) -> &str;
    /// The field as a list, or the empty list.
    fn list(&self, key: &str) -> &[Value];
    /// The field as an integer, or zero.
    fn int(&self, key: &str) -> i64;
    /// The field as an integer, or nothing when it is absent.
    fn int_opt(&self, key: &str) -> Option<i64>;
    /// The field as a boolean, or false.
    fn flag(&self, key: &str) -> bool;
    /// Whether the field is there and not `null`.
    fn has(&self, key: &str) -> bool;
    /// The entries of a map field, in key order.
    fn entries(&self, key: &str) -> Vec<(&str, &Value)>;
    /// The number of entries of a map field.
    fn size(&self, key: &str) -> usize;
}

impl Look for Value {
    fn get_or_null(&self, key: &str) -> &Value {
        static NULL: Value = Value::Null;
        self.get(key).unwrap_or(&NULL)
    }

    fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or("")
    }

    fn list(&self, key: &str) -> &[Value] {
        self.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn int(&self, key: &str) -> i64 {
        self.int_opt(key).unwrap_or(0)
    }

    fn int_opt(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(Value::as_i64)
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !value.is_null())
    }

    fn entries(&self, key: &str) -> Vec<(&str, &Value)> {
        let mut all: Vec<_> = self
            .get(key)
            .and_then(Value::as_object)
            .map(|map| map.iter().map(|(key, value)| (key.as_str(), value)).collect())
            .unwrap_or_default();
        all.sort_by_key(|(key, _)| *key);
        all
    }

    fn size(&self, key: &str) -> usize {
        self.get(key).and_then(Value::as_object).map_or(0, Map::len)
    }
}

/// Changing fields.
pub(crate) trait Change {
    /// Sets the field unless it is there already.
    fn default_to(&mut self, key: &str, value: impl Into<Value>);
    /// Sets the field if it is absent or the empty string, Go's zero of a string.
    fn default_text(&mut self, key: &str, value: &str);
    /// Sets the field.
    fn put(&mut self, key: &str, value: impl Into<Value>);
    /// Takes the field away.
    fn drop_field(&mut self, key: &str);
    /// The field as an object, made if it is absent.
    fn child(&mut self, key: &str) -> &mut Value;
    /// The field as an object, if it is one.
    fn child_if(&mut self, key: &str) -> Option<&mut Value>;
    /// The field's list items.
    fn items_mut(&mut self, key: &str) -> &mut [Value];
    /// Sets the field to what it is in `other`, absent if it is absent there.
    fn copy_field(&mut self, key: &str, other: &Value);
}

impl Change for Value {
    fn default_to(&mut self, key: &str, value: impl Into<Value>) {
        if !self.has(key) {
            self.put(key, value);
        }
    }

    fn default_text(&mut self, key: &str, value: &str) {
        if self.text(key).is_empty() {
            self.put(key, value);
        }
    }

    fn put(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(map) = self.as_object_mut() {
            map.insert(key.to_owned(), value.into());
        }
    }

    fn drop_field(&mut self, key: &str) {
        if let Some(map) = self.as_object_mut() {
            map.remove(key);
        }
    }

    fn child(&mut self, key: &str) -> &mut Value {
        if !self.is_object() {
            *self = Value::Object(Map::new());
        }
        if !self.get(key).is_some_and(Value::is_object) {
            self.put(key, Map::new());
        }
        &mut self[key]
    }

    fn child_if(&mut self, key: &str) -> Option<&mut Value> {
        self.get_mut(key).filter(|value| value.is_object())
    }

    fn items_mut(&mut self, key: &str) -> &mut [Value] {
        self.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
    }

    fn copy_field(&mut self, key: &str, other: &Value) {
        match other.get(key) {
            Some(value) if !value.is_null() => self.put(key, value.clone()),
            _ => self.drop_field(key),
        }
    }
}

/// Whether two parts of objects are the same to Kubernetes: absent, `null`, empty map and empty
/// list are one. (Go's `equality.Semantic.DeepEqual`, except for quantities: those are canonical.)
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let null = Value::Null;
            a.iter().all(|(key, value)| same(value, b.get(key).unwrap_or(&null)))
                && b.iter().all(|(key, value)| a.contains_key(key) || same(&null, value))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(one, other)| same(one, other))
        }
        (Value::Null, Value::Array(list)) | (Value::Array(list), Value::Null) => list.is_empty(),
        (Value::Null, Value::Object(map)) | (Value::Object(map), Value::Null) => map.is_empty(),
        _ => left == right,
    }
}

/// Which items of a list have a key that an earlier item has.
#[derive(Debug)]
pub(crate) struct Repeats(Vec<bool>);

impl Repeats {
    /// Looks through a list once: lists come from clients and may be long.
    pub(crate) fn of<K: Ord>(items: &[Value], key: impl Fn(&Value) -> K) -> Self {
        let mut seen = std::collections::BTreeSet::new();
        Self(items.iter().map(|item| !seen.insert(key(item))).collect())
    }

    /// The same by a text field.
    pub(crate) fn by(items: &[Value], field: &str) -> Self {
        Self::of(items, |item| item.text(field).to_owned())
    }

    /// Whether the item at `index` is a repetition.
    pub(crate) fn at(&self, index: usize) -> bool {
        self.0.get(index) == Some(&true)
    }
}

/// Adds one to the generation when `spec` changed, else keeps the old one.
pub(crate) fn bump_generation_if(changed: bool, object: &mut Value, old: &Value) {
    let generation = old.get_or_null("metadata").int("generation");
    let next = if changed { generation + 1 } else { generation };
    if next == 0 {
        object.child("metadata").drop_field("generation");
    } else {
        object.child("metadata").put("generation", next);
    }
}

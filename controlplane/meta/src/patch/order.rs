//! The order of a list that a strategic merge patch merged.
//!
//! Owns: how items of the patch and items only the server has come together. Must not know: merging. A
//! newcomer's trap: items of the patch keep the patch's order, the others the server's, and where
//! both orders say nothing the patch's come first.

use std::collections::BTreeMap;

use serde_json::Value;

use super::strategic::no_merge_key;
use super::{PatchError, go_value};

/// What identifies an item: itself, or the value of the merge key.
fn identity<'a>(item: &'a Value, key: Option<&str>) -> Option<&'a Value> {
    match key {
        None => Some(item),
        Some(key) => item.get(key),
    }
}

/// Where items stand in a list, by what identifies them: lists may be long, so they are not searched
/// again and again.
pub(super) struct Places(BTreeMap<String, usize>);

impl Places {
    /// The first place of each item.
    pub(super) fn of(list: &[Value], key: Option<&str>) -> Self {
        let mut places = BTreeMap::new();
        for (at, item) in list.iter().enumerate() {
            if let Some(identity) = identity(item, key) {
                places.entry(identity.to_string()).or_insert(at);
            }
        }
        Self(places)
    }

    /// The place of an item like this one.
    pub(super) fn find(&self, item: &Value, key: Option<&str>) -> Option<usize> {
        self.0.get(&identity(item, key)?.to_string()).copied()
    }

    /// Adds an item at a place.
    pub(super) fn add(&mut self, item: &Value, key: Option<&str>, at: usize) {
        if let Some(identity) = identity(item, key) {
            self.0.entry(identity.to_string()).or_insert(at);
        }
    }
}

fn check_keys(list: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    let Some(key) = key else { return Ok(()) };
    for one in list {
        match one.as_object() {
            Some(fields) if fields.contains_key(key) => {}
            Some(fields) => return Err(no_merge_key(fields, key)),
            None => {
                let found = if one.is_string() { "string" } else { "scalar" };
                return Err(PatchError::Internal(format!(
                    "expected a map[string]interface {{}}, but received a {found}"
                )));
            }
        }
    }
    Ok(())
}

/// Orders merged items: by `wanted` those it names, by `server` the others.
pub(super) fn ordered(
    merged: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    for list in [&merged, wanted, server] {
        check_keys(list, key)?;
    }
    let (wanted, server) = (Places::of(wanted, key), Places::of(server, key));
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|one| wanted.find(one, key).is_some());
    named.sort_by_cached_key(|one| wanted.find(one, key));
    others.sort_by_cached_key(|one| server.find(one, key));
    let mut all = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let others_first = match (others.peek(), named.peek()) {
            (None, None) => return Ok(all),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(name)) => {
                let places = server.find(other, key).zip(server.find(name, key));
                places.is_some_and(|(other, name)| other < name)
            }
        };
        all.extend(if others_first { others.next() } else { named.next() });
    }
}

/// The patch's items must come in the order that `$setElementOrder` asks for.
pub(super) fn check(
    patch: &[Value],
    wanted: &[Value],
    key: Option<&str>,
) -> Result<(), PatchError> {
    if patch.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let kept: Vec<_> = patch.iter().filter(|one| one.get("$patch").is_none()).collect();
    let mut rest = wanted.iter();
    for one in kept {
        check_keys(std::slice::from_ref(one), key)?;
        if !rest.any(|other| identity(other, key) == identity(one, key)) {
            let patch = go_value(&patch.to_vec().into());
            let wanted = go_value(&wanted.to_vec().into());
            return Err(PatchError::Internal(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{wanted}\n"
            )));
        }
    }
    Ok(())
}

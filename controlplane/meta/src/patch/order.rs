//! The order of a list that a strategic merge patch merged.
//!
//! Owns: how items of the patch and items only the server has come together. Must not know: merging. A
//! newcomer's trap: items of the patch keep the patch's order, the others the server's, and where
//! both orders say nothing the patch's come first.

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

fn position(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    let wanted = identity(item, key)?;
    list.iter().position(|one| identity(one, key) == Some(wanted))
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
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|one| position(wanted, one, key).is_some());
    named.sort_by_key(|one| position(wanted, one, key));
    others.sort_by_key(|one| position(server, one, key));
    let mut all = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let others_first = match (others.peek(), named.peek()) {
            (None, None) => return Ok(all),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(name)) => {
                let places = position(server, other, key).zip(position(server, name, key));
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

//! JSON patch (RFC 6902), with Kubernetes' bounds.
//!
//! Owns: the operations. Must not know: types. A newcomer's trap: negative array indexes count from
//! the end, and clients never learn why an operation failed.

use serde_json::Value;

use super::{COPIED_BYTES_MAX, OPERATIONS_MAX, PatchError, Patched};
use crate::codec::json::{self, NESTING_MAX, Node};

const ABSENT: PatchError = PatchError::Unprocessable;

struct Operation {
    op: String,
    path: String,
    from: String,
    value: Value,
}

pub(super) fn apply(object: Value, patch: &[u8], lenient: bool) -> Result<Patched, PatchError> {
    let (operations, strict) = read(patch, lenient).map_err(|why| {
        PatchError::BadRequest(if lenient { why } else { format!("error decoding patch: {why}") })
    })?;
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut object = object;
    let mut copied = 0;
    for operation in operations {
        run(&mut object, operation, &mut copied)?;
    }
    Ok(Patched { object, strict, shown: None })
}

fn read(patch: &[u8], lenient: bool) -> Result<(Vec<Operation>, Vec<String>), String> {
    let node = json::parse(patch)?;
    let Node::Array(nodes) = node else {
        let wanted = if lenient { "jsonpatch.Patch" } else { "[]handlers.jsonPatchOp" };
        let found = node.go_kind();
        return Err(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
    };
    let mut strict = Vec::new();
    let mut operations = Vec::with_capacity(nodes.len().min(OPERATIONS_MAX + 1));
    for (at, node) in nodes.into_iter().enumerate() {
        let Node::Object(fields) = node else {
            let found = node.go_kind();
            return Err(format!(
                "json: cannot unmarshal {found} into Go value of type handlers.jsonPatchOp"
            ));
        };
        operations.push(operation(at, fields, &mut strict)?);
    }
    Ok((operations, strict))
}

fn operation(
    at: usize,
    fields: Vec<(String, Node)>,
    strict: &mut Vec<String>,
) -> Result<Operation, String> {
    let mut operation = Operation {
        op: String::new(),
        path: String::new(),
        from: String::new(),
        value: Value::Null,
    };
    let mut seen: Vec<String> = Vec::new();
    for (name, node) in fields {
        let mut report = |what: &str| {
            // Kubernetes tells at most a hundred of these.
            if strict.len() < 100 {
                strict.push(format!("json patch {what} field {:?}", format!("[{at}].{name}")));
            }
        };
        let slot = match name.as_str() {
            "op" => &mut operation.op,
            "path" => &mut operation.path,
            "from" => &mut operation.from,
            "value" => {
                operation.value = node.into();
                continue;
            }
            _ => {
                report("unknown");
                continue;
            }
        };
        if seen.contains(&name) {
            report("duplicate");
        }
        match node {
            Node::String(text) => *slot = text,
            Node::Null => {}
            other => {
                let found = other.go_kind();
                return Err(format!(
                    "json: cannot unmarshal {found} into Go struct field jsonPatchOp.{name} of type string"
                ));
            }
        }
        seen.push(name);
    }
    Ok(operation)
}

fn run(object: &mut Value, operation: Operation, copied: &mut usize) -> Result<(), PatchError> {
    let Operation { op, path, from, value } = operation;
    match op.as_str() {
        "add" => add(object, &path, value),
        "remove" => remove(object, &path).map(drop),
        "replace" => {
            check_depth(&path, &value)?;
            if path.is_empty() {
                *object = value;
                return Ok(());
            }
            *find(object, &path).ok_or(ABSENT)? = value;
            Ok(())
        }
        "move" => {
            let value = remove(object, &from)?;
            add(object, &path, value)
        }
        "copy" => {
            let value = find(object, &from).ok_or(ABSENT)?.clone();
            *copied += value.to_string().len();
            if *copied > COPIED_BYTES_MAX {
                return Err(PatchError::Unprocessable);
            }
            add(object, &path, value)
        }
        "test" => {
            let found = find(object, &path);
            let equal = match found {
                Some(found) => same(found, &value),
                None => value.is_null() && parent(object, &path).is_some(),
            };
            if equal { Ok(()) } else { Err(PatchError::Unprocessable) }
        }
        _ => Err(PatchError::Unprocessable),
    }
}

/// Equal as JSON: `1` and `1.0` are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// The parent of what a pointer names, and the last part of the pointer.
fn parent<'a>(object: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parents, last) = path.rsplit_once('/')?;
    let mut at = object;
    for part in parents.split('/').skip(1) {
        at = child(at, &unescaped(part))?;
    }
    Some((at, unescaped(last)))
}

fn child<'a>(at: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match at {
        Value::Object(fields) => fields.get_mut(key),
        Value::Array(items) => {
            let index = index(key, items.len())?;
            items.get_mut(index)
        }
        _ => None,
    }
}

fn index(key: &str, length: usize) -> Option<usize> {
    let number: i64 = key.parse().ok()?;
    if number >= 0 {
        usize::try_from(number).ok()
    } else {
        length.checked_sub(usize::try_from(-number).ok()?)
    }
}

fn find<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    if path.is_empty() {
        return Some(object);
    }
    let (at, last) = parent(object, path)?;
    child(at, &last)
}

/// How deep a value is nested. Never deeper than [`NESTING_MAX`] by much, as all ways to make a value
/// deeper are checked.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Thousands of moves could nest a value without end, and whoever walks it would run out of stack.
fn check_depth(path: &str, value: &Value) -> Result<(), PatchError> {
    // Objects that are stored are a little deeper than bodies: they have managed fields.
    let most = NESTING_MAX + 20;
    if path.matches('/').count() + depth(value) > most { Err(ABSENT) } else { Ok(()) }
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    check_depth(path, &value)?;
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    let (at, last) = parent(object, path).ok_or(ABSENT)?;
    match at {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let length = items.len();
            // A negative index counts from behind the new item.
            let index = index(&last, length + 1).filter(|at| *at <= length).ok_or(ABSENT)?;
            items.insert(index, value);
        }
        _ => return Err(ABSENT),
    }
    Ok(())
}

fn remove(object: &mut Value, path: &str) -> Result<Value, PatchError> {
    let (at, last) = parent(object, path).ok_or(ABSENT)?;
    match at {
        Value::Object(fields) => fields.remove(&last).ok_or(ABSENT),
        Value::Array(items) => {
            let index = index(&last, items.len()).filter(|at| *at < items.len()).ok_or(ABSENT)?;
            Ok(items.remove(index))
        }
        _ => Err(ABSENT),
    }
}

//! `metadata.managedFields`: who manages which fields.
//!
//! Owns: reading, writing, sorting and bounding the entries. Must not know: how ownership changes. A
//! newcomer's trap: a manager is told apart by name, operation and subresource, and for updates by
//! version too; its time is that of the last change it made.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::set::Set;
use crate::codec::special::{self, Precision};

/// Entries of updates that an object keeps; older ones are merged.
const UPDATE_MANAGERS_MAX: usize = 10;

/// What an entry is told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) applied: bool,
    /// Empty for `Apply`, whose version may change.
    pub(super) version: String,
    pub(super) subresource: String,
}

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: Manager,
    pub(super) api_version: String,
    pub(super) time: Option<Timestamp>,
    pub(super) set: Set,
}

/// Reads the entries; `Err` if one of them is not what the server writes.
pub(super) fn read(value: &Value) -> Result<Vec<Entry>, String> {
    let items = value.as_array().into_iter().flatten().enumerate();
    let mut entries: Vec<Entry> = Vec::new();
    for (at, one) in items {
        let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
        let applied = match text("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
            other => {
                return Err(format!("invalid fieldsType {other:?} in managed fields entry {at}"));
            }
        }
        let api_version = text("apiVersion").to_owned();
        let manager = Manager {
            name: text("manager").into(),
            applied,
            version: if applied { String::new() } else { api_version.clone() },
            subresource: text("subresource").into(),
        };
        entries.retain(|known| known.manager != manager);
        entries.push(Entry {
            manager,
            api_version,
            time: special::parse_time(text("time"), Precision::Seconds).ok(),
            set: one.get("fieldsV1").map(Set::from_json).unwrap_or_default(),
        });
    }
    Ok(entries)
}

/// Whether a client asks to forget all managers: an empty list, or one empty entry.
pub(super) fn is_reset(value: &Value) -> bool {
    match value.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(|fields| {
            fields.values().all(|value| value.as_str() == Some("") || value.is_null())
        }),
        _ => false,
    }
}

/// The entries as they stand in an object; null if there are none.
pub(super) fn write(mut entries: Vec<Entry>) -> Value {
    entries.sort_by_cached_key(|one| {
        let seconds = one.time.map_or(0, Timestamp::as_second);
        let manager = one.manager.clone();
        (!manager.applied, seconds, manager.name, one.api_version.clone(), manager.subresource)
    });
    let items: Vec<Value> = entries.iter().map(entry).collect();
    if items.is_empty() { Value::Null } else { items.into() }
}

fn entry(one: &Entry) -> Value {
    let mut out = Map::new();
    out.insert("manager".into(), one.manager.name.clone().into());
    out.insert("operation".into(), if one.manager.applied { "Apply" } else { "Update" }.into());
    out.insert("apiVersion".into(), one.api_version.clone().into());
    if let Some(time) = one.time {
        out.insert("time".into(), special::time_value(time, Precision::Seconds));
    }
    out.insert("fieldsType".into(), "FieldsV1".into());
    out.insert("fieldsV1".into(), one.set.to_json());
    if !one.manager.subresource.is_empty() {
        out.insert("subresource".into(), json!(one.manager.subresource));
    }
    Value::Object(out)
}

/// Merges the oldest update entries of a version once there are too many.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let mut updaters: Vec<Manager> =
        entries.iter().filter(|one| !one.manager.applied).map(|one| one.manager.clone()).collect();
    if updaters.len() <= UPDATE_MANAGERS_MAX {
        return;
    }
    let find = |entries: &[Entry], manager: &Manager| {
        entries.iter().position(|one| one.manager == *manager)
    };
    updaters.sort_by_cached_key(|manager| {
        let time = find(entries, manager).and_then(|at| entries[at].time);
        (time.map_or(0, Timestamp::as_second), manager.clone())
    });
    let mut first: Vec<Manager> = Vec::new();
    let mut count = updaters.len();
    for manager in updaters {
        if count <= UPDATE_MANAGERS_MAX {
            break;
        }
        let bucket = Manager {
            name: "ancient-changes".into(),
            subresource: String::new(),
            ..manager.clone()
        };
        let Some(older) = first.iter().find(|one| one.version == manager.version) else {
            first.push(manager);
            continue;
        };
        if find(entries, &bucket).is_none()
            && let Some(at) = find(entries, older)
        {
            entries[at].manager = bucket.clone();
        }
        let Some(at) = find(entries, &manager) else { continue };
        let gone = entries.remove(at);
        if let Some(at) = find(entries, &bucket) {
            entries[at].set = entries[at].set.union(&gone.set);
            entries[at].time = gone.time;
        }
        count -= 1;
    }
}

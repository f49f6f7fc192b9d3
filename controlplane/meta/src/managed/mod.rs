//! Managed fields: who set what, and server-side apply.
//!
//! Owns: tracking of updates, the merge of applied configurations, conflicts. Must not know: HTTP,
//! storage, clocks (the time comes in). A newcomer's trap: tracking runs on the object as the client
//! made it (after defaulting), before admission and before the kind's own preparation change it.

mod apply;
mod compare;
mod entries;
mod merge;
mod place;
mod set;

use jiff::Timestamp;
use serde_json::Value;

pub use apply::{ApplyError, apply, read_patch};

use crate::objectmeta;
use crate::schema::Type;
use compare::compare;
use entries::{Entry, Manager};
use place::Place;
use set::Set;

/// Where the merge rules of an object come from.
#[derive(Clone, Copy, Debug)]
pub enum Rules<'a> {
    /// The schema table.
    Known(&'static Type),
    /// The OpenAPI schema of a custom resource's version.
    Custom(&'a Value),
    /// A custom resource without a schema.
    Free,
}

impl<'a> Rules<'a> {
    fn place(self) -> Place<'a> {
        match self {
            Self::Known(target) => Place::Structure(target),
            Self::Custom(schema) => Place::Custom(schema),
            Self::Free => Place::Anything,
        }
    }
}

/// One write, as managed fields record it.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// `fieldManager`, or what [`manager_of_agent`] makes of the user agent.
    pub manager: &'a str,
    /// The version the request was made in, such as `apps/v1`.
    pub api_version: &'a str,
    /// The subresource, empty for the object itself.
    pub subresource: &'a str,
    /// When.
    pub time: Timestamp,
    /// Fields that this request cannot change and so does not own, such as `["status"]`.
    pub reset: &'a [&'a [&'a str]],
}

impl Write<'_> {
    fn manager(&self, applied: bool) -> Manager {
        let name = if self.manager.is_empty() { "unknown" } else { self.manager };
        Manager {
            name: name.into(),
            applied,
            version: if applied { String::new() } else { self.api_version.into() },
            subresource: self.subresource.into(),
        }
    }

    fn ignored(&self) -> Set {
        let mut set = Set::default();
        for path in self.reset {
            let steps: Vec<_> = path.iter().map(|name| format!("f:{name}")).collect();
            set.insert(&steps);
        }
        set
    }
}

/// The manager's name when a request has no `fieldManager`: the user agent up to its first slash.
pub fn manager_of_agent(agent: &str) -> String {
    let name = agent.split('/').next().unwrap_or_default();
    let mut out = String::new();
    for char in name.chars().filter(|char| !char.is_control()) {
        if out.len() + char.len_utf8() > 128 {
            break;
        }
        out.push(char);
    }
    out
}

/// Records an update (or creation) in `object.metadata.managedFields`. `live` is the object before,
/// for a creation the empty object of the kind in normal form.
pub fn track_update(rules: Rules<'_>, live: &Value, object: &mut Value, write: &Write<'_>) {
    let mut entries = live_or_new(live, object, !write.subresource.is_empty());
    objectmeta::set(object, "managedFields", Value::Null);
    let is_new = live["metadata"]["uid"].as_str().unwrap_or_default().is_empty();
    if !entries.is_empty() || is_new {
        record(rules, live, object, &mut entries, write);
    }
    objectmeta::set(object, "managedFields", entries::write(entries));
}

/// The entries to start from: those the client sent, if it may and they are well-formed.
fn live_or_new(live: &Value, object: &Value, subresource: bool) -> Vec<Entry> {
    let old = || entries::read(&live["metadata"]["managedFields"]).unwrap_or_default();
    let sent = &object["metadata"]["managedFields"];
    if subresource {
        return old();
    }
    if entries::is_reset(sent) {
        return Vec::new();
    }
    match entries::read(sent) {
        Ok(found) if !found.is_empty() => found,
        _ => old(),
    }
}

/// Gives the writer what it changed, and takes that from the others.
fn record(
    rules: Rules<'_>,
    live: &Value,
    object: &Value,
    entries: &mut Vec<Entry>,
    write: &Write<'_>,
) {
    let changes = compare(rules.place(), &unmanaged(live), object).without(&write.ignored());
    let taken = changes.modified.union(&changes.added);
    for entry in entries.iter_mut() {
        entry.set = entry.set.difference(&taken).difference(&changes.removed);
    }
    entries.retain(|one| !one.set.is_empty());
    let set = taken.difference(&stripped());
    if !set.is_empty() {
        let manager = write.manager(false);
        match entries.iter_mut().find(|one| one.manager == manager) {
            Some(known) => {
                known.set = known.set.union(&set);
                known.time = Some(write.time);
            }
            None => entries.push(Entry {
                manager,
                api_version: write.api_version.into(),
                time: Some(write.time),
                set,
            }),
        }
    }
    entries::cap(entries);
}

fn unmanaged(object: &Value) -> Value {
    let mut object = object.clone();
    objectmeta::set(&mut object, "managedFields", Value::Null);
    object
}

/// Fields that nobody manages.
fn stripped() -> Set {
    let mut set = Set::default();
    for name in ["apiVersion", "kind", "metadata"] {
        set.insert(&[format!("f:{name}")]);
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.insert(&["f:metadata".into(), format!("f:{name}")]);
    }
    set
}

/// If nothing but the times of managed fields differs, keeps the old ones, so that the write is none.
pub fn keep_times_if_same(object: &mut Value, old: &Value) {
    let timeless = |object: &Value| {
        let mut object = object.clone();
        if let Some(entries) = object["metadata"]["managedFields"].as_array_mut() {
            for one in entries.iter_mut().filter_map(Value::as_object_mut) {
                one.remove("time");
            }
        }
        object
    };
    if timeless(object) == timeless(old) {
        objectmeta::set(object, "managedFields", old["metadata"]["managedFields"].clone());
    }
}

#[cfg(test)]
mod tests;

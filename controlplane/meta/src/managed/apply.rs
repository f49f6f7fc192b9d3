//! Server-side apply.
//!
//! Owns: merging a configuration, finding conflicts, dropping what is no longer applied. Must not know:
//! HTTP. A newcomer's trap: what one manager stops applying goes only if no other manager has it.

use serde_json::{Map, Value};

use super::compare::{compare, equal, field_set};
use super::entries::{self, Entry, Manager};
use super::merge::{check, merge, remove};
use super::place::Place;
use super::set::{Set, Step, shown};
use super::{Rules, Write, record, stripped, unmanaged};
use crate::codec::{self, yaml};
use crate::objectmeta;

/// The annotation of client-side apply.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager whose client-side past is taken over.
const KUBECTL: &str = "kubectl";

/// Why an apply is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 400 with this message.
    #[error("{0}")]
    BadRequest(String),
    /// 409 with causes of reason `FieldManagerConflict`.
    #[error("{message}")]
    Conflict {
        /// The message of the status.
        message: String,
        /// The field and message of each cause.
        causes: Vec<(String, String)>,
    },
    /// 500 with this message.
    #[error("{0}")]
    Internal(String),
}

/// Reads the body of an apply. Besides the object, the report of duplicate keys for strict clients.
pub fn read_patch(body: &[u8]) -> Result<(Value, Option<String>), ApplyError> {
    let document = yaml::parse(body)
        .map_err(|why| ApplyError::BadRequest(format!("error decoding YAML: {why}")))?;
    match Value::from(document.node) {
        Value::Null => Ok((Value::Object(Map::new()), document.duplicates)),
        object @ Value::Object(_) => Ok((object, document.duplicates)),
        other => {
            let found = if other.is_array() { "array" } else { "string" };
            Err(ApplyError::BadRequest(format!(
                "error decoding YAML: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            )))
        }
    }
}

/// Applies a configuration to an object. `live` is in normal form; for a creation it is the empty
/// object of the kind. `kind` is the kind the path asks for. The result is not yet in normal form.
pub fn apply(
    rules: Rules<'_>,
    live: &Value,
    config: &Value,
    kind: &str,
    write: &Write<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let request = Request { rules, config, kind, write };
    request.check()?;
    let mut found = entries::read(&live["metadata"]["managedFields"])
        .map_err(|why| ApplyError::Internal(format!("failed to decode managed fields: {why}")))?;
    let live = unmanaged(live);
    let exists = live["metadata"]["uid"].as_str().is_some_and(|uid| !uid.is_empty());
    if found.is_empty() && exists {
        // What was there before the first apply belongs to a manager of its own.
        let before = Write { manager: "before-first-apply", ..*write };
        record(rules, &empty(rules), &live, &mut found, &before);
    }
    let mut object = match request.run(&live, found.clone(), force) {
        Err(Failure::Conflicts(conflicts)) if write.manager == KUBECTL => {
            let allowed = request.last_applied(&live).unwrap_or_default();
            let rest: Vec<_> =
                conflicts.into_iter().filter(|(_, path)| !allowed.has(path)).collect();
            if !rest.is_empty() {
                return Err(conflict_error(rest));
            }
            request.run(&live, found, true)
        }
        other => other,
    }
    .map_err(|failure| match failure {
        Failure::Conflicts(conflicts) => conflict_error(conflicts),
        Failure::Other(error) => error,
    })?;
    if write.manager == KUBECTL {
        request.renew_last_applied(&mut object);
    }
    Ok(object)
}

/// An object of the kind in which nothing is set.
fn empty(rules: Rules<'_>) -> Value {
    let nothing = Value::Object(Map::new());
    match rules {
        Rules::Known(target) => codec::normalized(nothing, target),
        Rules::Custom(_) | Rules::Free => nothing,
    }
}

enum Failure {
    Conflicts(Vec<(Manager, Vec<Step>)>),
    Other(ApplyError),
}

struct Request<'a> {
    rules: Rules<'a>,
    config: &'a Value,
    kind: &'a str,
    write: &'a Write<'a>,
}

impl Request<'_> {
    fn check(&self) -> Result<(), ApplyError> {
        let text = |name: &str| self.config[name].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version != self.write.api_version || kind != self.kind {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            return Err(ApplyError::BadRequest(format!(
                "invalid object type: {group}/{version}, Kind={kind}"
            )));
        }
        if !self.config["metadata"]["managedFields"].is_null() {
            return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
        }
        check(self.rules.place(), self.config).map_err(|why| {
            let name = |field: &str| self.config["metadata"][field].as_str().unwrap_or_default();
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            ApplyError::Internal(format!(
                "failed to create typed patch object ({}/{}; {group}/{version}, Kind={kind}): {why}",
                name("namespace"),
                name("name"),
            ))
        })
    }

    /// Merges, drops what is no longer applied, settles who manages what.
    fn run(&self, live: &Value, mut entries: Vec<Entry>, force: bool) -> Result<Value, Failure> {
        let place = self.rules.place();
        let merged = merge(place, live, self.config).map_err(|why| {
            Failure::Other(ApplyError::Internal(format!("failed to merge config: {why}")))
        })?;
        let manager = self.write.manager(true);
        let set = field_set(place, self.config).without_trees(&self.write.ignored());
        let last = entries.iter().find(|one| one.manager == manager).map(|one| one.set.clone());
        let old_time = entries.iter().find(|one| one.manager == manager).and_then(|one| one.time);
        entries.retain(|one| one.manager != manager);
        entries.push(Entry {
            manager: manager.clone(),
            api_version: self.write.api_version.into(),
            time: old_time,
            set,
        });
        let object = match last.filter(|last| !last.is_empty()) {
            Some(last) => pruned(place, merged, &entries, &last),
            None => merged,
        };
        self.settle(live, &object, &mut entries, &manager, force)?;
        // The time moves only if the object does.
        let same = equal(live, &object);
        for entry in entries.iter_mut().filter(|one| one.manager == manager) {
            entry.set = entry.set.difference(&stripped());
            if !same {
                entry.time = Some(self.write.time);
            }
        }
        entries.retain(|one| !one.set.is_empty());
        let mut object = if same { live.clone() } else { object };
        objectmeta::set(&mut object, "managedFields", entries::write(entries));
        Ok(object)
    }

    /// Takes changed and removed fields from other managers, or tells who is in the way.
    fn settle(
        &self,
        live: &Value,
        object: &Value,
        entries: &mut Vec<Entry>,
        manager: &Manager,
        force: bool,
    ) -> Result<(), Failure> {
        let changes = compare(self.rules.place(), live, object).without(&self.write.ignored());
        let taken = changes.modified.union(&changes.added);
        let mut conflicts = Vec::new();
        for entry in entries.iter().filter(|one| one.manager != *manager) {
            let shared = entry.set.intersection(&taken);
            conflicts.extend(shared.paths().into_iter().map(|path| (entry.manager.clone(), path)));
        }
        if !force && !conflicts.is_empty() {
            return Err(Failure::Conflicts(conflicts));
        }
        for entry in entries.iter_mut().filter(|one| one.manager != *manager) {
            entry.set = entry.set.difference(&taken).difference(&changes.removed);
        }
        entries.retain(|one| !one.set.is_empty());
        Ok(())
    }

    /// Fields that client-side apply set and nobody changed since: no conflicts for its successor.
    fn last_applied(&self, live: &Value) -> Option<Set> {
        let text = live["metadata"]["annotations"][LAST_APPLIED].as_str()?;
        let last: Value = serde_json::from_str(text).ok()?;
        if last["apiVersion"].as_str() != Some(self.write.api_version) {
            return None;
        }
        let place = self.rules.place();
        check(place, &last).ok()?;
        let changes = compare(place, &last, live);
        let set = field_set(place, &last);
        Some(
            set.difference(&changes.modified)
                .difference(&changes.added)
                .difference(&changes.removed),
        )
    }

    /// Keeps the annotation of client-side apply in step, for clients that still use it.
    fn renew_last_applied(&self, object: &mut Value) {
        let annotation = &object["metadata"]["annotations"][LAST_APPLIED];
        if annotation.as_str().is_none_or(str::is_empty) {
            return;
        }
        let mut config = self.config.clone();
        if let Some(annotations) = config["metadata"]["annotations"].as_object_mut() {
            annotations.remove(LAST_APPLIED);
        }
        object["metadata"]["annotations"][LAST_APPLIED] = format!("{config}\n").into();
    }
}

/// Drops what the manager applied last time and not this time, unless someone else has it.
fn pruned(place: Place<'_>, merged: Value, entries: &[Entry], last: &Set) -> Value {
    let named = |set: &Set| set.with_named(place, &|place: Place<'_>, step: &str| place.step(step));
    let without = |gone: &Set| remove(place, &merged, gone).unwrap_or(Value::Null);
    let last = named(last);
    let merged_set = named(&field_set(place, &merged));
    let cut = named(&field_set(place, &without(&last)));
    let managed = entries.iter().fold(Set::default(), |all, one| all.union(&one.set));
    // Add back what any manager (this one's new configuration too) has …
    let kept = without(&merged_set.difference(&cut.union(&named(&managed))));
    // … and what nobody has but this manager did not have either.
    let kept = named(&field_set(place, &kept));
    without(&merged_set.difference(&kept).intersection(&last))
}

fn conflict_error(mut conflicts: Vec<(Manager, Vec<Step>)>) -> ApplyError {
    conflicts.sort_by_cached_key(|(manager, path)| {
        // Appliers come before updaters of the same name.
        let Manager { name, applied, version, subresource } = manager.clone();
        (name, !applied, version, subresource, path.clone())
    });
    let causes: Vec<_> = conflicts
        .iter()
        .map(|(manager, path)| (shown(path), format!("conflict with {}", told(manager))))
        .collect();
    let message = match causes.as_slice() {
        [(field, message)] => format!("Apply failed with 1 conflict: {message}: {field}"),
        _ => {
            let mut lines: Vec<String> = Vec::new();
            let mut current: Option<&Manager> = None;
            for (manager, path) in &conflicts {
                if current != Some(manager) {
                    lines.push(format!("conflicts with {}:", told(manager)));
                    current = Some(manager);
                }
                lines.push(format!("- {}", shown(path)));
            }
            format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
        }
    };
    ApplyError::Conflict { message, causes }
}

/// A manager as conflicts tell it.
fn told(manager: &Manager) -> String {
    let Manager { name, subresource, version, .. } = manager;
    let below = if subresource.is_empty() {
        String::new()
    } else {
        format!(" with subresource {subresource:?}")
    };
    let using = if manager.applied { String::new() } else { format!(" using {version}") };
    format!("{name:?}{below}{using}")
}

//! What a deletion does to an object: at once, with grace, or after its finalizers.
//!
//! Owns: the decision and the loop that carries it out. Must not know: the request. A newcomer's
//! trap: a graceful object is first marked and then, if its grace is zero, removed: watchers see
//! both steps, as they do with Kubernetes.

use kijabi_meta::kind::Kind;
use kijabi_meta::objectmeta;
use serde_json::Value;

use super::change::{self, Stored};
use super::options::{DeleteOptions, Propagation};
use super::{Call, Handlers, finalizers, is_terminating, meta, timestamp_after};
use crate::admission::Operation;
use crate::limits::UPDATE_TRIES_MAX;
use crate::registry::Registry;
use crate::status::{ApiError, GroupResource};
use crate::storage::{Cas, Revision, encode};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What became of a deletion.
#[derive(Debug)]
pub(super) struct Removed {
    /// The object as it is now, or was last.
    pub(super) object: Value,
    /// Whether it is gone.
    pub(super) gone: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
enum Decision {
    /// Deletion is under way already.
    Pending,
    /// Write the marked object; it stays until its grace or finalizers are over.
    Mark(Value),
    /// Write the marked object, then remove it.
    MarkAndRemove(Value),
    /// Remove it.
    Remove,
}

impl Handlers {
    /// Deletes the object `name` of the call's resource and namespace.
    pub(super) async fn remove(
        &self,
        call: &Call,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Removed, ApiError> {
        let registry = self.registry();
        let not_found = || ApiError::not_found(call.resource(), name);
        let mut present = change::read(registry, call.kind, &call.namespace, name).await?;
        // The state that this deletion marked; what is gone after that was this deletion's doing.
        let mut marked: Option<Value> = None;
        for _ in 0..UPDATE_TRIES_MAX {
            let Some(stored) = present else {
                let object = marked.ok_or_else(not_found)?;
                return Ok(Removed { object, gone: true });
            };
            let attributes =
                call.attributes(Operation::Delete, name, Some(&stored.object), options.dry_run);
            self.admission().validate(&attributes, Some(&stored.object)).await?;
            let decision = decide(call.kind, &stored, options)?;
            let (object, gone) = match decision {
                Decision::Pending => return Ok(Removed { object: stored.object, gone: false }),
                Decision::Mark(object) => (object, false),
                Decision::MarkAndRemove(object) => (object, true),
                Decision::Remove => match self.erase(call, name, stored, options.dry_run).await? {
                    Ok(object) => return Ok(Removed { object, gone: true }),
                    Err(now) => {
                        present = now;
                        continue;
                    }
                },
            };
            let written = self.mark(call, name, object, stored.revision, options.dry_run).await?;
            present = match written {
                Err(now) => now,
                Ok(stored) if !gone => return Ok(Removed { object: stored.object, gone }),
                Ok(stored) => {
                    marked = Some(stored.object.clone());
                    match self.erase(call, name, stored, options.dry_run).await? {
                        Ok(object) => return Ok(Removed { object, gone }),
                        Err(now) => now,
                    }
                }
            };
        }
        Err(ApiError::modified(call.resource(), name))
    }

    /// Writes the marked object; the inner error is what is there instead.
    async fn mark(
        &self,
        call: &Call,
        name: &str,
        mut object: Value,
        expected: Revision,
        dry_run: bool,
    ) -> Result<Result<Stored, Option<Stored>>, ApiError> {
        if dry_run {
            return Ok(Ok(Stored { object, revision: expected }));
        }
        let key = Registry::key(call.kind, &call.namespace, name)?;
        let bytes = encode(&change::stored_as(call.kind, object.clone()));
        let lease = self.registry().lease(call.kind).await?;
        match self.registry().client().replace(&key, expected, bytes, lease).await? {
            Cas::Done(revision) => {
                objectmeta::set(&mut object, "resourceVersion", revision.to_string().into());
                Ok(Ok(Stored { object, revision }))
            }
            Cas::Changed(now) => {
                Ok(Err(now.map(|record| Stored::of(call.kind, &record)).transpose()?))
            }
        }
    }

    /// Removes the object; the inner error is what is there instead.
    async fn erase(
        &self,
        call: &Call,
        name: &str,
        stored: Stored,
        dry_run: bool,
    ) -> Result<Result<Value, Option<Stored>>, ApiError> {
        let Stored { mut object, revision } = stored;
        if dry_run {
            return Ok(Ok(object));
        }
        let key = Registry::key(call.kind, &call.namespace, name)?;
        match self.registry().client().delete(&key, revision).await? {
            Cas::Done(revision) => {
                let attributes = call.attributes(Operation::Delete, name, None, false);
                self.admission().release(&attributes, &object).await;
                objectmeta::set(&mut object, "resourceVersion", revision.to_string().into());
                Ok(Ok(object))
            }
            Cas::Changed(now) => {
                Ok(Err(now.map(|record| Stored::of(call.kind, &record)).transpose()?))
            }
        }
    }
}

/// Preconditions of the options against the object.
pub(super) fn check_preconditions(
    kind: &Kind,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    // Kubernetes names the kind, not the resource, in these two texts.
    let resource = GroupResource::new(kind.group, kind.kind);
    let name = meta(object, "name");
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != meta(object, "uid")) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({}). The \
             object might have been deleted and then recreated",
            meta(object, "uid")
        );
        return Err(ApiError::conflict(resource, name, &why));
    }
    let version = meta(object, "resourceVersion");
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion \
             in record ({version}). The object might have been modified"
        );
        return Err(ApiError::conflict(resource, name, &why));
    }
    Ok(())
}

fn decide(kind: &Kind, stored: &Stored, options: &DeleteOptions) -> Result<Decision, ApiError> {
    let old = &stored.object;
    check_preconditions(kind, old, options)?;
    let mut object = old.clone();
    let grace = kind.strategy.grace_period_seconds(old, options.grace_period_seconds);
    let marking = match grace {
        None => Marking::NotGraceful,
        Some(period) if is_terminating(old) => shorten(&mut object, options, period),
        Some(period) => {
            objectmeta::set(&mut object, "deletionTimestamp", timestamp_after(period).into());
            objectmeta::set(&mut object, "deletionGracePeriodSeconds", period.into());
            raise_generation(&mut object);
            Marking::Graceful(period)
        }
    };
    if marking == Marking::Pending {
        return Ok(Decision::Pending);
    }
    if let Some(wanted) = garbage_finalizers(old, options) {
        let value = if wanted.is_empty() { Value::Null } else { wanted.into() };
        objectmeta::set(&mut object, "finalizers", value);
    }
    let held = !finalizers(&object).is_empty();
    if held && !matches!(marking, Marking::Graceful(_)) {
        mark_as_deleting(&mut object);
    }
    Ok(match marking {
        _ if held => Decision::Mark(object),
        Marking::Graceful(period) if period > 0 => Decision::Mark(object),
        Marking::Graceful(_) => Decision::MarkAndRemove(object),
        _ if object != *old => Decision::MarkAndRemove(object),
        _ => Decision::Remove,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marking {
    NotGraceful,
    Pending,
    Graceful(i64),
}

/// A second deletion may only shorten the grace of the first.
fn shorten(object: &mut Value, options: &DeleteOptions, period: i64) -> Marking {
    let present = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    if present == 0 {
        return Marking::NotGraceful;
    }
    if options.grace_period_seconds.is_none() || period >= present {
        return Marking::Pending;
    }
    let began = meta(object, "deletionTimestamp").parse::<jiff::Timestamp>();
    let seconds = began.map_or(0, |at| at.as_second()) - present + period;
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    objectmeta::set(object, "deletionTimestamp", at.into());
    objectmeta::set(object, "deletionGracePeriodSeconds", period.into());
    Marking::Graceful(period)
}

fn mark_as_deleting(object: &mut Value) {
    if !is_terminating(object) {
        raise_generation(object);
        objectmeta::set(object, "deletionTimestamp", timestamp_after(0).into());
    }
    objectmeta::set(object, "deletionGracePeriodSeconds", 0.into());
}

fn raise_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|one| *one > 0) {
        objectmeta::set(object, "generation", (generation + 1).into());
    }
}

/// The finalizers the garbage collector needs, if they differ from those that are there.
fn garbage_finalizers(object: &Value, options: &DeleteOptions) -> Option<Vec<String>> {
    let present = finalizers(object);
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(policy)) => (policy == Propagation::Orphan, policy == Propagation::Foreground),
        (None, None) => (present.contains(&ORPHAN), present.contains(&FOREGROUND)),
    };
    let others = present.iter().copied().filter(|one| *one != ORPHAN && *one != FOREGROUND);
    let mut wanted: Vec<String> = others.map(str::to_owned).collect();
    if orphan {
        wanted.push(ORPHAN.into());
    }
    if foreground {
        wanted.push(FOREGROUND.into());
    }
    let same =
        wanted.len() == present.len() && wanted.iter().all(|w| present.contains(&w.as_str()));
    (!same).then_some(wanted)
}

//! The one loop that changes a stored object, whichever verb asks for it.
//!
//! Owns: optimistic concurrency, the order of the checks of an update, and the removal of an object
//! whose last finalizer went. Must not know: where the wished object comes from. A newcomer's trap:
//! the first try starts from the cache, which may be old; a refusal on old data is only believed
//! after the store was read.

use kijabi_meta::field::FieldError;
use kijabi_meta::kind::Kind;
use kijabi_meta::kinds::namespace;
use kijabi_meta::managed::keep_times_if_same;
use kijabi_meta::objectmeta;
use serde_json::Value;

use super::options::WriteOptions;
use super::{Call, Handlers, create, finalizers, is_terminating, managed, meta};
use crate::admission::{Operation, Reservation};
use crate::limits::UPDATE_TRIES_MAX;
use crate::registry::{Registry, is_storage_form};
use crate::status::ApiError;
use crate::storage::{Cas, Record, Revision, encode};

/// A stored object in the form of the kind that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) object: Value,
    pub(super) revision: Revision,
}

impl Stored {
    pub(super) fn of(kind: &'static Kind, record: &Record) -> Result<Self, ApiError> {
        let object = shown_as(kind, record.object()?);
        Ok(Self { object, revision: record.revision })
    }
}

/// Which rules a change is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// Those of the main resource.
    Object,
    /// Those of `/status`.
    Status,
    /// Those of a namespace's `/finalize`: the finalizers of its spec and nothing else.
    Finalize,
    /// None: the server itself knows what it does (binding, deletion).
    Own,
}

/// What makes the wished object of the present one. It may run several times.
pub(super) type Wish<'a> = dyn FnMut(&Value) -> Result<Value, ApiError> + Send + 'a;

/// A change that is to be made.
pub(super) struct Change<'a> {
    pub(super) call: &'a Call,
    pub(super) options: &'a WriteOptions,
    pub(super) rules: Rules,
    /// How the managed fields are kept.
    pub(super) tracking: managed::Tracking,
    pub(super) wish: &'a mut Wish<'a>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Changed {
    /// The object now, or as it was when it was removed.
    pub(super) object: Value,
}

enum Plan {
    Keep(Value),
    Write(Value),
    Remove(Value),
}

impl Handlers {
    /// Changes the object that `call` names; `None` if there is none.
    pub(super) async fn change(&self, mut change: Change<'_>) -> Result<Option<Changed>, ApiError> {
        let call = change.call;
        let registry = self.registry();
        let cached = registry.cache(call.kind)?.get(&call.namespace, &call.name);
        let mut present = cached.map(|entry| Stored {
            revision: entry.revision,
            object: shown_as(call.kind, entry.object()),
        });
        let mut from_store = false;
        for _ in 0..UPDATE_TRIES_MAX {
            if present.is_none() && !from_store {
                present = read(registry, call.kind, &call.namespace, &call.name).await?;
                from_store = true;
            }
            let Some(stored) = present.as_ref() else { return Ok(None) };
            let plan = self.plan(&mut change, stored).await;
            let doubtful = !from_store && matches!(plan, Err(_) | Ok((Plan::Keep(_), _)));
            if doubtful {
                let fresh = read(registry, call.kind, &call.namespace, &call.name).await?;
                from_store = true;
                if fresh.as_ref().map(|one| one.revision) != Some(stored.revision) {
                    present = fresh;
                    continue;
                }
            }
            let (plan, taken) = plan?;
            // If the store does not answer, the change may be there: what was taken stays taken.
            match self.carry_out(call, change.options, plan, stored.revision).await? {
                Ok(object) => {
                    taken.commit().await;
                    return Ok(Some(Changed { object }));
                }
                Err(record) => {
                    taken.abort().await;
                    present = record.map(|record| Stored::of(call.kind, &record)).transpose()?;
                    from_store = true;
                }
            }
        }
        Err(ApiError::modified(call.resource(), &call.name))
    }

    /// Writes what is planned; the inner error is what stands in the way.
    async fn carry_out(
        &self,
        call: &Call,
        options: &WriteOptions,
        plan: Plan,
        expected: Revision,
    ) -> Result<Result<Value, Option<Record>>, ApiError> {
        let registry = self.registry();
        let key = Registry::key(call.kind, &call.namespace, &call.name)?;
        let (mut object, outcome) = match plan {
            Plan::Keep(object) => return Ok(Ok(object)),
            Plan::Write(object) | Plan::Remove(object) if options.dry_run => return Ok(Ok(object)),
            Plan::Remove(object) => {
                let outcome = registry.client().delete(&key, expected).await?;
                if matches!(outcome, Cas::Done(_)) {
                    let attributes = call.attributes(Operation::Delete, &call.name, None, false);
                    self.admission().release(&attributes, &object).await;
                }
                (object, outcome)
            }
            Plan::Write(object) => {
                let lease = registry.lease(call.kind).await?;
                let bytes = encode(&stored_as(call.kind, object.clone()));
                let outcome = registry.client().replace(&key, expected, bytes, lease).await?;
                (object, outcome)
            }
        };
        match outcome {
            Cas::Changed(record) => Ok(Err(record)),
            Cas::Done(revision) => {
                objectmeta::set(&mut object, "resourceVersion", revision.to_string().into());
                Ok(Ok(object))
            }
        }
    }

    async fn plan(
        &self,
        change: &mut Change<'_>,
        stored: &Stored,
    ) -> Result<(Plan, Reservation), ApiError> {
        let old = &stored.object;
        let mut new = (change.wish)(old)?;
        if change.rules != Rules::Own {
            self.check_update(change, stored, &mut new).await?;
        }
        keep_times_if_same(&mut new, old);
        if new == *old {
            return Ok((Plan::Keep(new), Reservation::none()));
        }
        let call = change.call;
        if is_finished(call.kind, &new, old) {
            return Ok((Plan::Remove(new), Reservation::none()));
        }
        let dry_run = change.options.dry_run;
        let attributes = call.attributes(Operation::Update, &call.name, Some(old), dry_run);
        let taken = self.admission().reserve(&attributes, &mut new).await?;
        Ok((Plan::Write(new), taken))
    }

    /// Admission, the kind's rules and the checks of an update, in Kubernetes' order.
    async fn check_update(
        &self,
        change: &mut Change<'_>,
        stored: &Stored,
        new: &mut Value,
    ) -> Result<(), ApiError> {
        let (call, old) = (change.call, &stored.object);
        check_uid(call, new, old)?;
        if change.tracking == managed::Tracking::Update {
            managed::updated(call, change.options, old, new);
        }
        let dry_run = change.options.dry_run;
        let attributes = call.attributes(Operation::Update, &call.name, Some(old), dry_run);
        self.admission().admit(&attributes, new).await?;
        create::deduplicate_owners(call, new);
        check_version(call, stored, new)?;
        objectmeta::keep_generation(new, old);
        let strategy = call.kind.strategy;
        match change.rules {
            Rules::Object => strategy.prepare_update(new, old),
            Rules::Status => strategy.prepare_status_update(new, old),
            Rules::Finalize => namespace::prepare_finalize(new, old),
            Rules::Own => {}
        }
        objectmeta::keep_system_fields(new, old);
        let mut errors = objectmeta::validate_update(new, old);
        errors.extend(match change.rules {
            Rules::Status => strategy.validate_status_update(new, old),
            Rules::Object => strategy.validate_update(new, old),
            Rules::Finalize => namespace::validate_finalize(new),
            Rules::Own => Vec::new(),
        });
        if !errors.is_empty() {
            return Err(call.invalid(&call.name, &errors));
        }
        for text in strategy.warnings(new, Some(old)) {
            call.warnings.add(text);
        }
        self.admission().validate(&attributes, Some(new)).await
    }
}

/// A uid in the wished object is a precondition.
fn check_uid(call: &Call, new: &Value, old: &Value) -> Result<(), ApiError> {
    let (wanted, there) = (meta(new, "uid"), meta(old, "uid"));
    if wanted.is_empty() || wanted == there {
        return Ok(());
    }
    let key = Registry::key(call.kind, &call.namespace, &call.name)?;
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {wanted}, UID in object meta: {there}"
    );
    Err(ApiError::conflict(call.resource(), &call.name, &why))
}

/// A version in the wished object must be the present one.
fn check_version(call: &Call, stored: &Stored, new: &mut Value) -> Result<(), ApiError> {
    let present = stored.revision.to_string();
    match meta(new, "resourceVersion") {
        given if given == present => Ok(()),
        "" | "0" if call.kind.strategy.may_update_unconditionally() => {
            objectmeta::set(new, "resourceVersion", present.into());
            Ok(())
        }
        "" | "0" => {
            let field = "metadata.resourceVersion";
            let error = FieldError::invalid(field, &0.into(), "must be specified for an update");
            Err(call.invalid(&call.name, &[error]))
        }
        given => match super::options::resource_version(given) {
            Ok(_) => Err(ApiError::modified(call.resource(), &call.name)),
            Err(error) => Err(error),
        },
    }
}

/// Whether the change takes the last thing away that kept a deleted object.
fn is_finished(kind: &Kind, new: &Value, old: &Value) -> bool {
    let grace = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let spec_finalizers = new["spec"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
    let held = kind.plural == "namespaces" && spec_finalizers;
    is_terminating(old) && grace == 0 && finalizers(new).is_empty() && !held
}

/// Reads an object from the store.
pub(super) async fn read(
    registry: &Registry,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
) -> Result<Option<Stored>, ApiError> {
    // The kind must have a cache: only stored kinds do.
    registry.cache(kind)?;
    let key = Registry::key(kind, namespace, name)?;
    let (record, _) = registry.client().get(&key).await?;
    record.map(|record| Stored::of(kind, &record)).transpose()
}

/// A stored object in the form of `kind`.
pub(super) fn shown_as(kind: &'static Kind, mut object: Value) -> Value {
    if !is_storage_form(kind) {
        kind.strategy.to_served(&mut object);
    }
    object
}

/// An object of `kind` in its stored form.
pub(super) fn stored_as(kind: &'static Kind, mut object: Value) -> Value {
    if !is_storage_form(kind) {
        kind.strategy.to_storage(&mut object);
    }
    object
}

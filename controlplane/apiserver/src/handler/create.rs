//! POST: a new object.
//!
//! Owns: names, uids and times of new objects, and the order of the checks. Must not know: rules of
//! kinds. A newcomer's trap: a generated name may be taken; another is drawn, but only when the
//! client gave no name of its own.

use http::StatusCode;
use kijabi_base::rng;
use kijabi_meta::objectmeta;
use serde_json::Value;

use super::change::{self, Stored};
use super::options::WriteOptions;
use super::{Call, Handlers, decode, is_terminating, managed, meta, new_uid, timestamp};
use crate::admission::Operation;
use crate::body::RequestBody;
use crate::exchange::Response;
use crate::limits::GENERATE_NAME_TRIES;
use crate::registry::Registry;
use crate::status::ApiError;
use crate::storage::{Cas, encode};

const SUFFIX_LENGTH: usize = 5;
/// What a generated name may hold: no vowels, so no words.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const GENERATED_NAME_MAX: usize = 63;

impl Handlers {
    pub(super) async fn create(
        &self,
        call: &Call,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let options = WriteOptions::parse(&call.info.query, "CreateOptions", false)?;
        let expected = decode::expected(call.kind);
        let mut object = decode::read(call, body, expected, options.field_validation).await?;
        decode::match_namespace(call, &mut object)?;
        call.kind.strategy.default(&mut object);
        managed::created(call, &options, &mut object);
        let stored = self.insert(call, &options, object).await?;
        call.output.object(StatusCode::CREATED, call.kind, &stored)
    }

    /// Admits, prepares, checks and stores a new object whose managed fields are set.
    pub(super) async fn insert(
        &self,
        call: &Call,
        options: &WriteOptions,
        mut object: Value,
    ) -> Result<Value, ApiError> {
        let given = meta(&object, "name").to_owned();
        let attributes = call.attributes(Operation::Create, &given, None, options.dry_run);
        self.admission().admit(&attributes, &mut object).await?;
        deduplicate_owners(call, &mut object);
        if !matches!(meta(&object, "resourceVersion"), "" | "0") {
            let text = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::generic(text));
        }
        fill_metadata(&mut object);
        call.kind.strategy.prepare_create(&mut object);
        let generates = given.is_empty() && !meta(&object, "generateName").is_empty();
        for tries_left in (0..GENERATE_NAME_TRIES).rev() {
            if generates {
                let name = generated_name(meta(&object, "generateName"));
                objectmeta::set(&mut object, "name", name.into());
            }
            match self.store_new(call, options, &mut object).await {
                Err(error) if error.reason() == "AlreadyExists" && generates => {
                    if tries_left == 0 {
                        let name = meta(&object, "name");
                        return Err(ApiError::generate_name_conflict(call.resource(), name));
                    }
                }
                other => return other.map(|()| object),
            }
        }
        Err(ApiError::internal("no name was tried"))
    }

    /// Checks the final object and writes it.
    async fn store_new(
        &self,
        call: &Call,
        options: &WriteOptions,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        let name = meta(object, "name").to_owned();
        let name_rule = |name: &str, prefix| call.kind.strategy.validate_name(name, prefix);
        let mut errors = objectmeta::validate_create(object, call.kind.namespaced, name_rule);
        errors.extend(call.kind.strategy.validate_create(object));
        if !errors.is_empty() {
            return Err(call.invalid(&name, &errors));
        }
        let attributes = call.attributes(Operation::Create, &name, None, options.dry_run);
        self.admission().validate(&attributes, Some(object)).await?;
        for text in call.kind.strategy.warnings(object, None) {
            call.warnings.add(text);
        }
        let key = Registry::key(call.kind, &call.namespace, &name)?;
        if options.dry_run {
            self.admission().reserve(&attributes, object).await?.commit().await;
            let there = change::read(self.registry(), call.kind, &call.namespace, &name).await?;
            return there.map_or(Ok(()), |there| Err(exists(call, &name, &there)));
        }
        let lease = self.registry().lease(call.kind).await?;
        let taken = self.admission().reserve(&attributes, object).await?;
        let bytes = encode(&change::stored_as(call.kind, object.clone()));
        // If the store does not answer, the object may be there: what was taken stays taken.
        match self.registry().client().create(&key, bytes, lease).await? {
            Cas::Done(revision) => {
                taken.commit().await;
                objectmeta::set(object, "resourceVersion", revision.to_string().into());
                Ok(())
            }
            Cas::Changed(there) => {
                taken.abort().await;
                let there = there.map(|record| Stored::of(call.kind, &record)).transpose()?;
                let unknown = || ApiError::already_exists(call.resource(), &name);
                Err(there.map_or_else(unknown, |there| exists(call, &name, &there)))
            }
        }
    }
}

fn exists(call: &Call, name: &str, there: &Stored) -> ApiError {
    let error = ApiError::already_exists(call.resource(), name);
    if is_terminating(&there.object) {
        return error.with_prefix("object is being deleted");
    }
    error
}

/// What only the server sets.
fn fill_metadata(object: &mut Value) {
    let cleared =
        ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"];
    for field in cleared {
        objectmeta::set(object, field, Value::Null);
    }
    objectmeta::set(object, "creationTimestamp", timestamp().into());
    objectmeta::set(object, "uid", new_uid().into());
}

/// `base` and a random suffix, at most as long as a DNS label.
fn generated_name(base: &str) -> String {
    let mut end = base.len().min(GENERATED_NAME_MAX - SUFFIX_LENGTH);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base.get(..end).unwrap_or_default().to_owned();
    for _ in 0..SUFFIX_LENGTH {
        let at = rng::below(SUFFIX_LETTERS.len() as u64) as usize;
        name.push(char::from(SUFFIX_LETTERS.get(at).copied().unwrap_or(b'x')));
    }
    name
}

/// The same owner twice is one owner; the client is told.
pub(super) fn deduplicate_owners(call: &Call, object: &mut Value) {
    let Some(owners) = object["metadata"]["ownerReferences"].as_array() else { return };
    let mut once: Vec<Value> = Vec::with_capacity(owners.len());
    let mut doubled = Vec::new();
    for owner in owners {
        if once.contains(owner) {
            doubled.push(owner["uid"].as_str().unwrap_or_default().to_owned());
        } else {
            once.push(owner.clone());
        }
    }
    if doubled.is_empty() {
        return;
    }
    call.warnings.add(format!(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references \
         in 1.20+, and may reject such requests as early as 1.24; please fix your requests; \
         duplicate UID(s) observed: {}",
        doubled.join(", ")
    ));
    objectmeta::set(object, "ownerReferences", once.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_has_five_letters_that_make_no_word_and_fits_a_label() {
        let name = generated_name("gen-");
        assert_eq!(name.len(), 9);
        assert!(name.bytes().skip(4).all(|b| SUFFIX_LETTERS.contains(&b)), "{name}");
        assert_eq!(generated_name(&"a".repeat(200)).len(), 63);
        assert!(generated_name(&"é".repeat(200)).len() <= 63);
    }
}

//! PATCH: JSON patch, merge patch, strategic merge patch; server-side apply is in `apply.rs`.
//!
//! Owns: the patch types and what is made of a patched object. Must not know: how a patch is
//! applied to a tree. A newcomer's trap: the patch is applied anew to whatever the object is at
//! each try, so only a patch that names a version can conflict.

use bytes::Bytes;
use http::StatusCode;
use kijabi_meta::field::FieldError;
use kijabi_meta::kind::Kind;
use kijabi_meta::patch::{self, PatchError};
use kijabi_meta::schema::{self, Type};
use serde_json::Value;

use super::change::Change;
use super::managed::Tracking;
use super::options::{FieldValidation, WriteOptions};
use super::{Call, Handlers, decode, update};
use crate::body::{self, RequestBody};
use crate::exchange::Response;
use crate::status::ApiError;

/// What kind of patch a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchType {
    Apply,
    Other(patch::Kind),
}

impl PatchType {
    pub(super) fn of(call: &Call) -> Result<Self, ApiError> {
        match decode::content_type(&call.headers) {
            "application/json-patch+json" => Ok(Self::Other(patch::Kind::Json)),
            "application/merge-patch+json" => Ok(Self::Other(patch::Kind::Merge)),
            "application/strategic-merge-patch+json" => Ok(Self::Other(patch::Kind::Strategic)),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(ApiError::unsupported_patch_type()),
        }
    }
}

/// A patch whose body was read.
#[derive(Debug)]
pub(super) struct Patch {
    pub(super) kind: patch::Kind,
    pub(super) body: Bytes,
}

impl Patch {
    /// The patched object in the form of its type; what is unknown in it is refused or told.
    pub(super) fn apply(
        &self,
        call: &Call,
        options: &WriteOptions,
        object: &Value,
        target: &'static Type,
    ) -> Result<Value, ApiError> {
        let validation = options.field_validation;
        let lenient = validation == FieldValidation::Ignore;
        let patched = patch::apply(self.kind, object.clone(), &self.body, target, lenient);
        let decoded =
            patched.and_then(|patched| patch::finish(patched, target)).map_err(refused)?;
        match validation {
            FieldValidation::Strict => patch::refuse_strict(&decoded).map_err(refused)?,
            FieldValidation::Warn => decoded.strict.iter().for_each(|one| call.warnings.add(one)),
            FieldValidation::Ignore => {}
        }
        let mut patched = decoded.object;
        for field in ["kind", "apiVersion"] {
            // What an object is cannot be patched.
            if let Some(fields) = patched.as_object_mut() {
                fields.insert(field.into(), object[field].clone());
            }
        }
        Ok(patched)
    }
}

/// A patch that cannot be read or applied, as Kubernetes says it.
fn refused(error: PatchError) -> ApiError {
    match error {
        PatchError::BadRequest(text) => ApiError::bad_request(text),
        PatchError::TooLarge(text) => ApiError::entity_too_large(text),
        PatchError::Unprocessable => ApiError::unprocessable(),
        PatchError::Internal(text) => ApiError::generic(text),
        PatchError::Invalid { value, why } => {
            let error = FieldError::invalid("patch", &value.into(), &why);
            ApiError::invalid("", "", "", &[error])
        }
    }
}

impl Handlers {
    pub(super) async fn patch(&self, call: &Call, body: RequestBody) -> Result<Response, ApiError> {
        let kind = PatchType::of(call)?;
        let is_apply = kind == PatchType::Apply;
        let options = WriteOptions::parse(&call.info.query, "PatchOptions", is_apply)?;
        let body = body::read(body).await?;
        let kind = match kind {
            PatchType::Apply => return self.apply(call, &options, &body).await,
            PatchType::Other(kind) => kind,
        };
        let patch = Patch { kind, body };
        let target = type_of(call.kind);
        let mut wish = |old: &Value| {
            let mut object = patch.apply(call, &options, old, target)?;
            decode::match_name(call, &object)?;
            decode::match_namespace(call, &mut object)?;
            call.kind.strategy.default(&mut object);
            Ok(object)
        };
        let change = Change {
            call,
            options: &options,
            rules: update::rules_of(call.subresource()),
            tracking: Tracking::Update,
            wish: &mut wish,
        };
        let changed = self.change(change).await?.ok_or_else(|| call.not_found())?;
        call.output.object(StatusCode::OK, call.kind, &changed.object)
    }
}

/// The schema type of a kind.
pub(super) fn type_of(kind: &Kind) -> &'static Type {
    schema::type_named(kind.schema).expect("the schema table has every kind of the kind table")
}

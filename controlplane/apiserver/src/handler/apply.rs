//! Server-side apply.
//!
//! Owns: the way from an applied configuration to a create or a change. Must not know: how fields
//! are merged and attributed. A newcomer's trap: an apply of an object that is not there creates
//! it, unless a subresource is applied or the configuration names a uid or version.

use bytes::Bytes;
use http::StatusCode;
use kijabi_meta::codec;
use kijabi_meta::managed::{self, ApplyError};
use serde_json::Value;

use super::change::Change;
use super::managed as tracking;
use super::managed::Tracking;
use super::options::{FieldValidation, WriteOptions};
use super::patch::type_of;
use super::{Call, Handlers, decode, update};
use crate::exchange::Response;
use crate::status::ApiError;

impl Handlers {
    pub(super) async fn apply(
        &self,
        call: &Call,
        options: &WriteOptions,
        body: &Bytes,
    ) -> Result<Response, ApiError> {
        let (config, duplicates) = managed::read_patch(body).map_err(refused)?;
        let wished =
            |present: &Value| applied(call, options, &config, duplicates.as_deref(), present);
        let mut wish = wished;
        let change = Change {
            call,
            options,
            rules: update::rules_of(call.subresource()),
            tracking: Tracking::None,
            wish: &mut wish,
        };
        if let Some(changed) = self.change(change).await? {
            return call.output.object(StatusCode::OK, call.kind, &changed.object);
        }
        if !call.subresource().is_empty() {
            return Err(call.not_found());
        }
        let object = wished(&tracking::empty(call.kind))?;
        if !super::meta(&object, "uid").is_empty() {
            return Err(call.not_found());
        }
        let created = self.insert(call, options, object).await?;
        call.output.object(StatusCode::CREATED, call.kind, &created)
    }
}

/// The present object with the configuration applied.
fn applied(
    call: &Call,
    options: &WriteOptions,
    config: &Value,
    duplicates: Option<&str>,
    present: &Value,
) -> Result<Value, ApiError> {
    let tree = tracking::with_write(call, options, |rules, write| {
        managed::apply(rules, present, config, call.kind.kind, write, options.force)
    })
    .map_err(refused)?;
    match (duplicates, options.field_validation) {
        (Some(text), FieldValidation::Strict) => {
            return Err(ApiError::bad_request(format!("error strict decoding YAML: {text}")));
        }
        (Some(text), FieldValidation::Warn) => call.warnings.add(text),
        _ => {}
    }
    let decoded = codec::normal(tree, type_of(call.kind)).map_err(ApiError::bad_request)?;
    let mut object = decoded.object;
    object["kind"] = call.kind.kind.into();
    object["apiVersion"] = call.kind.api_version().into();
    decode::match_namespace(call, &mut object)?;
    decode::match_name(call, &object)?;
    call.kind.strategy.default(&mut object);
    Ok(object)
}

/// An apply that is refused, as Kubernetes says it.
fn refused(error: ApplyError) -> ApiError {
    match error {
        ApplyError::BadRequest(text) => ApiError::bad_request(text),
        ApplyError::Internal(text) => ApiError::generic(text),
        ApplyError::Conflict { message, causes } => ApiError::apply_conflict(&message, &causes),
    }
}

/// 415 for a place where configurations cannot be applied: what it takes instead.
// Differs from Kubernetes: a Scale cannot be applied, only patched otherwise or replaced.
pub(super) fn unsupported() -> ApiError {
    ApiError::unsupported_media_type(&[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ])
}

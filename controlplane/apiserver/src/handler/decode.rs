//! Request bodies to objects.
//!
//! Owns: the content type, and what is done about unknown and duplicate fields. Must not know: the
//! grammar of a format. A newcomer's trap: a body without a content type is JSON.

use http::{HeaderMap, header};
use kijabi_meta::codec::{self, Decoded, Expected, Media};
use kijabi_meta::kind::Kind;
use serde_json::Value;

use super::options::FieldValidation;
use super::{Call, meta};
use crate::body::{self, RequestBody};
use crate::exchange::Warnings;
use crate::status::ApiError;

const ACCEPTED: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The media type of a request's body, without its parameters.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    let given = headers.get(header::CONTENT_TYPE).and_then(|one| one.to_str().ok());
    given.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// What the path expects of a body.
pub(super) fn expected(kind: &Kind) -> Expected<'static> {
    Expected { group: kind.group, version: kind.version, kind: kind.kind }
}

/// Reads a body that must be an object of `expected`.
pub(super) async fn read(
    call: &Call,
    body: RequestBody,
    expected: Expected<'_>,
    validation: FieldValidation,
) -> Result<Value, ApiError> {
    let media = match content_type(&call.headers) {
        "" | "application/json" => Media::Json,
        "application/yaml" => Media::Yaml,
        "application/vnd.kubernetes.protobuf" => Media::Protobuf,
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED)),
    };
    let bytes = body::read(body).await?;
    let decoded = codec::decode(&bytes, media, expected).map_err(bad)?;
    strict(decoded, expected, validation, &call.warnings)
}

/// Refuses, tells or ignores what a strict client wants to hear.
pub(super) fn strict(
    decoded: Decoded,
    expected: Expected<'_>,
    validation: FieldValidation,
    warnings: &Warnings,
) -> Result<Value, ApiError> {
    match validation {
        FieldValidation::Strict => codec::refuse_strict(&decoded, expected).map_err(bad)?,
        FieldValidation::Warn => decoded.strict.iter().for_each(|text| warnings.add(text)),
        FieldValidation::Ignore => {}
    }
    Ok(decoded.object)
}

pub(super) fn bad(error: codec::DecodeError) -> ApiError {
    ApiError::bad_request(error.0)
}

/// The object's namespace must be the request's; one that says none gets it.
pub(super) fn match_namespace(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let given = meta(object, "namespace");
    if given == call.namespace {
        return Ok(());
    }
    if !given.is_empty() && !call.namespace.is_empty() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    kijabi_meta::objectmeta::set(
        object,
        "namespace",
        match call.namespace.as_str() {
            "" => Value::Null,
            namespace => namespace.into(),
        },
    );
    Ok(())
}

/// The object's name must be the one on the URL.
pub(super) fn match_name(call: &Call, object: &Value) -> Result<(), ApiError> {
    let (name, wanted) = (meta(object, "name"), &call.name);
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )));
    }
    if name != wanted {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({wanted})"
        )));
    }
    let namespace = meta(object, "namespace");
    if !call.namespace.is_empty() && !namespace.is_empty() && namespace != call.namespace {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            call.namespace
        )));
    }
    Ok(())
}

//! What went wrong, as the `metav1.Status` a Kubernetes client expects.
//!
//! Owns: the reason, code, text and details of every error answer, and the `Success` Status of a
//! deletion. Must not know: which handler failed. A newcomer's trap: `details` may be absent, or
//! present and empty, and clients and the recorded answers tell the two apart; resources are
//! named in the plural (`deployments.apps`) but an invalid object by its kind (`Deployment.apps`).

use std::fmt::Write as _;

use kijabi_meta::field::FieldError;
use kijabi_meta::kind::Kind;
use serde::{Deserialize, Serialize};

/// A resource as error texts name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// API group, empty for the core group.
    pub group: &'a str,
    /// The plural, such as `pods`.
    pub resource: &'a str,
}

impl<'a> GroupResource<'a> {
    /// A resource of a group.
    pub fn new(group: &'a str, resource: &'a str) -> Self {
        Self { group, resource }
    }
}

impl GroupResource<'static> {
    /// The resource of a kind.
    pub fn of(kind: &Kind) -> Self {
        Self { group: kind.group, resource: kind.plural }
    }
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// One cause in `details.causes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Machine-readable, such as `FieldValueInvalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Human-readable.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field, if one is at fault.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `status.details`: what the error is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural resource, or the kind for invalid objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Uid of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Single causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// `metadata` of a Status, which is a list's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListMeta {
    /// Where a list that cannot go on consistently may go on.
    #[serde(rename = "continue", default, skip_serializing_if = "String::is_empty")]
    pub next: String,
}

/// A `metav1.Status`: the body of every error answer, and of a finished deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the field is named so on the wire")]
#[serde(rename_all = "camelCase")]
pub struct Status {
    kind: &'static str,
    api_version: &'static str,
    metadata: ListMeta,
    /// `Success` or `Failure`.
    status: &'static str,
    /// The text shown to a user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The reason, empty for a success.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'static str,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// The HTTP status code, absent for a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

impl Status {
    /// The answer to a deletion that removed the object.
    pub fn deleted(resource: GroupResource<'_>, name: &str, uid: &str) -> Self {
        let details = Details { uid: uid.into(), ..about(resource, name) };
        Self::success(Some(details))
    }

    /// A bare success.
    pub fn success(details: Option<Details>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: ListMeta::default(),
            status: "Success",
            message: String::new(),
            reason: "",
            details,
            code: None,
        }
    }

    /// The success of a request whose code is said, as a binding's `201`.
    pub fn success_code(code: u16) -> Self {
        Self { code: Some(code), ..Self::success(None) }
    }
}

/// A failed request: everything the client is told of it. Boxed, so that `Result`s stay small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError(Box<Status>);

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ApiError {}

fn about(resource: GroupResource<'_>, name: &str) -> Details {
    Details {
        name: name.into(),
        group: resource.group.into(),
        kind: resource.resource.into(),
        ..Details::default()
    }
}

// === impl ApiError ===

impl ApiError {
    fn new(
        code: u16,
        reason: &'static str,
        message: impl Into<String>,
        details: impl Into<Option<Details>>,
    ) -> Self {
        Self(Box::new(Status {
            status: "Failure",
            message: message.into(),
            reason,
            details: details.into(),
            code: Some(code),
            ..Status::success(None)
        }))
    }

    /// The Status itself.
    pub fn status(&self) -> &Status {
        &self.0
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.code.unwrap_or(500)
    }

    /// The reason, such as `NotFound`.
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// Seconds for the header `Retry-After`, if the client should try again.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.details.as_ref().map(|d| d.retry_after_seconds).filter(|&s| s > 0)
    }

    /// Adds a cause.
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let cause = Cause { reason: reason.into(), message: message.into(), field: field.into() };
        self.0.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// Offers a token to go on with.
    pub fn with_continue(mut self, token: String) -> Self {
        self.0.metadata.next = token;
        self
    }

    /// Puts `prefix: ` before the text.
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.0.message = format!("{prefix}: {}", self.0.message);
        self
    }

    /// The error as bytes of JSON, as it stands in a response body.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&*self.0).expect("a Status is plain strings and numbers")
    }

    /// 404 `pods "x" not found`.
    pub fn not_found(resource: GroupResource<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {name:?} not found"), about(resource, name))
    }

    /// 404 for a path that names no known resource or subresource.
    pub fn unknown_resource() -> Self {
        let text = "the server could not find the requested resource";
        Self::new(404, "NotFound", text, Details::default())
    }

    /// 404 for an object whose path is known but which cannot be told by resource, in the form
    /// that Kubernetes gives a subresource's missing parent.
    pub fn unknown_resource_of(resource: GroupResource<'_>, name: &str) -> Self {
        let text = "the server could not find the requested resource";
        Self::new(404, "NotFound", text, about(resource, name))
    }

    /// 409 `pods "x" already exists`.
    pub fn already_exists(resource: GroupResource<'_>, name: &str) -> Self {
        let text = format!("{resource} {name:?} already exists");
        Self::new(409, "AlreadyExists", text, about(resource, name))
    }

    /// 409 for a generated name that was taken each time.
    pub fn generate_name_conflict(resource: GroupResource<'_>, name: &str) -> Self {
        let text = format!(
            "{resource} {name:?} already exists, the server was not able to generate a unique name \
             for the object"
        );
        let details = Details { retry_after_seconds: 1, ..about(resource, name) };
        Self::new(409, "AlreadyExists", text, details)
    }

    /// 409 `Operation cannot be fulfilled on pods "x": <why>`.
    pub fn conflict(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let text = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(409, "Conflict", text, about(resource, name))
    }

    /// 409 because the object changed since it was read.
    pub fn modified(resource: GroupResource<'_>, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(resource, name, why)
    }

    /// 409 of a server-side apply, one cause a conflicting field: its path and the text.
    pub fn apply_conflict(message: &str, conflicts: &[(String, String)]) -> Self {
        let cause = |(field, message): &(String, String)| Cause {
            reason: "FieldManagerConflict".into(),
            message: message.clone(),
            field: field.clone(),
        };
        let causes = conflicts.iter().map(cause).collect();
        Self::new(409, "Conflict", message, Details { causes, ..Details::default() })
    }

    /// 422 with one cause a field error. `kind` is the kind, such as `ConfigMap`.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let causes = errors
            .iter()
            .map(|e| Cause {
                reason: e.reason.as_str().into(),
                message: e.message.clone(),
                field: e.field.clone(),
            })
            .collect();
        let shown = GroupResource { group, resource: kind };
        let text = format!("{shown} {name:?} is invalid: {}", aggregate(errors));
        Self::new(422, "Invalid", text, Details { causes, ..about(shown, name) })
    }

    /// 422 for query parameters: `ListOptions.meta.k8s.io "" is invalid: …`.
    pub fn invalid_options(kind: &str, errors: &[FieldError]) -> Self {
        Self::invalid("meta.k8s.io", kind, "", errors)
    }

    /// 422 without details, for a JSON patch that does not apply.
    pub fn unprocessable() -> Self {
        let text = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", text, Details::default())
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, None)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized", None)
    }

    /// 403 `pods "x" is forbidden: <why>`; an empty name is left out.
    pub fn forbidden(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let text = if resource.resource.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {name:?} is forbidden: {why}")
        };
        Self::new(403, "Forbidden", text, about(resource, name))
    }

    /// 405 for a verb that the resource does not have.
    pub fn method_not_supported(resource: GroupResource<'_>, verb: &str) -> Self {
        let text =
            format!("{verb} is not supported on resources of kind {:?}", resource.to_string());
        let details = Details { name: String::new(), ..about(resource, "") };
        Self::new(405, "MethodNotAllowed", text, details)
    }

    /// 405 for a path that exists, with another method.
    pub fn method_not_allowed() -> Self {
        let text = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", text, Details::default())
    }

    /// 406 of a request for an object.
    pub fn not_acceptable() -> Self {
        Self::not_acceptable_text("406: Not Acceptable").with_available(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
    }

    /// 406 because the object cannot take the asked shape.
    pub fn not_acceptable_transform(why: &str) -> Self {
        Self::new(406, "NotAcceptable", why, None)
    }

    /// 406 that says which types there are.
    pub fn not_acceptable_types(types: &[&str]) -> Self {
        let list = types.join(", ");
        let text = format!("only the following media types are accepted: {list}");
        Self::new(406, "NotAcceptable", text, None)
    }

    fn not_acceptable_text(text: &str) -> Self {
        Self::new(406, "NotAcceptable", text, Details::default())
    }

    fn with_available(mut self, types: &str) -> Self {
        let _ = write!(self.0.message, "\n\nAvailable representations: {types}");
        self
    }

    /// 415 of a request body.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let text = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", text, None)
    }

    /// 415 of a patch whose content type is no patch at all.
    pub fn unsupported_patch_type() -> Self {
        let text = "415: Unsupported Media Type";
        Self::new(415, "UnsupportedMediaType", text, Details::default())
    }

    /// 413.
    pub fn entity_too_large(message: impl Into<String>) -> Self {
        let text = format!("Request entity too large: {}", message.into());
        Self::new(413, "RequestEntityTooLarge", text, None)
    }

    /// 410 for a history that is compacted or no longer cached.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message, None)
    }

    /// 410 for a resource that is no longer served.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message, None)
    }

    /// 504 `Timeout: <why>`.
    pub fn timeout(why: &str, retry_after_seconds: u32) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Self::new(504, "Timeout", format!("Timeout: {why}"), details)
    }

    /// 504 for a resource version that the store has not reached.
    pub fn resource_version_too_large(asked: i64, current: i64) -> Self {
        Self::timeout(&format!("Too large resource version: {asked}, current: {current}"), 1)
            .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
    }

    /// 500 `<action> <resource>` that the store did not answer in time.
    pub fn server_timeout(resource: GroupResource<'_>, action: &str, retry: u32) -> Self {
        let text = format!(
            "The {action} operation against {resource} could not be completed at this time, please try again."
        );
        let details = Details { retry_after_seconds: retry, ..about(resource, "") };
        Self::new(500, "ServerTimeout", text, details)
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Self::new(429, "TooManyRequests", message, details)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message, None)
    }

    /// 500 with a bare text and no reason, as Kubernetes answers an error it does not know.
    pub fn generic(message: impl Into<String>) -> Self {
        Self::new(500, "", message, None)
    }

    /// What another server behind this one refused, in the words of Kubernetes' clients.
    pub fn from_backend(code: u16, resource: GroupResource<'_>, name: &str, text: &str) -> Self {
        let about = about(resource, name);
        let place = format!("( {resource} {name})");
        let unexpected = |error: Self| error.with_cause("UnexpectedServerResponse", text, "");
        match code {
            400 => Self::bad_request(text),
            404 => {
                let head = "the server could not find the requested resource";
                unexpected(Self::new(404, "NotFound", format!("{head} {place}"), about))
            }
            500 => Self::internal(text),
            501.. => {
                let head = format!(
                    "an error on the server ({text:?}) has prevented the request from succeeding"
                );
                unexpected(Self::new(code, "InternalError", format!("{head} {place}"), about))
            }
            _ => {
                let head = "the server rejected our request for an unknown reason";
                unexpected(Self::new(code, "Unknown", format!("{head} {place}"), about))
            }
        }
    }

    /// 500 `Internal error occurred: <why>`.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let message = why.to_string();
        let details = Details {
            causes: vec![Cause { message: message.clone(), ..Cause::default() }],
            ..Details::default()
        };
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"), details)
    }
}

/// Several field errors in one line: one alone bare, several in brackets, each text once.
fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests;

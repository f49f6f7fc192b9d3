//! DELETE of one object.
//!
//! Owns: the options and the answer. Must not know: what a deletion does. A newcomer's trap: the
//! answer is a Status for most kinds, but the object itself for a few, and for every object that
//! is not gone yet.

use http::{HeaderValue, StatusCode, header};
use kijabi_meta::codec::Expected;
use kijabi_meta::kind::Kind;
use serde_json::Value;

use super::deletion::Removed;
use super::options::{DeleteOptions, FieldValidation};
use super::{Call, Handlers, decode, meta};
use crate::body::{self, RequestBody};
use crate::exchange::Response;
use crate::status::{ApiError, GroupResource, Status};

const OPTIONS: Expected<'static> =
    Expected { group: "meta.k8s.io", version: "v1", kind: "DeleteOptions" };

impl Handlers {
    pub(super) async fn delete(
        &self,
        call: &Call,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let options = delete_options(call, body).await?;
        let removed = if call.kind.plural == "namespaces" && call.kind.group.is_empty() {
            self.delete_namespace(call, &options).await?
        } else {
            self.remove(call, &call.name, &options).await?
        };
        respond(call, &options, &removed)
    }
}

/// The options in the body, or in the query if there is no body.
pub(super) async fn delete_options(
    call: &Call,
    body: RequestBody,
) -> Result<DeleteOptions, ApiError> {
    let bytes = body::read(body).await?;
    if bytes.is_empty() {
        return DeleteOptions::from_query(&call.info.query);
    }
    let body = body::full(bytes);
    let object = decode::read(call, body, OPTIONS, FieldValidation::Ignore).await?;
    DeleteOptions::from_object(&object)
}

fn respond(call: &Call, options: &DeleteOptions, removed: &Removed) -> Result<Response, ApiError> {
    // Kubernetes says "accepted" only to clients that asked for dependents not to be orphaned in
    // the old way.
    let pending = !removed.gone && options.orphan_dependents == Some(false);
    let code = if pending { StatusCode::ACCEPTED } else { StatusCode::OK };
    if !removed.gone || answers_with_object(call.kind) {
        return call.output.object(code, call.kind, &removed.object);
    }
    let uid = meta(&removed.object, "uid");
    let status = Status::deleted(GroupResource::of(call.kind), &call.name, uid);
    Ok(status_response(call, code, &status))
}

/// An answer with a Status.
pub(super) fn status_response(call: &Call, code: StatusCode, status: &Status) -> Response {
    let value = serde_json::to_value(status).unwrap_or(Value::Null);
    let mut response = call.output.plain(code, &value);
    let content_type = HeaderValue::from_static(call.output.form.format.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// The kinds whose deletion answers with the object.
fn answers_with_object(kind: &Kind) -> bool {
    let plurals = [
        "pods",
        "services",
        "serviceaccounts",
        "podtemplates",
        "resourcequotas",
        "persistentvolumes",
        "persistentvolumeclaims",
        "namespaces",
    ];
    kind.group.is_empty() && plurals.contains(&kind.plural)
}

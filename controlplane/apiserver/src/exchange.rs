//! One request and its answer as they pass between the filter chain and the handlers.
//!
//! Owns: the types of that seam. Must not know: sockets or storage. A newcomer's trap: warnings are
//! collected beside the answer, because a handler may find them before it knows its answer; the
//! filter chain turns them into `Warning` headers.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use serde_json::Value;

use crate::body::{self, RequestBody, ResponseBody};
use crate::request::RequestInfo;
use crate::status::ApiError;
use crate::user::User;

/// Most warnings one request may collect; the rest are dropped.
const WARNINGS_MAX: usize = 128;

/// The answer to a request.
pub type Response = http::Response<ResponseBody>;

/// A request that was authenticated and authorized.
#[derive(Debug)]
pub struct ApiRequest {
    /// What is asked for.
    pub info: RequestInfo,
    /// Who asks, after impersonation.
    pub user: User,
    /// The method.
    pub method: Method,
    /// The headers; identity headers of proxies are already gone.
    pub headers: HeaderMap,
    /// The body, unread.
    pub body: RequestBody,
    /// Where warnings for the client go.
    pub warnings: Warnings,
}

/// Serves resource requests: everything below `/api/v1/` and `/apis/<group>/<version>/`.
pub trait ResourceHandler: Send + Sync {
    /// Answers a request. Errors are answers too.
    fn handle(&self, request: ApiRequest) -> BoxFuture<'static, Response>;
}

/// Warnings for the client of one request. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds a warning, once.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock();
        if all.len() < WARNINGS_MAX && !all.contains(&text) {
            all.push(text);
        }
    }

    /// All warnings, in order, leaving none.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

/// An answer with a JSON body.
pub fn json(status: StatusCode, value: &Value) -> Response {
    let bytes = serde_json::to_vec(value).expect("a JSON value always has a JSON form");
    with_type(status, "application/json", bytes)
}

/// An answer with a plain text body, with the headers Go's `http.Error` sets.
pub fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = with_type(status, "text/plain; charset=utf-8", text.into());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer of any type.
pub fn with_type(
    status: StatusCode,
    content_type: &'static str,
    bytes: impl Into<bytes::Bytes>,
) -> Response {
    let mut response = http::Response::new(body::full(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An error as an answer: a Status object in JSON.
pub fn error(error: &ApiError) -> Response {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = with_type(code, "application/json", error.to_json());
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

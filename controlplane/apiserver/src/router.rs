//! Where an admitted request goes: a document of this server, or the handlers of resources.
//!
//! Owns: the non-resource paths and the answers to paths that do not exist. Must not know: what a
//! resource handler does. A newcomer's trap: an unknown group is answered in plain text, an unknown
//! version or resource of a known group with a Status; clients tell them apart.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use kijabi_meta::kind::{self, KINDS};
use serde_json::json;

use crate::discovery::Discovery;
use crate::exchange::{self, ApiRequest, ResourceHandler, Response};
use crate::health::Health;
use crate::issuer::Issuer;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::request::RequestInfo;
use crate::status::ApiError;
use crate::version::version;

/// The routes.
pub struct Router {
    /// Serves resources.
    pub resources: Arc<dyn ResourceHandler>,
    /// Fetches logs.
    pub logs: Logs,
    /// What there is.
    pub discovery: Discovery,
    /// What objects look like.
    pub openapi: Arc<OpenApi>,
    /// Whose tokens these are.
    pub issuer: Issuer,
    /// Whether the server is well.
    pub health: Health,
    /// The figures at `/metrics`.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

impl Router {
    /// Answers an admitted request.
    pub async fn route(&self, request: ApiRequest) -> Response {
        // The body is not shared between threads, so the request is taken apart before waiting.
        let ApiRequest { info, method, headers, .. } = &request;
        if !info.is_resource {
            let (info, method, headers) = (info.clone(), method.clone(), headers.clone());
            drop(request);
            return self.document(&info, &method, &headers).await;
        }
        if !self.serves(info) {
            return unknown(info);
        }
        if (info.api_group.as_str(), info.full_resource().as_str()) == ("", "pods/log") {
            return self.logs.answer(request).await;
        }
        self.resources.handle(request).await
    }

    /// Whether the resource and subresource of a request are served.
    pub fn serves(&self, info: &RequestInfo) -> bool {
        kind::lookup(&info.api_group, &info.api_version, &info.resource).is_some_and(|kind| {
            info.subresource.is_empty() || kind.subresource(&info.subresource).is_some()
        })
    }

    async fn document(&self, info: &RequestInfo, method: &Method, headers: &HeaderMap) -> Response {
        let (path, query) = (info.path.as_str(), &info.query);
        if let Some(response) = self.health.answer(path, query).await {
            return response;
        }
        let found = match path {
            "/" => Some(exchange::json(StatusCode::OK, &self.index())),
            "/version" => Some(exchange::json(StatusCode::OK, &version())),
            "/metrics" => Some(exchange::with_type(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.metrics.render(),
            )),
            _ => self
                .discovery
                .answer(path, headers)
                .or_else(|| self.openapi.answer(path, query, headers))
                .or_else(|| self.issuer.answer(path)),
        };
        let Some(response) = found else { return unknown(info) };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return exchange::error(&ApiError::method_not_allowed());
        }
        response
    }

    fn index(&self) -> serde_json::Value {
        let mut paths: Vec<&str> = self.discovery.paths().collect();
        paths.extend(["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz"]);
        paths.extend(["/.well-known/openid-configuration", "/openid/v1/jwks", "/version"]);
        paths.sort_unstable();
        json!({ "paths": paths })
    }
}

/// 404 for a path that leads nowhere.
fn unknown(info: &RequestInfo) -> Response {
    let mut parts = info.path.trim_start_matches('/').split('/');
    let known_group = match (parts.next(), parts.next()) {
        (Some("api"), Some(_)) => true,
        (Some("apis"), Some(group)) => KINDS.iter().any(|kind| kind.group == group),
        _ => false,
    };
    if known_group {
        return exchange::error(&ApiError::unknown_resource());
    }
    exchange::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

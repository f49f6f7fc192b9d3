//! The filter chain: everything that happens to a request before a handler sees it, in order.
//!
//! Owns: that order, which is kube-apiserver's: panic guard, request info, authentication,
//! impersonation, room in flight, authorization, time limit. Must not know: what handlers do. A
//! newcomer's trap: answers made here (400, 401, 403, 429) pass through the same decoration as
//! handlers' answers, so every answer has an audit id.

mod decorate;
mod inflight;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use kijabi_base::clock;
use kijabi_base::tasks::Shutdown;

use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::body::RequestBody;
use crate::exchange::{self, ApiRequest, Response, Warnings};
use crate::impersonation;
use crate::metrics::Metrics;
use crate::request::RequestInfo;
use crate::router::Router;
use crate::status::ApiError;
use crate::tls::PeerIdentity;

pub use inflight::InFlight;

/// How long an answer may take, watches and streams apart.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The chain.
#[derive(Debug)]
pub struct Filters {
    /// Finds out who asks.
    pub authenticator: Authenticator,
    /// Decides whether he may.
    pub authorizer: Authorizer,
    /// Keeps the number of requests in bounds.
    pub in_flight: InFlight,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Where requests go.
    pub router: Router,
    /// Ends open streams when the server stops.
    pub shutdown: Shutdown,
}

impl Filters {
    /// Answers one request of a connection.
    pub async fn serve(
        &self,
        peer: &PeerIdentity,
        request: http::Request<RequestBody>,
    ) -> Response {
        let started = clock::now();
        let (parts, body) = request.into_parts();
        let audit_id = decorate::audit_id(&parts.headers);
        let is_head = parts.method == Method::HEAD;
        let warnings = Warnings::default();
        let parsed = RequestInfo::parse(&parts.method, parts.uri.path(), parts.uri.query());
        let (response, info) = match parsed {
            Ok(info) => {
                let request = ApiRequest {
                    info: info.clone(),
                    user: crate::user::User::anonymous(),
                    method: parts.method,
                    headers: parts.headers,
                    body,
                    warnings: warnings.clone(),
                };
                let guarded = AssertUnwindSafe(self.admit(peer, request)).catch_unwind().await;
                (guarded.unwrap_or_else(|panic| panicked(&*panic, &info)), info)
            }
            Err(error) => {
                let refused = ApiError::bad_request(error.to_string());
                (exchange::error(&refused), RequestInfo::default())
            }
        };
        let served = self.router.serves(&info);
        self.metrics.finished(&info, served, response.status().as_u16(), started.elapsed());
        let mut response = decorate::decorate(response, &audit_id, &warnings);
        if is_head {
            response = decorate::without_body(response);
        }
        if info.is_long_running() && response.status().is_success() {
            let open = self.metrics.open_stream(&info, served);
            return decorate::end_with(response, self.shutdown.clone(), open);
        }
        response
    }

    async fn admit(&self, peer: &PeerIdentity, request: ApiRequest) -> Response {
        match self.check(peer, request).await {
            Ok(response) => response,
            Err(error) => exchange::error(&error),
        }
    }

    async fn check(
        &self,
        peer: &PeerIdentity,
        mut request: ApiRequest,
    ) -> Result<Response, ApiError> {
        request.user = self.who(peer, &request.info, &mut request.headers).await?;
        let long_running = request.info.is_long_running();
        let place =
            if long_running { None } else { self.in_flight.enter(&request.info, &self.metrics) };
        if place.is_none() && !long_running && !InFlight::is_exempt(&request) {
            self.in_flight.count_dropped(&request.info, &self.metrics);
            return Ok(inflight::too_many());
        }
        self.authorizer.authorize(&request.user, &request.info).await?;
        let info = request.info.clone();
        if long_running {
            return Ok(self.router.route(request).await);
        }
        match tokio::time::timeout(REQUEST_TIMEOUT, self.router.route(request)).await {
            Ok(response) => Ok(response),
            Err(_) => {
                self.metrics.timed_out(&info, self.router.serves(&info));
                Err(ApiError::timeout("request did not complete within the allotted timeout", 0))
            }
        }
    }

    async fn who(
        &self,
        peer: &PeerIdentity,
        info: &RequestInfo,
        headers: &mut HeaderMap,
    ) -> Result<crate::user::User, ApiError> {
        let user = self.authenticator.authenticate(peer, info, headers).await?;
        impersonation::impersonate(&self.authorizer, user, headers).await
    }
}

fn panicked(panic: &(dyn Any + Send), info: &RequestInfo) -> Response {
    let what = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(verb = info.verb, path = %info.path, panic = %what, "a handler panicked");
    exchange::text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "This request caused apiserver to panic. Look in the logs for details.\n",
    )
}

//! The clients' port: gRPC, the JSON gateway, the endpoints.
//!
//! Owns: which of them a request is for. Must not know: what they answer. A newcomer's trap: only
//! gRPC goes past the access rules, and only over HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use kijabi_base::limits::GRPC_OVERHEAD_BYTES;
use kijabi_base::tasks::Shutdown;
use tonic::body::Body;

use super::access::{self, Access};
use super::gateway::{self, Gateway, websocket};
use super::{Endpoints, Grpc};
use crate::config::Config;

/// What the clients' port serves. Cloning shares.
#[derive(Clone)]
pub(crate) struct Clients {
    grpc: Grpc,
    gateway: Option<Gateway>,
    access: Arc<Access>,
    shutdown: Shutdown,
}

// === impl Clients ===

impl Clients {
    pub(crate) fn new(grpc: Grpc, config: &Config, shutdown: &Shutdown) -> Self {
        let bytes_max = config.max_request_bytes + GRPC_OVERHEAD_BYTES;
        let gateway = config.enable_grpc_gateway.then(|| Gateway::new(grpc.clone(), bytes_max));
        let access = Arc::new(Access::new(&config.cors, &config.host_whitelist));
        Self { grpc, gateway, access, shutdown: shutdown.clone() }
    }

    /// Answers a request that came over a connection that is `secure`, or not.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        endpoints: &Endpoints,
        secure: bool,
    ) -> Response<Body> {
        if Grpc::is_for(&request) {
            return self.grpc.answer(request).await;
        }
        // In a box: what most requests pass is to stay small.
        Box::pin(self.answer_plain(request, endpoints, secure)).await
    }

    async fn answer_plain(
        &self,
        request: Request<Incoming>,
        endpoints: &Endpoints,
        secure: bool,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let admitted = match self.access.admit(&head, secure) {
            Ok(admitted) => admitted,
            Err(refusal) => return refusal,
        };
        // Differs from etcd: a certificate's name does not count on the gateway, which is all.
        let path = admitted.path.as_str();
        let mut response = match &self.gateway {
            Some(gateway) if path.starts_with(gateway::ROOT) => {
                let request = Request::from_parts(head, body);
                if websocket::is_for(request.headers()) {
                    websocket::answer(gateway, path, request, &self.shutdown)
                } else {
                    gateway.answer(path, request.map(Body::new)).await
                }
            }
            Some(_) if path == gateway::ROOT.trim_end_matches('/') => {
                to_gateway(&head.method, &head.uri)
            }
            _ => endpoints.answer(&head.method, path, head.uri.query()).await,
        };
        response.headers_mut().extend(admitted.headers);
        response
    }
}

/// To where the gateway begins, with the page Go's server shows.
fn to_gateway(method: &Method, uri: &Uri) -> Response<Body> {
    let mut response =
        access::redirect(StatusCode::TEMPORARY_REDIRECT, uri, gateway::ROOT, Vec::new());
    if [Method::GET, Method::HEAD].contains(method) {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
    }
    if method == Method::GET {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let escaped = query.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let escaped = escaped.replace('"', "&#34;").replace('\'', "&#39;");
        let root = gateway::ROOT;
        let text = format!("<a href=\"{root}{escaped}\">Temporary Redirect</a>.\n\n");
        *response.body_mut() = Body::new(Full::new(Bytes::from(text)));
    }
    response
}

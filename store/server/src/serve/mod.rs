//! Sockets: gRPC and HTTP/1.1 on one port.
//!
//! Owns: listening, connections, telling gRPC from plain HTTP. Must not know: what a request asks.
//! A newcomer's trap: listeners are bound before the data is opened, so that a taken port costs
//! nothing, but nobody is accepted before the member is ready.

mod access;
mod authority;
mod clients;
mod counted;
pub(crate) mod gateway;
mod grpc;
mod health;
mod http;
mod listener;
mod refusal;

pub(crate) use clients::Clients;
pub(crate) use grpc::Grpc;
pub(crate) use http::Endpoints;
pub(crate) use listener::{Bound, ListenError, Peer, bind};

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kijabi_base::limits::CLIENT_CONNECTIONS_MAX;
use kijabi_base::tasks::{self, Shutdown};
use tokio::sync::Semaphore;
use tonic::body::Body;

use authority::Lenient;

use crate::peer::PeerPort;

/// How long connections may finish what they are doing when the member stops.
const DRAIN: Duration = Duration::from_secs(3);
/// Time a client has for the head of an HTTP/1.1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP/2 flow control: room for one large request on a stream, and for several on a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// etcd's keep-alive of idle connections.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2 * 3600);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Whom a port is for.
#[derive(Clone)]
pub(crate) enum Role {
    /// Clients: gRPC, the JSON gateway and the endpoints.
    Clients(Box<Clients>),
    /// Monitoring: the endpoints.
    Monitoring,
    /// Other members.
    Members(PeerPort),
}

/// What a port serves.
#[derive(Clone)]
pub(crate) struct Service {
    /// Whom it is for.
    pub(crate) role: Role,
    /// Plain HTTP.
    pub(crate) endpoints: Arc<Endpoints>,
    /// Most streams on one connection.
    pub(crate) max_concurrent_streams: u32,
}

impl Service {
    async fn answer(&self, request: ::http::Request<Incoming>) -> ::http::Response<Body> {
        match &self.role {
            Role::Clients(clients) => clients.answer(request, &self.endpoints, false).await,
            Role::Monitoring => {
                let uri = request.uri();
                self.endpoints.answer(request.method(), uri.path(), uri.query()).await
            }
            Role::Members(peers) if PeerPort::is_for(&request) => peers.answer(request).await,
            Role::Members(_) => self.endpoints.answer_member(request.method(), request.uri()),
        }
    }
}

/// Accepts until the member stops, then lets open connections finish.
pub(crate) async fn run(bound: Bound, service: Service, shutdown: Shutdown) {
    let slots = Arc::new(Semaphore::new(CLIENT_CONNECTIONS_MAX));
    // Ends connections that do not end by themselves.
    let cut = Shutdown::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => break,
            accepted = bound.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, or a connection that was reset before it was accepted.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(limit = CLIENT_CONNECTIONS_MAX, "too many connections; one was closed");
            continue;
        };
        let (service, shutdown) = (service.clone(), shutdown.clone());
        let serving = connection(stream, service, shutdown);
        tasks::spawn_until("connection", cut.clone(), async move {
            serving.await;
            drop(slot);
        });
    }
    // Taking all slots is waiting for all connections.
    let all = u32::try_from(CLIENT_CONNECTIONS_MAX).unwrap_or(u32::MAX);
    if tokio::time::timeout(DRAIN, slots.acquire_many(all)).await.is_err() {
        cut.trigger();
        let _ = slots.acquire_many(all).await;
    }
}

async fn connection(stream: Peer, service: Service, shutdown: Shutdown) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(service.max_concurrent_streams)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let answer = hyper::service::service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let serving =
        builder.serve_connection_with_upgrades(TokioIo::new(Lenient::new(stream)), answer);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.wait() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

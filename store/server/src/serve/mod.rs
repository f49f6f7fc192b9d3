//! Sockets: gRPC and HTTP/1.1 on one port.
//!
//! Owns: listening, connections, telling gRPC from plain HTTP. Must not know: what a request asks.
//! A newcomer's trap: listeners are bound before the data is opened, so that a taken port costs
//! nothing, but nobody is accepted before the member is ready.

mod access;
mod authority;
mod calm;
mod clients;
mod connection;
mod counted;
pub(crate) mod gateway;
mod gather;
mod grpc;
mod health;
mod http;
mod listener;
mod refusal;
mod tls;
mod unary;

pub(crate) use clients::Clients;
pub(crate) use connection::Connection;
pub(crate) use grpc::Grpc;
pub(crate) use http::Endpoints;
pub(crate) use listener::{Bound, ListenError, bind, is_secure};
pub(crate) use refusal::reword;
#[allow(unused_imports, reason = "for authentication")]
pub(crate) use tls::PeerIdentity;
pub(crate) use tls::{ClientTls, ServerTls, Side, TlsError};

use std::sync::Arc;
use std::time::Duration;

use ::http::{Response, StatusCode};
use hyper::body::Incoming;
use kijabi_base::limits::CLIENT_CONNECTIONS_MAX;
use kijabi_base::tasks::{self, Shutdown};
use tokio::sync::Semaphore;
use tonic::body::Body;

use crate::cluster::remote::MembershipPort;
use crate::config::KeepAlive;
use crate::crew::Spawner;
use crate::peer::PeerPort;
use tls::Handshakes;

/// How long connections may finish what they are doing when the member stops.
const DRAIN: Duration = Duration::from_secs(3);
/// Descriptors kept for files and other members.
const RESERVED_DESCRIPTORS: usize = 150;

/// Whom a port is for.
#[derive(Clone)]
pub(crate) enum Role {
    /// Clients: gRPC, the JSON gateway and the endpoints.
    Clients(Box<Clients>),
    /// Monitoring: the endpoints.
    Monitoring,
    /// Other members.
    Members(PeerPort, MembershipPort, Spawner),
}

/// What a port serves.
#[derive(Clone)]
pub(crate) struct Service {
    /// Whom it is for.
    pub(crate) role: Role,
    /// Plain HTTP.
    pub(crate) endpoints: Arc<Endpoints>,
    /// Which protocols the port takes.
    pub(crate) protocols: Protocols,
    /// Most streams on one connection.
    pub(crate) max_concurrent_streams: u32,
    /// How idle connections are kept.
    pub(crate) keep_alive: KeepAlive,
}

/// Which protocols a port takes (`--listen-client-http-urls` parts them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocols {
    Both,
    GrpcOnly,
    HttpOnly,
}

/// How a request came in.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    /// With TLS.
    secure: bool,
}

impl Service {
    async fn answer(&self, request: ::http::Request<Incoming>, arrival: Arrival) -> Response<Body> {
        let taken = match self.protocols {
            Protocols::Both => true,
            Protocols::GrpcOnly => Grpc::is_for(&request),
            Protocols::HttpOnly => !Grpc::is_for(&request),
        };
        if !taken {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        match &self.role {
            Role::Clients(clients) => {
                clients.answer(request, &self.endpoints, arrival.secure).await
            }
            Role::Monitoring => {
                let uri = request.uri();
                Box::pin(self.endpoints.answer(request.method(), uri.path(), uri.query())).await
            }
            Role::Members(_, membership, _) if MembershipPort::is_for(&request) => {
                Box::pin(membership.answer(request)).await
            }
            Role::Members(peers, ..) if PeerPort::is_for(&request) => {
                Box::pin(peers.answer(request)).await
            }
            Role::Members(..) => self.endpoints.answer_member(request.method(), request.uri()),
        }
    }
}

/// Accepts until the member stops, then lets open connections finish.
pub(crate) async fn run(bound: Bound, service: Service, shutdown: Shutdown) {
    let (most, service) = (connections_max(), Arc::new(service));
    let slots = Arc::new(Semaphore::new(most));
    let (bound, handshakes) = (Arc::new(bound), Handshakes::default());
    // Ends connections that do not end by themselves.
    let cut = Shutdown::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => break,
            accepted = bound.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a connection that was reset before it was accepted.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(limit = most, "too many connections; one was closed");
            continue;
        };
        let (service, shutdown) = (Arc::clone(&service), shutdown.clone());
        let (tls, handshakes) = (bound.tls().cloned(), handshakes.clone());
        let role = service.role.clone();
        // In a box: each of those that pass it on would keep room for it in the task.
        let serving = Box::pin(async move {
            let tls = tls.as_deref();
            connection::serve(stream, remote, tls, &handshakes, service, shutdown).await;
            drop(slot);
        });
        match role {
            // What members say to each other is for Raft.
            Role::Members(.., raft) => raft.spawn_until(cut.clone(), serving),
            _ => drop(tasks::spawn_until("connection", cut.clone(), serving)),
        }
    }
    // Taking all slots is waiting for all connections.
    let all = u32::try_from(most).unwrap_or(u32::MAX);
    if tokio::time::timeout(DRAIN, slots.acquire_many(all)).await.is_err() {
        cut.trigger();
        let _ = slots.acquire_many(all).await;
    }
}

/// Connections of one listener: what the descriptors allow, with some left for files.
fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let descriptors = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(RESERVED_DESCRIPTORS);
    left.min(CLIENT_CONNECTIONS_MAX)
}

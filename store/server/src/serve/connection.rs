//! One connection, from its first byte to its last.
//!
//! Owns: the handshake, the protocol's bounds, who the client is. Must not know: what is asked. A
//! newcomer's trap: until a client has said which protocol it speaks no other timeout runs, so
//! `Lenient` has one of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kijabi_base::tasks::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};

use super::authority::Lenient;
use super::calm::Calm;
use super::gather::{Counted, Gather, Streams};
use super::listener::Peer;
use super::tls::{self, Handshakes, PeerIdentity, ServerTls};
use super::{Arrival, Service};
use crate::crew::{Crew, Spawner};
use crate::limits::{
    H2_HEADER_BYTES_MAX, H2_PENDING_RESETS_MAX, H2_RESETS_BY_ERROR_MAX, H2_SEND_BUFFER_BYTES,
    H2_STREAMS_MAX,
};

/// Time a client has for the head of an HTTP/1.1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP/2 flow control: room for one large request on a stream, and for several on a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Which connection a request came on; in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection(pub(crate) u64);

impl Connection {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Serves a connection until its end, or until the member stops.
pub(super) async fn serve(
    stream: Peer,
    remote: Option<SocketAddr>,
    tls: Option<&ServerTls>,
    handshakes: &Handshakes,
    service: Arc<Service>,
    shutdown: Shutdown,
) {
    // Connections with and without TLS, and a handshake, differ much in size, hence the boxes: the
    // task has room for the largest of what it holds itself, for as long as it lives.
    let Some(tls) = tls else {
        let arrival = Arrival { secure: false };
        return Box::pin(speak(stream, arrival, None, service, shutdown)).await;
    };
    let shaken = tokio::select! {
        () = shutdown.wait() => return,
        shaken = Box::pin(tls::accept(tls, stream, remote, handshakes)) => shaken,
    };
    if let Some((stream, identity)) = shaken {
        Box::pin(speak(stream, Arrival { secure: true }, identity, service, shutdown)).await;
    }
}

async fn speak<S>(
    stream: S,
    arrival: Arrival,
    identity: Option<PeerIdentity>,
    service: Arc<Service>,
    shutdown: Shutdown,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (crew, spawner) = Crew::new();
    let (builder, streams) = (builder(&service, spawner), Streams::default());
    let stream = Calm::new(Gather::new(stream, streams.clone()));
    let connection = Connection::next();
    let answer = hyper::service::service_fn(move |mut request: http::Request<_>| {
        request.extensions_mut().insert(connection);
        if let Some(identity) = &identity {
            request.extensions_mut().insert(identity.clone());
        }
        let (service, stream) = (Arc::clone(&service), streams.open());
        // In a box, so that an open stream does not keep the room it took to answer it.
        Box::pin(async move {
            let response = service.answer(request, arrival).await;
            Ok::<_, Infallible>(response.map(|body| Counted::new(body, stream)))
        })
    });
    let stream = TokioIo::new(Lenient::new(stream));
    let serving = async {
        let mut serving = std::pin::pin!(builder.serve_connection_with_upgrades(stream, answer));
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = shutdown.wait() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    };
    // All that is asked on a connection is answered in its task.
    if let Err(error) = crew.run(serving).await {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

// Differs from etcd: a connection bears no more streams than this, whatever
// `--max-concurrent-streams` says; a client that opens more waits, as HTTP/2 has it.
fn builder(service: &Service, spawner: Spawner) -> auto::Builder<Spawner> {
    let mut builder = auto::Builder::new(spawner);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let keep_alive = service.keep_alive;
    let pings = !keep_alive.interval.is_zero() && !keep_alive.timeout.is_zero();
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(service.max_concurrent_streams.min(H2_STREAMS_MAX))
        .max_header_list_size(H2_HEADER_BYTES_MAX)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(H2_RESETS_BY_ERROR_MAX)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES)
        // Differs from etcd: plain HTTP over HTTP/2 has no date. gRPC never has one, and both share
        // a connection.
        .auto_date_header(false)
        .keep_alive_interval(pings.then_some(keep_alive.interval))
        .keep_alive_timeout(keep_alive.timeout);
    builder
}

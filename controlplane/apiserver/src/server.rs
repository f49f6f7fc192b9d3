//! The listener: TCP and TLS connections, each served until it ends or the server stops.
//!
//! Owns: sockets and their limits. Must not know: what requests mean. A newcomer's trap: the
//! handshake runs in the connection's own task, or one slow client would hold up all others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::FusedFuture as _;
use http::StatusCode;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use kijabi_base::net::Heard;
use kijabi_base::tasks::{self, Shutdown};
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::body::{BoxError, ReadOn};
use crate::exchange::Response;
use crate::filters::Filters;
use crate::tls::{PeerIdentity, ServerTls};

/// Most connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 16_384;
/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take for a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
/// Most bytes of headers of one HTTP/2 request; HTTP/1.1's bound is hyper's buffer.
const HEADER_BYTES_MAX: u32 = 1 << 20;
/// Most requests at a time in one HTTP/2 connection, upstream's.
const STREAMS_MAX: u32 = 250;
/// After this much silence an HTTP/2 client is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(30);
/// How long open requests may go on after the server was asked to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after the system refused a connection, for lack of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens at `address`.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    raise_open_files();
    TcpListener::bind(address).await
}

/// A connection is an open file, and the soft limit of many systems is 1024.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Serves connections until `shutdown`, then lets open requests end.
pub(crate) async fn run(
    listener: TcpListener,
    tls: ServerTls,
    filters: Arc<Filters>,
    shutdown: Shutdown,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = Connections { tls, filters, shutdown: shutdown.clone() };
    let mut open = tokio::task::JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let place = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connections = connections.clone();
                open.spawn(async move {
                    let _place = place;
                    connections.serve(stream, peer).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!(open = open.len(), "stopping with requests still open");
    }
    open.shutdown().await;
}

/// What every connection shares.
#[derive(Clone)]
struct Connections {
    tls: ServerTls,
    filters: Arc<Filters>,
    shutdown: Shutdown,
}

impl Connections {
    async fn serve(self, stream: TcpStream, from: SocketAddr) {
        // Answers are written whole; waiting to fill a packet would only delay the last part.
        let _ = stream.set_nodelay(true);
        // A watcher whose machine vanished is noticed, though nothing is ever sent to it.
        let _ = set_socket_keepalive(&stream, true);
        let _ = set_tcp_keepidle(&stream, PING_AFTER);
        let acceptor = TlsAcceptor::from(self.tls.config.clone());
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%from, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!(%from, "TLS handshake took too long");
                return;
            }
        };
        let identity = Arc::new(self.tls.identify(stream.get_ref().1.peer_certificates()));
        let filters = self.filters.clone();
        // A client that proved nothing gets one refusal a connection: many requests in one are the
        // cheapest way to keep a server busy.
        let refused = Arc::new(Notify::new());
        let (may_close, close) = (*identity == PeerIdentity::None, refused.clone());
        let answer = move |request: http::Request<Incoming>| {
            let (filters, identity, close) = (filters.clone(), identity.clone(), close.clone());
            async move {
                let response = filters.serve(&identity, request.map(ReadOn::wrap)).await;
                if may_close && response.status() == StatusCode::UNAUTHORIZED {
                    close.notify_one();
                }
                response
            }
        };
        let closing = async {
            tokio::select! {
                () = refused.notified() => {}
                () = self.shutdown.wait() => {}
            }
        };
        if let Err(error) = converse(stream, answer, closing).await {
            tracing::debug!(%from, %error, "connection ended");
        }
    }
}

/// Answers a connection's requests until it ends; from `closing` on it takes no new ones.
async fn converse<S, F, A>(
    stream: S,
    answer: F,
    closing: impl Future<Output = ()>,
) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(http::Request<Incoming>) -> A,
    A: Future<Output = Response> + Send + 'static,
{
    let heard = Heard::new();
    let service = service_fn(|request| {
        heard.mark();
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let builder = protocol();
    let mut connection =
        pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut silence = pin!(heard.silent_for(HEADER_TIMEOUT));
    let mut closing = pin!(closing.fuse());
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = silence.as_mut() => return Err("no request came".into()),
            () = closing.as_mut(), if !closing.is_terminated() => {
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn protocol() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_AFTER);
    builder
}

/// Runs [`run`] in the background.
pub(crate) fn spawn(
    listener: TcpListener,
    tls: ServerTls,
    filters: Arc<Filters>,
    shutdown: Shutdown,
) -> tokio::task::JoinHandle<()> {
    tasks::spawn("apiserver", run(listener, tls, filters, shutdown))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::body::full;

    /// What a client gets that says only this and waits.
    async fn answer_to(said: &'static [u8]) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(4_096);
        let answer = |_request| async { http::Response::new(full("answer")) };
        let serving = converse(server, answer, std::future::pending());
        let client = async {
            client.write_all(said).await.unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        };
        tokio::join!(serving, client).1
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_ends() {
        for said in [&b""[..], b"G", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let got = answer_to(said).await;
            assert!(!got.windows(6).any(|part| part == b"answer"), "{said:?}");
        }
        let got = answer_to(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(got.ends_with(b"answer"), "{}", String::from_utf8_lossy(&got));
    }
}

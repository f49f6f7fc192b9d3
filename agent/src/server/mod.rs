//! The node's HTTPS server: container logs, the pods of the node, health.
//!
//! Owns: TLS, who may ask, the paths. Must not know: how pods are run. A newcomer's trap: the TLS
//! handshake lets clients without a certificate in, so that they get a 401 they can read; a
//! certificate of another CA already fails in the handshake.
// Differs from Kubernetes: authorization is by name here (the apiserver's client certificate or
// group system:masters), not by asking the apiserver with a SubjectAccessReview.

pub mod logs;
mod rotation;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Pod;
use kijabi_base::net::Heard;
use kijabi_base::tasks::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use self::logs::LogOptions;
pub(crate) use self::rotation::rotate_logs;
use self::tls::Client;
use crate::limits::{HANDSHAKE_MAX, HEADER_MAX, SERVER_CONNECTIONS_MAX};
use crate::pod::Shared;
use crate::pod::plan::{app_containers, init_containers};
use crate::runtime::{Container, Observed, RunState};
use crate::{Error, ServerConfig, time};

/// Pieces of a log on their way to a client.
const LOG_PIECES_MAX: usize = 64;

type Body = BoxBody<Bytes, Infallible>;

/// A server that listens but does not serve yet: its port goes into the Node first.
pub struct Bound {
    listener: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
    address: SocketAddr,
}

impl Bound {
    /// Reads the certificates and starts to listen.
    pub async fn bind(config: &ServerConfig) -> Result<Self, Error> {
        let acceptor = tls::acceptor(config)?;
        let failed = |error: std::io::Error| Error::Server(format!("{}: {error}", config.bind));
        let listener = TcpListener::bind(config.bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, acceptor, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, shared: Arc<Shared>, shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(SERVER_CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = shutdown.wait() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, say: others end meanwhile.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (acceptor, shared) = (self.acceptor.clone(), shared.clone());
            kijabi_base::tasks::spawn_until("node-server", shutdown.clone(), async move {
                let _place = place;
                let handshake = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await;
                let Ok(Ok(stream)) = handshake else { return };
                let client = tls::client(stream.get_ref().1);
                converse(stream, move |request| {
                    let (shared, client) = (shared.clone(), client.clone());
                    async move { answer(&shared, &client, request).await }
                })
                .await;
            });
        }
    }
}

/// Answers a connection's requests until it ends, or sends none for too long.
async fn converse<S, F, A>(stream: S, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let heard = Heard::new();
    let service = hyper::service::service_fn(|request| {
        heard.mark();
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_MAX)
        .keep_alive_timeout(HEADER_MAX);
    tokio::select! {
        // How it ended is the client's business.
        _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service) => {}
        () = heard.silent_for(HEADER_MAX) => {}
    }
}

async fn answer(
    shared: &Arc<Shared>,
    client: &Client,
    request: Request<Incoming>,
) -> Response<Body> {
    match client {
        Client::Unknown => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        Client::Named { user, allowed: false } => {
            let verb = request.method().as_str().to_lowercase();
            let message = format!(
                "Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[proxy])"
            );
            return text(StatusCode::FORBIDDEN, message);
        }
        Client::Named { allowed: true, .. } => {}
    }
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').trim_end_matches('/').split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["healthz"]) => text(StatusCode::OK, "ok"),
        (&Method::GET, ["pods"]) => pods(shared),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            let query = request.uri().query().unwrap_or_default();
            container_logs(shared, namespace, pod, container, query).await
        }
        (_, [what @ ("exec" | "attach" | "portForward" | "run"), ..]) => {
            text(StatusCode::NOT_IMPLEMENTED, format!("{what} is not implemented by this node yet"))
        }
        (method, ["healthz" | "pods" | "containerLogs", ..]) if method != Method::GET => {
            text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed")
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let mut message = message.into();
    if status != StatusCode::OK && !message.ends_with('\n') {
        message.push('\n');
    }
    let mut response = Response::new(Full::new(Bytes::from(message)).boxed());
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

fn pods(shared: &Shared) -> Response<Body> {
    let list = serde_json::json!({
        "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": shared.known.pods(),
    });
    let mut response = text(StatusCode::OK, list.to_string());
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

async fn container_logs(
    shared: &Arc<Shared>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &str,
) -> Response<Body> {
    let options = match LogOptions::parse(query, time::now()) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::UNPROCESSABLE_ENTITY, message),
    };
    let Some(volumes) = &shared.volumes else {
        return text(StatusCode::NOT_IMPLEMENTED, "a simulated node has no logs");
    };
    let Some(known) = shared.known.find(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod \"{pod}_{namespace}\" does not exist"));
    };
    let uid = known.metadata.uid.clone().unwrap_or_default();
    if !has_container(&known, container) {
        let message = format!("container \"{container}\" not found in pod \"{pod}_{namespace}\"");
        return text(StatusCode::NOT_FOUND, message);
    }
    let observed = match shared.runtime.observe(&uid).await {
        Ok(observed) => observed,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let run = pick_run(&known, &observed, container, options.previous);
    let Some(run) = run else {
        let message = if options.previous {
            format!("previous terminated container \"{container}\" in pod \"{pod}\" not found")
        } else {
            let reason = waiting_reason(&known, container);
            format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}")
        };
        return text(StatusCode::BAD_REQUEST, message);
    };
    let folder = volumes.log_folder(namespace, pod, &uid);
    let path = folder.join(container).join(format!("{}.log", run.attempt));
    stream_log(shared.clone(), path, options, uid, run.id.clone())
}

fn has_container(pod: &Pod, container: &str) -> bool {
    let containers = app_containers(pod).iter().chain(init_containers(pod));
    containers.into_iter().any(|it| it.name == container)
}

/// The run of a container whose log is wanted.
fn pick_run<'a>(
    pod: &Pod,
    observed: &'a Observed,
    container: &'a str,
    previous: bool,
) -> Option<&'a Container> {
    let mut runs = observed.all(container);
    let newest = runs.next()?;
    if !previous {
        return (newest.state != RunState::Created).then_some(newest);
    }
    // Of a container that waits to be restarted the last run is already the previous one.
    let waits = newest.state == RunState::Exited && is_waiting(pod, container);
    if waits { Some(newest) } else { runs.find(|it| it.state == RunState::Exited) }
}

fn stream_log(
    shared: Arc<Shared>,
    path: std::path::PathBuf,
    options: LogOptions,
    uid: String,
    id: String,
) -> Response<Body> {
    let (sender, pieces) = mpsc::channel(LOG_PIECES_MAX);
    kijabi_base::tasks::spawn("log-reader", async move {
        let ended = || {
            let (shared, uid, id) = (shared.clone(), uid.clone(), id.clone());
            async move {
                let observed = shared.runtime.observe(&uid).await.unwrap_or_default();
                let mut runs = observed.containers.iter();
                !runs.any(|it| it.id == id && it.state == RunState::Running)
            }
        };
        if let Err(error) = logs::read(path.clone(), options, sender, ended).await {
            tracing::debug!(path = %path.display(), %error, "a log could not be read");
        }
    });
    let frames = ReceiverStream::new(pieces).map(|bytes| Ok(Frame::data(bytes)));
    let mut response = Response::new(StreamBody::new(frames).boxed());
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

fn waiting_reason(pod: &Pod, container: &str) -> String {
    let status = pod.status.as_ref();
    let statuses = status
        .into_iter()
        .flat_map(|it| it.container_statuses.iter().chain(&it.init_container_statuses).flatten());
    statuses
        .filter(|it| it.name == container)
        .find_map(|it| it.state.as_ref()?.waiting.as_ref()?.reason.clone())
        .unwrap_or_else(|| "ContainerCreating".to_owned())
}

fn is_waiting(pod: &Pod, container: &str) -> bool {
    let status = pod.status.as_ref();
    let mut statuses = status.into_iter().flat_map(|it| it.container_statuses.iter().flatten());
    statuses.any(|it| {
        it.name == container && it.state.as_ref().is_some_and(|state| state.waiting.is_some())
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_ends() {
        let (mut client, server) = tokio::io::duplex(64);
        let serving = converse(server, |_request| async { text(StatusCode::OK, "ok") });
        let mut got = Vec::new();
        let (read, ()) = tokio::join!(client.read_to_end(&mut got), serving);
        assert_eq!(read.unwrap(), 0);
    }
}

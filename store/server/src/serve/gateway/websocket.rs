//! The gateway's streams over WebSocket, as etcd's `wsproxy` offers them to browsers.
//!
//! Owns: the handshake, and messages as lines. Must not know: what the lines say. A newcomer's trap:
//! a browser cannot set headers on a WebSocket, so its token comes as a sub-protocol after
//! `Bearer`; never as a cookie, which any page could make a browser send.

use std::convert::Infallible;

use bytes::Bytes;
use futures::stream::SplitSink;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use kijabi_base::tasks::{self, Shutdown};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tonic::body::Body;

use super::Gateway;

/// Messages of a client that wait to be read by the service.
const WAITING_MAX: usize = 4;
/// The sub-protocol that says that the next one is a token.
const BEARER: &str = "Bearer";

type Io = TokioIo<Upgraded>;

/// Whether a request asks for a WebSocket.
pub(crate) fn is_for(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// Answers the handshake; what comes then is served in the background.
pub(crate) fn answer<B>(
    gateway: &Gateway,
    path: &str,
    mut request: Request<B>,
    shutdown: &Shutdown,
) -> Response<Body> {
    let headers = request.headers();
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return bad_request(
            "websocket: not a websocket handshake: 'Sec-WebSocket-Key' header is missing or blank",
        );
    };
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    if request.method() != Method::GET {
        return bad_request(
            "websocket: the client is not using the websocket protocol: request method is not GET",
        );
    }
    if version.is_none_or(|version| version != "13") {
        return bad_request(
            "websocket: unsupported version: 13 not found in 'Sec-Websocket-Version' header",
        );
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let accepted = response.headers_mut();
    accepted.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    accepted.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let proof = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    accepted.insert(header::SEC_WEBSOCKET_ACCEPT, proof.expect("base64 is a header value"));
    let mut outgoing = HeaderMap::new();
    if let Some(protocols) = headers.get(header::SEC_WEBSOCKET_PROTOCOL)
        && protocols.as_bytes().starts_with(BEARER.as_bytes())
    {
        let bearer = HeaderValue::from_static(BEARER);
        accepted.insert(header::SEC_WEBSOCKET_PROTOCOL, bearer);
        if let Some(token) = token(protocols) {
            outgoing.insert(header::AUTHORIZATION, token);
        }
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let session = session(gateway.clone(), path.to_owned(), outgoing, upgrade);
    tasks::spawn_until("websocket", shutdown.clone(), session);
    response
}

// Differs from etcd: a cookie with a token is not looked at.
/// `Bearer, token` as an `Authorization` header.
fn token(protocols: &HeaderValue) -> Option<HeaderValue> {
    let (_, token) = protocols.to_str().ok()?.split_once("Bearer,")?;
    HeaderValue::try_from(format!("{BEARER} {}", token.trim_matches(' '))).ok()
}

fn bad_request(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(format!("Bad Request\n{text}\n"))));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

async fn session(gateway: Gateway, path: String, headers: HeaderMap, upgrade: OnUpgrade) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "a connection did not become a websocket");
            return;
        }
    };
    let bytes_max = gateway.body_bytes_max();
    let config = WebSocketConfig::default()
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let (messages, waiting) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(WAITING_MAX);
    let reading = async {
        while let Some(Ok(message)) = source.next().await {
            let mut line = match message {
                Message::Text(text) => text.as_bytes().to_vec(),
                Message::Binary(bytes) => bytes.to_vec(),
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            line.push(b'\n');
            // An RPC with one request reads no second one; the client may send it all the same.
            let _ = messages.send(Ok(Frame::data(line.into()))).await;
        }
    };
    let mut request = Request::new(Body::new(StreamBody::new(ReceiverStream::new(waiting))));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers;
    // Whichever side ends first ends the session.
    tokio::select! {
        () = reading => {}
        () = write(&gateway, &path, request, &mut sink) => {}
    }
    let _ = sink.close().await;
}

/// Sends each line of the answer as a message.
async fn write(
    gateway: &Gateway,
    path: &str,
    request: Request<Body>,
    sink: &mut SplitSink<WebSocketStream<Io>, Message>,
) {
    let mut body = gateway.answer(path, request).await.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        // The gateway makes a part of the body of each line.
        let Ok(line) = frame.into_data() else { continue };
        let Ok(text) = std::str::from_utf8(line.trim_ascii_end()) else { return };
        if sink.send(Message::text(text)).await.is_err() {
            return;
        }
    }
}

//! Plain HTTP to a member, as little of a client as tests need.
#![allow(dead_code, reason = "each test uses its part")]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kijabi_server::{Config, Member};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A member that listens on a port of its own.
pub(crate) fn config(dir: &std::path::Path) -> Config {
    Config {
        data_dir: dir.join("data"),
        listen_client_urls: vec!["http://127.0.0.1:0".into()],
        ..Config::default()
    }
}

/// Sends a request and gives the response when its head has come.
pub(crate) async fn send(member: &Member, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = TcpStream::connect(member.client_addrs()[0]).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let _connection = kijabi_base::tasks::spawn("test client", connection);
    tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap()
}

/// A POST of JSON.
pub(crate) fn post(path: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .unwrap()
}

/// An empty request.
pub(crate) fn empty(method: Method, path: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}

/// All of a response.
pub(crate) async fn read(response: Response<Incoming>) -> (StatusCode, HeaderMap, String) {
    let (head, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// The status and the JSON that a POST is answered with.
pub(crate) async fn ask(member: &Member, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, body) = read(send(member, post(path, body)).await).await;
    (status.as_u16(), serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// The lines of a response, as they come.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// Opens a stream.
    pub(crate) async fn open(member: &Member, path: &str, body: &Value) -> Self {
        let response = send(member, post(path, body)).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.unwrap()?;
            self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }
}

/// Sends bytes as they are and reads until the server closes.
pub(crate) async fn raw(member: &Member, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(member.client_addrs()[0]).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

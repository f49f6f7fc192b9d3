//! A gRPC call whose message is any bytes, the length before it included.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::PATIENCE;

/// Sends `message` as it is, and no end of the body; gives the code and the text of the answer.
pub async fn call(url: &str, headers: &[(&str, &str)], message: Vec<u8>) -> (String, String) {
    let (address, _) = url.trim_start_matches("http://").split_once('/').unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let _connection = kijabi_base::tasks::spawn("test client", connection);
    let first = Ok::<_, Infallible>(Frame::data(Bytes::from(message)));
    let body = futures::stream::iter([first]).chain(futures::stream::pending());
    let mut request = http::Request::post(url)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(StreamBody::new(Box::pin(body))).unwrap();
    let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
    let (head, body) = answer.expect("an answer in time").unwrap().into_parts();
    let rest = tokio::time::timeout(PATIENCE, body.collect()).await.expect("its end in time");
    let trailers = rest.unwrap().trailers().cloned().unwrap_or_default();
    let field = |name: &str| {
        let value = head.headers.get(name).or_else(|| trailers.get(name));
        value.map(|value| value.to_str().unwrap().replace("%20", " ")).unwrap_or_default()
    };
    (field("grpc-status"), field("grpc-message"))
}

//! Calls with one message in and one message out.
//!
//! Owns: gRPC's framing for the calls that there are most of, each in one buffer. Must not know:
//! what they ask. A newcomer's trap: what is out of the ordinary, such as a compressed message,
//! takes the way of all other calls through tonic; both ways must say the same.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use prost::Message;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::counted::Sent;
use super::refusal;
use crate::framing::{self, PREFIX_BYTES, framed};
use crate::metrics::rpc::{Call, MethodMetrics};
use crate::service;

/// Whether the call can be answered here.
pub(super) fn takes(headers: &HeaderMap) -> bool {
    headers.get("grpc-encoding").is_none_or(|encoding| encoding == "identity")
}

/// Answers one call with `serve`.
pub(super) async fn answer<B, Q, A, F>(
    request: Request<B>,
    mut call: Call,
    bytes_max: usize,
    serve: impl FnOnce(tonic::Request<Q>) -> F,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<tonic::Response<A>, Status>>,
{
    let (head, body) = request.into_parts();
    let asked = ask(body, bytes_max, call.method()).await;
    let answered = match asked.map_err(|status| refusal::reword(head.uri.path(), status)) {
        Ok(message) => {
            let metadata = MetadataMap::from_headers(head.headers);
            serve(tonic::Request::from_parts(metadata, head.extensions, message)).await
        }
        Err(status) => Err(status),
    };
    match answered {
        Ok(response) => respond(response, call),
        Err(status) => {
            call.end(status.code());
            status.into_http()
        }
    }
}

/// Reads what is asked, and the end of the request. What cannot be read is refused at once.
async fn ask<B, Q>(mut body: B, bytes_max: usize, method: &MethodMetrics) -> Result<Q, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Q: Message + Default,
{
    let message = receive(&mut body, bytes_max).await?;
    method.received(1, message.len() as u64);
    let asked = Q::decode(message).map_err(|error| Status::internal(error.to_string()))?;
    // Trailers say nothing, and there is only one message.
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        frame.map_err(|error| Status::from_error(error.into()))?;
    }
    Ok(asked)
}

/// Reads the message.
async fn receive<B>(body: &mut B, bytes_max: usize) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut read = Bytes::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        read = joined(read, data);
        if let Some(message) = whole(&read, bytes_max)? {
            return Ok(message);
        }
    }
    let empty = read.is_empty();
    let why = if empty { "Missing request message." } else { "Unexpected EOF decoding stream." };
    Err(Status::internal(why))
}

/// In most cases the first piece is all there is, and nothing is copied.
fn joined(read: Bytes, more: Bytes) -> Bytes {
    if read.is_empty() {
        return more;
    }
    let mut joined = match read.try_into_mut() {
        Ok(read) => read,
        Err(read) => BytesMut::from(read),
    };
    joined.extend_from_slice(&more);
    joined.freeze()
}

/// The message, if it is there as a whole.
fn whole(read: &Bytes, bytes_max: usize) -> Result<Option<Bytes>, Status> {
    let Some(prefix) = read.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    match prefix[0] {
        0 => {}
        1 => {
            return Err(Status::internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was \
                 specified",
            ));
        }
        flag => {
            return Err(Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid \
                 flags are 0 and 1), while sending request"
            )));
        }
    }
    let length = framing::message_bytes(*prefix);
    if length > bytes_max {
        return Err(Status::resource_exhausted(refusal::too_large(length, bytes_max)));
    }
    if read.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    Ok(Some(read.slice(PREFIX_BYTES..PREFIX_BYTES + length)))
}

fn respond<A: Message>(response: tonic::Response<A>, call: Call) -> Response<Body> {
    let (metadata, message, mut extensions) = response.into_parts();
    let body = match service::streamed(&mut extensions) {
        Some(body) => Body::new(Sent::new(body, call)),
        None => Body::new(Answer { message: Some(framed(&message)), ended: false, call }),
    };
    let mut response = Response::new(body);
    *response.headers_mut() = metadata.into_headers();
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    *response.extensions_mut() = extensions;
    service::complete(response)
}

/// The body of an answer: the message, then the status.
struct Answer {
    message: Option<Bytes>,
    ended: bool,
    call: Call,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(message) = this.message.take() {
            this.call.method().sent(1, (message.len() - PREFIX_BYTES) as u64);
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut this.ended, true) {
            return Poll::Ready(None);
        }
        this.call.end(Code::Ok);
        let mut status = HeaderMap::with_capacity(1);
        status.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(status))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

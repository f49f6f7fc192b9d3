//! Request and response bodies: how they are read within limits and how they are made.
//!
//! Owns: the one reader of request bodies and the body types that cross the filter chain. Must not
//! know: what is in a body. A newcomer's trap: a request body may lie about its length or never
//! end, so nothing but [`read`] may collect one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kijabi_base::tasks;

use crate::status::ApiError;

/// Largest request body in bytes, Kubernetes' limit.
pub const REQUEST_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How much of a larger body is read and thrown away before the answer.
const DISCARD_BYTES_MAX: usize = 16 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// The body of a request: a connection's, or bytes of an in-process caller.
pub type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// The body of a response: whole, or a stream (watch, log).
pub type ResponseBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// A whole response or request body.
pub fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body that is sent piece by piece; each piece is flushed as its own frame.
pub fn stream<S>(pieces: S) -> ResponseBody
where
    S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
{
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Reads a whole request body of at most [`REQUEST_BYTES_MAX`] bytes.
pub async fn read(mut body: RequestBody) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > REQUEST_BYTES_MAX as u64 {
        discard(body).await;
        return Err(too_large());
    }
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_request(error.to_string()))?;
        let Ok(piece) = frame.into_data() else { continue };
        if collected.len() + piece.len() > REQUEST_BYTES_MAX {
            drop(collected);
            discard(body).await;
            return Err(too_large());
        }
        collected.extend_from_slice(&piece);
    }
    Ok(collected.freeze())
}

/// Reads on for a while without keeping anything: a client that is still sending would take an
/// early answer for a broken connection.
async fn discard(mut body: RequestBody) {
    let reading = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Whether it ended or was cut off, the answer is the same.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}

/// A connection's request body that reads on for a while when it is dropped before its end: an
/// HTTP/2 client that is still sending takes the reset of its stream for a failed request, even
/// after a whole answer (RFC 9113 section 8.1).
pub struct ReadOn(Option<RequestBody>);

impl ReadOn {
    /// The body as handlers take it.
    pub fn wrap<B>(body: B) -> RequestBody
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self(Some(body.map_err(std::io::Error::other).boxed_unsync())).boxed_unsync()
    }
}

/// Any error of a connection.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl http_body::Body for ReadOn {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

impl Drop for ReadOn {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) {
            tasks::spawn("discard", discard(body));
        }
    }
}

fn too_large() -> ApiError {
    ApiError::entity_too_large(format!("limit is {REQUEST_BYTES_MAX}"))
}

fn never(never: Infallible) -> std::io::Error {
    match never {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read_and_one_byte_more_is_refused() {
        let most = vec![b'x'; REQUEST_BYTES_MAX];
        assert_eq!(read(full(most.clone())).await.unwrap().len(), REQUEST_BYTES_MAX);
        let announced = [most, vec![b'x']].concat();
        assert_eq!(read(full(announced)).await.unwrap_err().code(), 413);
    }

    #[tokio::test]
    async fn a_body_nobody_read_is_read_on_after_the_answer() {
        let (pieces, receiver) = tokio::sync::mpsc::channel(1);
        let body = stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
        drop(ReadOn::wrap(body));
        for _ in 0..8 {
            // The channel holds one piece: without a reader the second one could not be sent.
            pieces.send(Ok(Bytes::from_static(b"more"))).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_cut_off_at_the_limit() {
        let endless = futures::stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 4096])));
        let error = read(stream(endless)).await.unwrap_err();
        assert_eq!(error.to_string(), "Request entity too large: limit is 3145728");
    }
}

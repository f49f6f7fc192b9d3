//! Answers that are more than a message: sent while they are read, or counted until they are sent.
//!
//! Owns: how such an answer passes tonic, which knows only whole messages. Must not know: what is
//! in it. A newcomer's trap: the service gives tonic an empty message with the real body as an
//! extension of the response, and the dispatcher puts that in its place.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;

/// A body that takes the place of the message's.
#[derive(Clone)]
pub(in crate::service) struct Streamed(Arc<Mutex<Option<Body>>>);

/// What an answer takes of the memory for answers.
#[derive(Clone)]
pub(super) struct Held {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Streamed {
    pub(in crate::service) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }
}

impl Held {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Arc::new(permit) }
    }
}

/// The body that an answer's service meant it to have, if that is not the message's.
pub(crate) fn streamed(extensions: &mut http::Extensions) -> Option<Body> {
    extensions.remove::<Streamed>()?.0.lock().take()
}

/// Gives an answer the body that its service meant it to have.
pub(crate) fn complete(mut response: http::Response<Body>) -> http::Response<Body> {
    if let Some(body) = streamed(response.extensions_mut()) {
        response = response.map(|_| body);
    }
    match response.extensions_mut().remove::<Held>() {
        Some(held) => response.map(|body| Body::new(HeldBody { body, _held: held })),
        None => response,
    }
}

/// A body whose memory counts until it has been sent.
struct HeldBody {
    body: Body,
    _held: Held,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

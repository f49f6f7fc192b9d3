//! Bodies of gRPC that are counted as they pass.
//!
//! Owns: seeing where messages begin, and how a call ends. Must not know: what they say. A
//! newcomer's trap: a response body that is dropped before its trailers is a call that the client
//! has left.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::framing::{self, PREFIX_BYTES};
use crate::metrics::rpc::{Call, MethodMetrics};

/// Finds the messages in a body, whatever pieces it comes in.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; PREFIX_BYTES],
    head_bytes: usize,
    left: usize,
}

/// The body of a request.
pub(super) struct Received<B> {
    inner: B,
    frames: Frames,
    method: Arc<MethodMetrics>,
}

/// The body of a response.
pub(super) struct Sent {
    inner: Body,
    frames: Frames,
    call: Call,
}

// === impl Frames ===

impl Frames {
    /// How many messages begin in `bytes`, and how many bytes of messages are in it.
    fn pass(&mut self, mut bytes: &[u8]) -> (u64, u64) {
        let (mut messages, mut payload) = (0, 0);
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                payload += taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (self.head.len() - self.head_bytes).min(bytes.len());
            self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            bytes = &bytes[taken..];
            if self.head_bytes == self.head.len() {
                self.left = framing::message_bytes(self.head);
                self.head_bytes = 0;
                messages += 1;
            }
        }
        (messages, payload)
    }
}

// === impl Received ===

impl<B> Received<B> {
    pub(super) fn new(inner: B, method: Arc<MethodMetrics>) -> Self {
        Self { inner, frames: Frames::default(), method }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Received<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let (messages, bytes) = this.frames.pass(data);
            this.method.received(messages, bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// === impl Sent ===

impl Sent {
    pub(super) fn new(inner: Body, call: Call) -> Self {
        Self { inner, frames: Frames::default(), call }
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let (messages, bytes) = this.frames.pass(data);
                    this.call.method().sent(messages, bytes);
                } else if let Some(trailers) = frame.trailers_ref() {
                    this.call.end(code(trailers).unwrap_or(Code::Ok));
                }
            }
            Some(Err(status)) => this.call.end(status.code()),
            None => this.call.end(Code::Ok),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The code that headers or trailers carry.
pub(super) fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_whatever_the_pieces() {
        let mut body = Vec::new();
        for length in [0_u8, 3, 200] {
            body.extend([0, 0, 0, 0, length]);
            body.extend(vec![7; usize::from(length)]);
        }
        for piece in [1, 2, 5, 7, 64, 1000] {
            let mut frames = Frames::default();
            let (mut messages, mut payload) = (0, 0);
            for bytes in body.chunks(piece) {
                let (more, bytes) = frames.pass(bytes);
                messages += more;
                payload += bytes;
            }
            assert_eq!((messages, payload), (3, 203), "pieces of {piece}");
        }
    }
}

//! Messages in the bodies of gRPC, and how a call ended.
//!
//! Owns: taking messages out of a body, and the status behind the last one. Must not know:
//! what a message means. A newcomer's trap: a call that fails at once has its status in the head of
//! the response, one that fails later in the trailers.

use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::framing::{PREFIX_BYTES, message_bytes, prefix};

/// A message as it goes in a body.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.extend_from_slice(&prefix(u32::try_from(message.len()).unwrap_or(u32::MAX)));
    frame.extend_from_slice(message);
    frame.freeze()
}

/// The messages of a response.
pub(super) struct Messages {
    body: Body,
    buffer: BytesMut,
    ended: Option<Status>,
    deadline: Option<Instant>,
}

impl Messages {
    /// Those of `response`, for as long as the caller has time.
    pub(super) fn of(response: Response<Body>, deadline: Option<Instant>) -> Self {
        let ended = Status::from_header_map(response.headers());
        Self { body: response.into_body(), buffer: BytesMut::new(), ended, deadline }
    }

    /// The next one, or how the call ended: `None` is well.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(deadline) = self.deadline else { return self.read().await };
        match tokio::time::timeout_at(deadline, self.read()).await {
            Ok(read) => read,
            Err(_elapsed) => Err(out_of_time()),
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            if let Some(status) = self.ended.take() {
                return if status.code() == Code::Ok { Ok(None) } else { Err(status) };
            }
            let Some(frame) = self.body.frame().await.transpose()? else { return Ok(None) };
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    self.ended = Status::from_header_map(&trailers);
                }
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let length = message_bytes(*self.buffer.first_chunk::<PREFIX_BYTES>()?);
        if self.buffer.len() < PREFIX_BYTES + length {
            return None;
        }
        self.buffer.advance(PREFIX_BYTES);
        Some(self.buffer.split_to(length).freeze())
    }
}

/// What Go says when a request's time is over.
pub(super) fn out_of_time() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

//! The bodies of requests: JSON in, messages out.
//!
//! Owns: reading within bounds. Must not know: paths. A newcomer's trap: what cannot be read ends a
//! stream of requests without a word, as in etcd: the client has answers to wait for.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost_reflect::MessageDescriptor;
use tonic::Status;
use tonic::body::Body;

use super::decode::{self, Refusal};
use super::messages::framed;
use super::scan::{Finder, Found, UNEXPECTED_END};
use crate::status::EtcdError;

/// A body of JSON values.
pub(super) struct JsonBody {
    body: Body,
    buffer: BytesMut,
    ended: bool,
    bytes_max: usize,
    of: MessageDescriptor,
}

// === impl JsonBody ===

impl JsonBody {
    /// Values of at most `bytes_max` bytes, each a message `of` one kind.
    pub(super) fn new(body: Body, bytes_max: usize, of: MessageDescriptor) -> Self {
        Self { body, buffer: BytesMut::new(), ended: false, bytes_max, of }
    }

    /// The next message, encoded; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        let mut finder = Finder::default();
        loop {
            match finder.look(&self.buffer, self.ended).map_err(Status::invalid_argument)? {
                Found::Value(range) => {
                    let value = self.buffer.split_to(range.end).freeze();
                    return match decode::message(&value[range.start..], &self.of) {
                        Ok(message) => Ok(Some(message)),
                        Err(Refusal::Invalid(text)) => Err(Status::invalid_argument(text)),
                        // Only transactions nest; such a one has too many levels for us anyway.
                        Err(Refusal::TooDeep) => Err(EtcdError::TooManyOps.into()),
                    };
                }
                Found::Nothing if self.ended => return Ok(None),
                Found::Incomplete if self.ended => {
                    return Err(Status::invalid_argument(UNEXPECTED_END));
                }
                Found::Nothing | Found::Incomplete => self.more().await?,
            }
        }
    }

    async fn more(&mut self) -> Result<(), Status> {
        let Some(frame) = self.body.frame().await.transpose()? else {
            self.ended = true;
            return Ok(());
        };
        let Ok(data) = frame.into_data() else { return Ok(()) };
        // Differs from etcd: there a body may have any size.
        let bytes = self.buffer.len() + data.len();
        if bytes > self.bytes_max {
            let text =
                format!("grpc: received message larger than max ({bytes} vs. {})", self.bytes_max);
            return Err(Status::resource_exhausted(text));
        }
        self.buffer.extend_from_slice(&data);
        Ok(())
    }

    /// All of them as a body of gRPC.
    pub(super) fn into_messages(self) -> Body {
        let frames = stream::unfold(Some(self), |body| async {
            let mut body = body?;
            match body.next().await {
                Ok(Some(message)) => Some((data(framed(&message)), Some(body))),
                Ok(None) => None,
                Err(status) => {
                    tracing::debug!(%status, "a stream of requests has ended");
                    None
                }
            }
        });
        Body::new(StreamBody::new(frames))
    }
}

/// A part of a body.
#[allow(clippy::unnecessary_wraps, reason = "bodies are made of results")]
pub(super) fn data(bytes: Bytes) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(bytes))
}

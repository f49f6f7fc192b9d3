//! Answers that are sent while they are read, on one view of the state.
//!
//! Owns: the bytes of a large unary answer and the chunks of a streamed one. Must not know: who
//! asked. A newcomer's trap: a stored record is the encoded key-value pair of the answer, and the
//! index knows its size; so the length that must stand before the message is known without reading
//! a single value.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use kijabi_base::limits::RANGE_PIECE_BYTES;
use kijabi_machine::state::StateView;
use kijabi_machine::{Error as MachineError, RangePlan};
use kijabi_proto::etcdserverpb::{RangeResponse, RangeStreamResponse, ResponseHeader};
use kijabi_proto::mvccpb::KeyValue;
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;

use crate::error::Error;
use crate::framing::{self, PREFIX_BYTES};

/// A client that takes nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows read at once.
const ROWS_AT_ONCE: usize = 64;
/// Keys of a streamed range's first chunk, etcd's.
const FIRST_CHUNK_KEYS: usize = 10;
/// The tag of `RangeResponse.kvs`.
const KVS_TAG: u8 = 0x12;

/// Where the pieces of an answer go, from a thread that may block.
pub(super) struct Sink<T> {
    pub(super) sender: mpsc::Sender<Result<T, Status>>,
    pub(super) runtime: Handle,
}

impl<T> Sink<T> {
    /// Sends a piece once there is room for it; breaks if the client has gone or takes nothing.
    fn send(&self, piece: T) -> ControlFlow<()> {
        let room = tokio::time::timeout(PATIENCE, self.sender.reserve());
        match self.runtime.block_on(room) {
            Ok(Ok(room)) => {
                room.send(Ok(piece));
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    }

    fn fail(&self, error: Error) {
        // Who does not read does not want to know.
        let _ = self.sender.try_send(Err(error.into()));
    }
}

// === one large message ===

/// The length of the message; gRPC has four bytes for it.
pub(super) fn message_bytes(plan: &RangePlan, header: &ResponseHeader) -> Result<u32, Error> {
    let around = prefix(header).len() as u64 + suffix(plan).len() as u64;
    let length = plan.wire_bytes().and_then(|bytes| u32::try_from(around + bytes).ok());
    length.ok_or_else(|| MachineError::AnswerTooLarge.into())
}

fn prefix(header: &ResponseHeader) -> Vec<u8> {
    RangeResponse { header: Some(*header), ..Default::default() }.encode_to_vec()
}

fn suffix(plan: &RangePlan) -> Vec<u8> {
    RangeResponse { more: has_more(plan), count: plan.count(), ..Default::default() }
        .encode_to_vec()
}

fn has_more(plan: &RangePlan) -> bool {
    plan.limit().is_some_and(|limit| plan.row_count() > limit)
}

/// Sends the answer to a plan as one message of `length` bytes, and the status behind it.
pub(super) fn send_message(
    plan: &RangePlan,
    view: &dyn StateView,
    header: &ResponseHeader,
    length: u32,
    sink: &Sink<Frame<Bytes>>,
) {
    let mut piece = BytesMut::with_capacity(RANGE_PIECE_BYTES);
    piece.put_slice(&framing::prefix(length));
    piece.put_slice(&prefix(header));
    let mut left = u64::from(length) - (piece.len() - PREFIX_BYTES) as u64;
    let rows = plan.row_count().min(plan.limit().unwrap_or(usize::MAX));
    for from in (0..rows).step_by(ROWS_AT_ONCE) {
        let part = from..rows.min(from + ROWS_AT_ONCE);
        let before = piece.len();
        if let Err(error) = plan.visit_part(part, view, |record| put_record(&mut piece, record)) {
            return sink.fail(error.into());
        }
        let Some(rest) = left.checked_sub((piece.len() - before) as u64) else {
            return sink.fail(wrong_length());
        };
        left = rest;
        if piece.len() >= RANGE_PIECE_BYTES
            && sink.send(Frame::data(piece.split().freeze())).is_break()
        {
            return;
        }
    }
    let end = suffix(plan);
    if left != end.len() as u64 {
        return sink.fail(wrong_length());
    }
    piece.put_slice(&end);
    if sink.send(Frame::data(piece.freeze())).is_continue() {
        let _ = sink.send(Frame::trailers(success()));
    }
}

/// Adds a record as one of `RangeResponse.kvs`.
fn put_record(message: &mut BytesMut, record: &[u8]) {
    // Room is made once for all three.
    message.reserve(1 + encoded_len_varint(record.len() as u64) + record.len());
    message.put_u8(KVS_TAG);
    encode_varint(record.len() as u64, message);
    message.extend_from_slice(record);
}

/// The answer to a plan whose length is known, in one buffer and with the status behind it.
pub(super) fn whole_message(
    plan: &RangePlan,
    state: &dyn StateView,
    header: &ResponseHeader,
) -> Result<Body, Error> {
    let length = message_bytes(plan, header)?;
    let mut message = BytesMut::with_capacity(PREFIX_BYTES + length as usize);
    message.put_slice(&framing::prefix(length));
    message.put_slice(&prefix(header));
    plan.visit(state, |record| put_record(&mut message, record))?;
    message.put_slice(&suffix(plan));
    if message.len() != PREFIX_BYTES + length as usize {
        return Err(wrong_length());
    }
    let frames: [Result<_, Status>; 2] =
        [Ok(Frame::data(message.freeze())), Ok(Frame::trailers(success()))];
    Ok(Body::new(StreamBody::new(futures::stream::iter(frames))))
}

fn success() -> HeaderMap {
    let mut status = HeaderMap::with_capacity(1);
    status.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    status
}

/// A record is not as long as the index says: the client must not take the answer for whole.
fn wrong_length() -> Error {
    let what = "a record's size is not the one in the index".to_owned();
    let error = kijabi_machine::state::StateError(what);
    tracing::error!(%error, "a range could not be answered");
    Error::Machine(error.into())
}

// === many messages ===

/// Sends the answer to a plan in chunks of about `bytes_target` bytes. Only the last one has the
/// header, the count and whether there is more.
pub(super) fn send_chunks(
    plan: &RangePlan,
    view: &dyn StateView,
    header: &ResponseHeader,
    bytes_target: usize,
    sink: &Sink<RangeStreamResponse>,
) {
    let mut chunks = Chunks { sink, bytes_target, keys: FIRST_CHUNK_KEYS, ready: Vec::new() };
    let limit = plan.limit().unwrap_or(usize::MAX);
    let (mut sent, mut more) = (0, false);
    let mut from = 0;
    while from < plan.row_count() && !more {
        let upto = plan.row_count().min(from + chunks.keys.min(ROWS_AT_ONCE));
        let kvs = match plan.fetch_part(from..upto, view) {
            Ok(kvs) => kvs,
            Err(error) => return sink.fail(error.into()),
        };
        from = upto;
        for kv in kvs {
            if sent == limit {
                more = true;
                break;
            }
            sent += 1;
            if chunks.add(kv).is_break() {
                return;
            }
        }
    }
    chunks.end(header, more, plan.count());
}

/// The same for an answer that had to be made as a whole.
pub(super) fn send_whole(
    whole: RangeResponse,
    header: &ResponseHeader,
    bytes_target: usize,
    sink: &Sink<RangeStreamResponse>,
) {
    let mut chunks = Chunks { sink, bytes_target, keys: FIRST_CHUNK_KEYS, ready: Vec::new() };
    for kv in whole.kvs {
        if chunks.add(kv).is_break() {
            return;
        }
    }
    chunks.end(header, whole.more, whole.count);
}

struct Chunks<'a> {
    sink: &'a Sink<RangeStreamResponse>,
    bytes_target: usize,
    /// Keys in the next chunk.
    keys: usize,
    ready: Vec<KeyValue>,
}

impl Chunks<'_> {
    /// Adds a key; sends the chunk before it if that is full.
    fn add(&mut self, kv: KeyValue) -> ControlFlow<()> {
        if self.ready.len() >= self.keys {
            let kvs = std::mem::take(&mut self.ready);
            let chunk = RangeResponse { kvs, ..Default::default() };
            self.keys = next_chunk_keys(self.keys, chunk.encoded_len(), self.bytes_target);
            self.send(chunk)?;
        }
        self.ready.push(kv);
        ControlFlow::Continue(())
    }

    fn end(mut self, header: &ResponseHeader, more: bool, count: i64) {
        let kvs = std::mem::take(&mut self.ready);
        let _ = self.send(RangeResponse { header: Some(*header), kvs, more, count });
    }

    fn send(&self, chunk: RangeResponse) -> ControlFlow<()> {
        self.sink.send(RangeStreamResponse { range_response: Some(chunk) })
    }
}

/// Twice as many keys after a small chunk, half after a large one.
fn next_chunk_keys(keys: usize, bytes: usize, bytes_target: usize) -> usize {
    if bytes < bytes_target / 2 {
        keys.saturating_mul(2)
    } else if bytes > bytes_target.saturating_mul(2) {
        (keys / 2).max(1)
    } else {
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_and_shrink_towards_the_target() {
        assert_eq!(next_chunk_keys(10, 49, 100), 20);
        assert_eq!(next_chunk_keys(10, 50, 100), 10);
        assert_eq!(next_chunk_keys(10, 201, 100), 5);
        assert_eq!(next_chunk_keys(1, 201, 100), 1);
    }
}

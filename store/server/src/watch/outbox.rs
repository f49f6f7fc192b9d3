//! What a watch stream has to say and its client has not taken yet.
//!
//! Owns: the bound. Must not know: what is said. A newcomer's trap: the session that fills it and
//! the body that empties it run in the same task, so nobody has to be woken by either.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kijabi_base::limits::{WATCH_STREAM_BYTES_MAX, WATCH_STREAM_QUEUE_MAX};
use parking_lot::Mutex;

use super::respond::Message;

/// Responses that are sent in one piece have no more bytes than this together.
const TOGETHER_BYTES_MAX: usize = 16 << 10;

/// The responses. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    responses: VecDeque<Message>,
    /// What they take on the wire.
    bytes: usize,
}

// === impl Outbox ===

impl Outbox {
    /// Whether more responses may be made; if not, the client must read first.
    pub(super) fn has_room(&self) -> bool {
        let waiting = self.0.lock();
        waiting.responses.len() < WATCH_STREAM_QUEUE_MAX && waiting.bytes < WATCH_STREAM_BYTES_MAX
    }

    /// Adds a response, whether there is room or not.
    pub(super) fn push(&self, response: Message) {
        let mut waiting = self.0.lock();
        waiting.bytes += response.wire_bytes();
        waiting.responses.push_back(response);
    }

    /// Takes the oldest one as it goes over the wire, together with those after it if they are
    /// small.
    pub(super) fn pop(&self) -> Option<Bytes> {
        let mut waiting = self.0.lock();
        let mut together = 0;
        let fitting = waiting.responses.iter().take_while(|next| {
            together += next.wire_bytes();
            together <= TOGETHER_BYTES_MAX
        });
        let count = fitting.count().max(1).min(waiting.responses.len());
        let taken: Vec<Message> = waiting.responses.drain(..count).collect();
        let bytes: usize = taken.iter().map(Message::wire_bytes).sum();
        waiting.bytes -= bytes;
        if waiting.responses.is_empty() {
            // An idle stream keeps no memory for what it has said.
            waiting.responses.shrink_to(4);
        }
        drop(waiting);
        if taken.is_empty() {
            return None;
        }
        let mut wire = Vec::with_capacity(bytes);
        for response in &taken {
            response.put(&mut wire);
        }
        Some(wire.into())
    }
}

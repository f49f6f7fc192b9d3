//! What a watch stream has to say and its client has not taken yet.
//!
//! Owns: the bound. Must not know: what is said. A newcomer's trap: responses are framed when they
//! are taken; until then what many watches are told is held once.

use std::collections::VecDeque;

use bytes::Bytes;
use kijabi_base::limits::{WATCH_STREAM_BYTES_MAX, WATCH_STREAM_QUEUE_MAX};

use super::respond::Message;

/// Responses that are sent in one piece have no more bytes than this together.
const TOGETHER_BYTES_MAX: usize = 16 << 10;

/// The responses.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    responses: VecDeque<Message>,
    /// What they take on the wire.
    bytes: usize,
}

// === impl Outbox ===

impl Outbox {
    /// Whether more responses may be made; if not, the client must read first.
    pub(super) fn has_room(&self) -> bool {
        self.responses.len() < WATCH_STREAM_QUEUE_MAX && self.bytes < WATCH_STREAM_BYTES_MAX
    }

    /// Adds a response, whether there is room or not.
    pub(super) fn push(&mut self, response: Message) {
        self.bytes += response.wire_bytes();
        self.responses.push_back(response);
    }

    /// Takes the oldest one as it goes over the wire, together with those after it if they are
    /// small.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let mut bytes = self.responses.front()?.wire_bytes();
        let mut count = 1;
        for next in self.responses.iter().skip(1) {
            if bytes + next.wire_bytes() > TOGETHER_BYTES_MAX {
                break;
            }
            bytes += next.wire_bytes();
            count += 1;
        }
        let mut wire = Vec::with_capacity(bytes);
        for response in self.responses.drain(..count) {
            response.put(&mut wire);
        }
        self.bytes -= bytes;
        if self.responses.is_empty() {
            // An idle stream keeps no memory for what it has said.
            self.responses.shrink_to(4);
        }
        Some(wire.into())
    }
}

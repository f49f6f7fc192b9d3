//! What a watch stream has to say and its client has not taken yet.
//!
//! Owns: the bound. Must not know: what is said. A newcomer's trap: the session that fills it and
//! the body that empties it run in the same task, so nobody has to be woken by either.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kijabi_base::limits::{WATCH_STREAM_BYTES_MAX, WATCH_STREAM_QUEUE_MAX};
use parking_lot::Mutex;

/// Responses that are sent in one piece have no more bytes than this together.
const TOGETHER_BYTES_MAX: usize = 16 << 10;

/// The responses. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// Each as it goes over the wire, gRPC's prefix included.
    responses: VecDeque<Bytes>,
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
    pub(super) fn push(&self, response: Bytes) {
        let mut waiting = self.0.lock();
        waiting.bytes += response.len();
        waiting.responses.push_back(response);
    }

    /// Takes the oldest one, together with those after it if they are small.
    pub(super) fn pop(&self) -> Option<Bytes> {
        let mut waiting = self.0.lock();
        let mut together = 0;
        let fitting = waiting.responses.iter().take_while(|next| {
            together += next.len();
            together <= TOGETHER_BYTES_MAX
        });
        let response = match fitting.count() {
            0 | 1 => waiting.responses.pop_front()?,
            several => {
                let mut joined = Vec::with_capacity(TOGETHER_BYTES_MAX);
                for next in waiting.responses.drain(..several) {
                    joined.extend_from_slice(&next);
                }
                joined.into()
            }
        };
        waiting.bytes -= response.len();
        if waiting.responses.is_empty() {
            // An idle stream keeps no memory for what it has said.
            waiting.responses.shrink_to(4);
        }
        Some(response)
    }
}

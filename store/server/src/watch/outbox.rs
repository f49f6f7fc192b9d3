//! What a watch stream has to say and its client has not taken yet.
//!
//! Owns: the bound. Must not know: what is said. A newcomer's trap: the session that fills it and
//! the body that empties it run in the same task, so nobody has to be woken by either.

use std::collections::VecDeque;
use std::sync::Arc;

use kijabi_base::limits::{WATCH_STREAM_BYTES_MAX, WATCH_STREAM_QUEUE_MAX};
use kijabi_proto::etcdserverpb::WatchResponse;
use parking_lot::Mutex;
use prost::Message as _;

/// The responses. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// Each with its size on the wire.
    responses: VecDeque<(usize, WatchResponse)>,
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
    pub(super) fn push(&self, response: WatchResponse) {
        let bytes = response.encoded_len();
        let mut waiting = self.0.lock();
        waiting.bytes += bytes;
        waiting.responses.push_back((bytes, response));
    }

    /// Takes the oldest one.
    pub(super) fn pop(&self) -> Option<WatchResponse> {
        let mut waiting = self.0.lock();
        let (bytes, response) = waiting.responses.pop_front()?;
        waiting.bytes -= bytes;
        if waiting.responses.is_empty() {
            // An idle stream keeps no memory for what it has said.
            waiting.responses.shrink_to(4);
        }
        Some(response)
    }
}

//! The responses of a watch stream.
//!
//! Owns: their shapes and their splitting. Must not know: when they are sent. A newcomer's trap:
//! the revision in the header of an event response is a promise: everything up to it has been
//! delivered to that watch, so a partial answer names the last revision it holds.

use kijabi_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::encoded::Part;
use crate::framing::{PREFIX_BYTES, prefix};

/// The id in answers that are about no single watch.
pub(super) const NO_WATCH: i64 = -1;
/// The tag of `WatchResponse.events`.
const EVENTS_TAG: u8 = 11 << 3 | 2;

/// A watch was created.
pub(super) fn created(header: ResponseHeader, watch_id: i64) -> WatchResponse {
    WatchResponse { header: Some(header), watch_id, created: true, ..Default::default() }
}

/// A watch could not be created.
pub(super) fn refused(header: ResponseHeader, reason: &str) -> WatchResponse {
    WatchResponse { canceled: true, cancel_reason: reason.to_owned(), ..created(header, NO_WATCH) }
}

/// A watch was cancelled on request.
pub(super) fn canceled(header: ResponseHeader, watch_id: i64) -> WatchResponse {
    WatchResponse { header: Some(header), watch_id, canceled: true, ..Default::default() }
}

/// A watch has lost what it wanted to a compaction.
pub(super) fn compacted(header: ResponseHeader, watch_id: i64, revision: i64) -> WatchResponse {
    WatchResponse { compact_revision: revision, ..canceled(header, watch_id) }
}

/// Nothing more happened up to the header's revision.
pub(super) fn progress(header: ResponseHeader, watch_id: i64) -> WatchResponse {
    WatchResponse { header: Some(header), watch_id, ..Default::default() }
}

/// A response that has not been framed yet: what many watches are told is held once.
#[derive(Debug)]
pub(super) struct Message {
    head: WatchResponse,
    events: Vec<Part>,
    /// Bytes of the message.
    bytes: usize,
}

impl Message {
    /// A response with no events.
    pub(super) fn of(head: WatchResponse) -> Self {
        Self { bytes: head.encoded_len(), head, events: Vec::new() }
    }

    fn with_events(head: WatchResponse, events: Vec<Part>, fields: usize) -> Self {
        Self { bytes: head.encoded_len() + fields, head, events }
    }

    /// Bytes on the wire, gRPC's prefix included.
    pub(super) fn wire_bytes(&self) -> usize {
        PREFIX_BYTES + self.bytes
    }

    /// Adds the message as it goes over the wire.
    pub(super) fn put(&self, wire: &mut Vec<u8>) {
        wire.extend_from_slice(&prefix(u32::try_from(self.bytes).unwrap_or(u32::MAX)));
        self.head.encode_raw(wire);
        for event in &self.events {
            let bytes = event.bytes();
            wire.push(EVENTS_TAG);
            encode_varint(bytes.len() as u64, wire);
            wire.extend_from_slice(bytes);
        }
    }
}

/// Gives `send` the events of a watch, in fragments below `bytes_max` bytes as far as single events
/// allow.
pub(super) fn events(
    header: ResponseHeader,
    watch_id: i64,
    events: Vec<Part>,
    bytes_max: usize,
    mut send: impl FnMut(Message),
) {
    let mut head = progress(header, watch_id);
    let fields: usize = events.iter().map(field_bytes).sum();
    if events.len() < 2 || head.encoded_len() + fields < bytes_max {
        return send(Message::with_events(head, events, fields));
    }
    head.fragment = true;
    let overhead = head.encoded_len();
    let (mut fragment, mut bytes) = (Vec::new(), 0);
    for event in events {
        let more = field_bytes(&event);
        if !fragment.is_empty() && overhead + bytes + more >= bytes_max {
            let full = std::mem::take(&mut fragment);
            send(Message::with_events(head.clone(), full, bytes));
            bytes = 0;
        }
        bytes += more;
        fragment.push(event);
    }
    head.fragment = false;
    send(Message::with_events(head, fragment, bytes));
}

/// Bytes of an event as a field: its tag, its length and itself.
fn field_bytes(event: &Part) -> usize {
    let length = event.bytes().len();
    1 + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kijabi_machine::RevisionEvents;
    use kijabi_proto::mvccpb::{Event, KeyValue};

    use super::super::encoded::Encoded;
    use super::*;

    fn sent(values: &[usize], bytes_max: usize) -> Vec<WatchResponse> {
        let event = |bytes: &usize| Event {
            kv: Some(KeyValue { value: vec![0; *bytes].into(), ..Default::default() }),
            ..Default::default()
        };
        let events: Vec<Event> = values.iter().map(event).collect();
        let count = events.len();
        let revision = RevisionEvents { revision: 7, events, previous_left_out: false };
        let encoded = Arc::new(Encoded::new(Arc::new(revision)));
        let parts: Vec<_> = (0..count).map(|number| encoded.part(number, true)).collect();
        let header = ResponseHeader { revision: 7, ..Default::default() };
        let mut sent = Vec::new();
        super::events(header, 1, parts, bytes_max, |message| {
            let mut frame = Vec::new();
            message.put(&mut frame);
            assert_eq!(frame.len(), message.wire_bytes());
            assert_eq!(frame[1..5], u32::try_from(frame.len() - 5).unwrap().to_be_bytes());
            sent.push(WatchResponse::decode(&frame[5..]).unwrap());
        });
        let whole = sent.iter().flat_map(|response| &response.events).cloned();
        assert_eq!(whole.collect::<Vec<_>>(), encoded.events);
        assert!(sent.iter().all(|response| response.header == Some(header)));
        sent
    }

    #[test]
    fn only_a_large_response_is_split_and_only_between_events() {
        let sizes = |values: &[usize]| -> Vec<usize> {
            let fragments = sent(values, 1000);
            let marks: Vec<bool> = fragments.iter().map(|f| f.fragment).collect();
            let (last, others) = marks.split_last().unwrap();
            assert!(!last && others.iter().all(|mark| *mark), "{marks:?}");
            fragments.iter().map(|f| f.events.len()).collect()
        };
        assert_eq!(sizes(&[100, 100]), [2]);
        assert_eq!(sizes(&[5000]), [1]);
        assert_eq!(sizes(&[400, 400, 400, 5000, 1]), [2, 1, 1, 1]);
        assert_eq!(sent(&[400, 400, 400, 5000, 1], usize::MAX).len(), 1);
    }
}

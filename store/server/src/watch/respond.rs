//! The responses of a watch stream.
//!
//! Owns: their shapes and their splitting. Must not know: when they are sent. A newcomer's trap:
//! the revision in the header of an event response is a promise: everything up to it has been
//! delivered to that watch, so a partial answer names the last revision it holds.

use kijabi_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use kijabi_proto::mvccpb::Event;
use prost::Message as _;

/// The id in answers that are about no single watch.
pub(super) const NO_WATCH: i64 = -1;

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

/// Events.
pub(super) fn events(header: ResponseHeader, watch_id: i64, events: Vec<Event>) -> WatchResponse {
    WatchResponse { header: Some(header), watch_id, events, ..Default::default() }
}

/// Splits a response of `bytes_max` bytes or more into fragments below that, as far as single
/// events allow.
pub(super) fn fragments(mut response: WatchResponse, bytes_max: usize) -> Vec<WatchResponse> {
    if response.events.len() < 2 || response.encoded_len() < bytes_max {
        return vec![response];
    }
    let events = std::mem::take(&mut response.events);
    response.fragment = true;
    let overhead = response.encoded_len();
    let mut fragments = vec![response.clone()];
    let mut bytes = overhead;
    for event in events {
        // The event's own length, its tag and the length's own length.
        let event_bytes = prost::encoding::message::encoded_len(11, &event);
        let last = fragments.last_mut().expect("there is always one");
        if last.events.is_empty() || bytes + event_bytes < bytes_max {
            bytes += event_bytes;
            last.events.push(event);
        } else {
            bytes = overhead + event_bytes;
            fragments.push(WatchResponse { events: vec![event], ..response.clone() });
        }
    }
    if let Some(last) = fragments.last_mut() {
        last.fragment = false;
    }
    fragments
}

#[cfg(test)]
mod tests {
    use kijabi_proto::mvccpb::KeyValue;

    use super::*;

    fn response(values: &[usize]) -> WatchResponse {
        let event = |bytes: &usize| Event {
            kv: Some(KeyValue { value: vec![0; *bytes].into(), ..Default::default() }),
            ..Default::default()
        };
        events(ResponseHeader::default(), 1, values.iter().map(event).collect())
    }

    #[test]
    fn only_a_large_response_is_split_and_only_between_events() {
        let sizes = |values: &[usize]| -> Vec<usize> {
            let fragments = fragments(response(values), 1000);
            let marks: Vec<bool> = fragments.iter().map(|f| f.fragment).collect();
            let (last, others) = marks.split_last().unwrap();
            assert!(!last && others.iter().all(|mark| *mark), "{marks:?}");
            fragments.iter().map(|f| f.events.len()).collect()
        };
        assert_eq!(sizes(&[100, 100]), [2]);
        assert_eq!(sizes(&[5000]), [1]);
        assert_eq!(sizes(&[400, 400, 400, 5000, 1]), [2, 1, 1, 1]);
    }
}

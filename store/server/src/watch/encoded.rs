//! The form events have in responses, made once for all watches.
//!
//! Owns: encoding. Must not know: who watches. A newcomer's trap: a previous value is the last field
//! of an event, so an event for a watch that wants it is the one for all others and a piece more.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use kijabi_machine::RevisionEvents;
use kijabi_proto::mvccpb::Event;
use prost::Message as _;

/// The events of one revision, encoded when the first watch wants one of them.
#[derive(Debug)]
pub(crate) struct Encoded {
    events: Arc<RevisionEvents>,
    wire: OnceLock<Wire>,
}

/// All events of a revision behind each other.
#[derive(Debug)]
struct Wire {
    bytes: Vec<u8>,
    /// Where each event ends, without and with its previous value.
    ends: Box<[(usize, usize)]>,
}

/// An encoded event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    event: &'a [u8],
    /// The field of the previous value, or nothing.
    previous: &'a [u8],
}

// === impl Encoded ===

impl Encoded {
    pub(crate) fn new(events: Arc<RevisionEvents>) -> Self {
        Self { events, wire: OnceLock::new() }
    }

    /// One of the events, by its number.
    pub(super) fn part(&self, number: usize, with_previous: bool) -> Part<'_> {
        let wire = self.wire.get_or_init(|| Wire::of(&self.events.events));
        let start = number.checked_sub(1).map_or(0, |before| wire.ends[before].1);
        let (end, previous_end) = wire.ends[number];
        let previous_end = if with_previous { previous_end } else { end };
        Part { event: &wire.bytes[start..end], previous: &wire.bytes[end..previous_end] }
    }
}

impl Deref for Encoded {
    type Target = RevisionEvents;

    fn deref(&self) -> &RevisionEvents {
        &self.events
    }
}

impl Wire {
    fn of(events: &[Event]) -> Self {
        let mut bytes = Vec::with_capacity(events.iter().map(Event::encoded_len).sum());
        let ends = events.iter().map(|event| {
            let Event { r#type, kv, prev_kv } = event;
            let plain = Event { r#type: *r#type, kv: kv.clone(), prev_kv: None };
            plain.encode_raw(&mut bytes);
            let end = bytes.len();
            let previous = Event { r#type: 0, kv: None, prev_kv: prev_kv.clone() };
            previous.encode_raw(&mut bytes);
            (end, bytes.len())
        });
        let ends = ends.collect();
        Self { bytes, ends }
    }
}

// === impl Part ===

impl Part<'_> {
    /// Bytes of the event.
    pub(super) fn len(&self) -> usize {
        self.event.len() + self.previous.len()
    }

    /// Adds the event.
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.event);
        bytes.extend_from_slice(self.previous);
    }
}

#[cfg(test)]
mod tests {
    use kijabi_proto::mvccpb::KeyValue;
    use kijabi_proto::mvccpb::event::EventType;

    use super::*;

    #[test]
    fn parts_are_the_events_with_and_without_their_previous_values() {
        let kv = |key: &str, version| KeyValue {
            key: key.to_owned().into(),
            value: "v".into(),
            version,
            ..Default::default()
        };
        let put = Event { r#type: 0, kv: Some(kv("a", 2)), prev_kv: Some(kv("a", 1)) };
        let new = Event { prev_kv: None, ..put.clone() };
        let delete = Event { r#type: EventType::Delete.into(), ..put.clone() };
        let events = vec![put, new, delete];
        let encoded = Encoded::new(Arc::new(RevisionEvents {
            revision: 2,
            events: events.clone(),
            previous_left_out: false,
        }));
        for (number, event) in events.iter().enumerate() {
            let read = |with_previous| {
                let part = encoded.part(number, with_previous);
                let mut bytes = Vec::new();
                part.put(&mut bytes);
                assert_eq!(bytes.len(), part.len());
                Event::decode(&bytes[..]).unwrap()
            };
            assert_eq!(read(true), *event);
            assert_eq!(read(false), Event { prev_kv: None, ..event.clone() });
        }
    }
}

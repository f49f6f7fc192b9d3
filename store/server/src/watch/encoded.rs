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

/// An event for a watch. It shares what it says with all other watches.
#[derive(Clone, Debug)]
pub(super) struct Part {
    revision: Arc<Encoded>,
    number: usize,
    with_previous: bool,
}

// === impl Encoded ===

impl Encoded {
    pub(crate) fn new(events: Arc<RevisionEvents>) -> Self {
        Self { events, wire: OnceLock::new() }
    }

    /// One of the events, by its number.
    pub(super) fn part(self: &Arc<Self>, number: usize, with_previous: bool) -> Part {
        Part { revision: Arc::clone(self), number, with_previous }
    }

    /// The bytes of an event.
    fn bytes(&self, number: usize, with_previous: bool) -> &[u8] {
        let wire = self.wire.get_or_init(|| Wire::of(&self.events.events));
        let start = number.checked_sub(1).map_or(0, |before| wire.ends[before].1);
        let (end, previous_end) = wire.ends[number];
        &wire.bytes[start..if with_previous { previous_end } else { end }]
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

impl Part {
    /// The event, encoded.
    pub(super) fn bytes(&self) -> &[u8] {
        self.revision.bytes(self.number, self.with_previous)
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
        let encoded = Arc::new(Encoded::new(Arc::new(RevisionEvents {
            revision: 2,
            events: events.clone(),
            previous_left_out: false,
        })));
        for (number, event) in events.iter().enumerate() {
            let read =
                |with_previous| Event::decode(encoded.part(number, with_previous).bytes()).unwrap();
            assert_eq!(read(true), *event);
            assert_eq!(read(false), Event { prev_kv: None, ..event.clone() });
        }
    }
}

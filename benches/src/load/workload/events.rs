//! What a watcher's stream brings.
//!
//! Owns: reading watch answers with as little work as can be. Must not know: which load it is. A
//! newcomer's trap: an event may come without a value (a delete), and an answer without events
//! (created, progress).

use crate::load::wire::{Field, fields};

/// WatchResponse: created = 3, canceled = 4, cancel_reason = 6, events = 11.
const CREATED: u32 = 3;
const CANCELED: u32 = 4;
const REASON: u32 = 6;
const EVENTS: u32 = 11;
/// Event: kv = 2.
const KV: u32 = 2;
/// KeyValue: value = 5.
const VALUE: u32 = 5;

/// What an answer is, beside its events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) created: bool,
    pub(super) events: u64,
}

/// Reads an answer; `value` gets the value of each event.
pub(super) fn read(answer: &[u8], mut value: impl FnMut(&[u8])) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut canceled = false;
    let mut reason = &b"no reason given"[..];
    for field in fields(answer) {
        match field {
            (CREATED, Field::Number(1)) => seen.created = true,
            (CANCELED, Field::Number(1)) => canceled = true,
            (REASON, Field::Bytes(text)) => reason = text,
            (EVENTS, Field::Bytes(event)) => {
                seen.events += 1;
                value(bytes_of(bytes_of(event, KV), VALUE));
            }
            _ => {}
        }
    }
    if canceled { Err(format!("canceled: {}", String::from_utf8_lossy(reason))) } else { Ok(seen) }
}

fn bytes_of(message: &[u8], name: u32) -> &[u8] {
    fields(message)
        .find_map(|field| match field {
            (found, Field::Bytes(bytes)) if found == name => Some(bytes),
            _ => None,
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kijabi_proto::etcdserverpb::WatchResponse;
    use kijabi_proto::mvccpb::{Event, KeyValue};
    use prost::Message as _;

    use super::*;

    #[test]
    fn values_of_events_are_seen_and_a_cancel_is_an_error() {
        let kv = |value: &'static [u8]| KeyValue {
            key: "k".into(),
            value: value.into(),
            ..Default::default()
        };
        let event = |value| Event {
            kv: Some(kv(value)),
            prev_kv: Some(kv(b"before")),
            ..Default::default()
        };
        let answer = WatchResponse { events: vec![event(b"1"), event(b"")], ..Default::default() };
        let mut values = Vec::new();
        let seen = read(&answer.encode_to_vec(), |value| values.push(value.to_vec())).unwrap();
        assert_eq!(seen, Seen { created: false, events: 2 });
        assert_eq!(values, [b"1".to_vec(), Vec::new()]);
        let created = WatchResponse { created: true, ..Default::default() };
        assert!(read(&created.encode_to_vec(), |_| ()).unwrap().created);
        let canceled =
            WatchResponse { canceled: true, cancel_reason: "old".into(), ..Default::default() };
        assert_eq!(read(&canceled.encode_to_vec(), |_| ()), Err("canceled: old".into()));
    }
}

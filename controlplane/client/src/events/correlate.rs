//! Decides what becomes of a note: a new Event, one more of an Event already sent, or nothing.
//!
//! Owns: the memory of events sent, bounded. Must not know: how they are sent. A newcomer's trap:
//! three things are counted apart: the same event, similar events, and all events about an object.

use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::jiff::Timestamp;
use kijabi_base::clock::Instant;

use super::{EventApi, EventType, Note};
use crate::limits;

/// What to send.
#[derive(Clone, Debug)]
pub(super) struct Action {
    pub(super) note: Note,
    /// The Event's name; the same for each repeat.
    pub(super) name: String,
    /// How often it happened by now. 1 makes a new Event.
    pub(super) count: i32,
    pub(super) first_at: Timestamp,
}

/// What makes two notes the same event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sameness {
    object: String,
    kind: EventType,
    reason: &'static str,
    /// The message for core events, the action for a series.
    detail: String,
}

struct Sent {
    name: String,
    count: i32,
    first_at: Timestamp,
    last: Instant,
}

struct Similar {
    first: Instant,
    messages: usize,
}

struct Allowance {
    left: f64,
    at: Instant,
}

/// A map that forgets its oldest entries beyond [`limits::EVENT_MEMORY_MAX`].
struct Memory<K, V> {
    entries: BTreeMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Ord + Clone, V> Memory<K, V> {
    fn new() -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new() }
    }

    fn entry(&mut self, key: K, fresh: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            if self.order.len() >= limits::EVENT_MEMORY_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.entries.entry(key).or_insert_with(fresh)
    }
}

/// The memory of what was sent.
pub(super) struct Correlator {
    api: EventApi,
    sent: Memory<Sameness, Sent>,
    similar: Memory<Sameness, Similar>,
    allowances: Memory<String, Allowance>,
    names: u64,
}

// === impl Correlator ===

impl Correlator {
    pub(super) fn new(api: EventApi) -> Self {
        Self {
            api,
            sent: Memory::new(),
            similar: Memory::new(),
            allowances: Memory::new(),
            names: 0,
        }
    }

    /// What to send for `note`, if anything.
    pub(super) fn correlate(
        &mut self,
        note: Note,
        now: Instant,
        wall: Timestamp,
    ) -> Option<Action> {
        match self.api {
            EventApi::Core => {
                let note = self.combine(note, now);
                if !self.allowed(&note, now) {
                    return None;
                }
                let detail = note.message.clone();
                Some(self.count(note, detail, now, wall))
            }
            EventApi::Series => {
                let detail = note.action.to_owned();
                let action = self.count(note, detail, now, wall);
                // Differs from Kubernetes: a series is written at 2 and then at each power of two,
                // not once and again when it ends, so that its count is never far behind.
                (action.count as u32).is_power_of_two().then_some(action)
            }
        }
    }

    /// Many events that differ only in their message become one.
    fn combine(&mut self, mut note: Note, now: Instant) -> Note {
        let similar = self
            .similar
            .entry(sameness(&note, String::new()), || Similar { first: now, messages: 0 });
        if now - similar.first > limits::EVENT_SIMILAR_WINDOW {
            *similar = Similar { first: now, messages: 0 };
        }
        let known = self.sent.entries.contains_key(&sameness(&note, note.message.clone()));
        if !known {
            similar.messages += 1;
        }
        if similar.messages > limits::EVENT_SIMILAR_MAX {
            note.message = format!("(combined from similar events): {}", note.message);
        }
        note
    }

    /// A bucket of [`limits::EVENT_BURST_MAX`] for each object, refilled slowly.
    fn allowed(&mut self, note: &Note, now: Instant) -> bool {
        let burst = f64::from(limits::EVENT_BURST_MAX);
        let object = format!("{}/{:?}", object_id(note), note.kind);
        let allowance = self.allowances.entry(object, || Allowance { left: burst, at: now });
        let refilled = (now - allowance.at).as_secs_f64() / limits::EVENT_REFILL.as_secs_f64();
        allowance.left = (allowance.left + refilled).min(burst);
        allowance.at = now;
        if allowance.left < 1.0 {
            return false;
        }
        allowance.left -= 1.0;
        true
    }

    fn count(&mut self, note: Note, detail: String, now: Instant, wall: Timestamp) -> Action {
        self.names += 1;
        let nanos = wall.as_nanosecond() as u64 + self.names % 1_000_000;
        let name = event_name(note.about.name.as_deref().unwrap_or_default(), nanos);
        let combined = note.message.starts_with("(combined from similar events): ");
        let detail = if combined { "(combined)".to_owned() } else { detail };
        let fresh = || Sent { name: name.clone(), count: 0, first_at: wall, last: now };
        let sent = self.sent.entry(sameness(&note, detail), fresh);
        if self.api == EventApi::Series && now - sent.last > limits::EVENT_SERIES_WINDOW {
            *sent = Sent { name, count: 0, first_at: wall, last: now };
        }
        sent.count = sent.count.saturating_add(1);
        sent.last = now;
        Action { name: sent.name.clone(), count: sent.count, first_at: sent.first_at, note }
    }
}

fn object_id(note: &Note) -> String {
    let about = &note.about;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!(
        "{}/{}/{}/{}",
        part(&about.kind),
        part(&about.namespace),
        part(&about.name),
        part(&about.uid)
    )
}

fn sameness(note: &Note, detail: String) -> Sameness {
    Sameness { object: object_id(note), kind: note.kind, reason: note.reason, detail }
}

/// `<object>.<hex of the time>`, the object's part cut so that the whole is a valid name.
fn event_name(object: &str, nanos: u64) -> String {
    const NAME_BYTES_MAX: usize = 253;
    let suffix = format!(".{nanos:x}");
    let cut = object.len().min(NAME_BYTES_MAX - suffix.len());
    format!("{}{suffix}", object.get(..cut).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;
    use std::time::Duration;

    fn note(object: &str, message: &str) -> Note {
        Note {
            about: ObjectReference { name: Some(object.to_owned()), ..Default::default() },
            kind: EventType::Normal,
            reason: "Tested",
            action: "Testing",
            message: message.to_owned(),
        }
    }

    fn run(api: EventApi, notes: &[(&str, &str, u64)]) -> Vec<String> {
        let mut correlator = Correlator::new(api);
        let start = kijabi_base::clock::now();
        notes
            .iter()
            .map(|(object, message, second)| {
                let now = start + Duration::from_secs(*second);
                match correlator.correlate(note(object, message), now, Timestamp::UNIX_EPOCH) {
                    Some(action) => format!("{} x{}", action.note.message, action.count),
                    None => "-".to_owned(),
                }
            })
            .collect()
    }

    #[tokio::test]
    async fn repeats_are_counted() {
        let sent = run(EventApi::Core, &[("p", "a", 0), ("p", "b", 1), ("p", "a", 2)]);
        assert_eq!(sent, ["a x1", "b x1", "a x2"]);
    }

    #[tokio::test]
    async fn an_eleventh_similar_message_is_combined() {
        let messages: Vec<String> = (0..12).map(|number| format!("m{number}")).collect();
        let notes: Vec<_> = messages.iter().map(|message| ("p", message.as_str(), 0)).collect();
        let sent = run(EventApi::Core, &notes);
        assert_eq!(sent[9], "m9 x1");
        assert_eq!(sent[10], "(combined from similar events): m10 x1");
        assert_eq!(sent[11], "(combined from similar events): m11 x2");
    }

    #[tokio::test]
    async fn a_burst_about_one_object_is_cut_and_another_object_is_not_touched() {
        let mut notes = vec![("p", "a", 0); 27];
        notes.push(("q", "a", 0));
        notes.push(("p", "a", 301));
        let sent = run(EventApi::Core, &notes);
        assert_eq!(sent[24], "a x25");
        assert_eq!(sent[25..], ["-", "-", "a x1", "a x26"]);
    }

    #[tokio::test]
    async fn a_series_is_written_at_powers_of_two_and_starts_anew_after_its_window() {
        let notes = [("p", "a", 0), ("p", "b", 1), ("p", "c", 2), ("p", "d", 3), ("p", "e", 900)];
        assert_eq!(run(EventApi::Series, &notes), ["a x1", "b x2", "-", "d x4", "e x1"]);
    }

    #[test]
    fn names_stay_valid() {
        assert_eq!(event_name("web", 0xabc), "web.abc");
        assert_eq!(event_name(&"x".repeat(300), 1).len(), 253);
    }
}

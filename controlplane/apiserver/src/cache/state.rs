//! What a cache holds: the objects now, and the window of changes that led here.
//!
//! Owns: the two together, changed in one step (CACHE-1), and the bound of the window. Must not
//! know: the store or tasks; it is a plain value behind a lock. A newcomer's trap: `floor` is the
//! newest revision whose change can no longer be told, so a watch from `floor` on is whole.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use super::{Entry, Selection, Snapshot};
use crate::limits::{CACHE_WINDOW_BYTES_MAX, CACHE_WINDOW_EVENTS_MAX};
use crate::storage::Revision;

/// One change of one object.
#[derive(Debug)]
pub struct Event {
    /// When.
    pub revision: Revision,
    /// The object after it; `None` after a removal.
    pub now: Option<Arc<Entry>>,
    /// The object before it; `None` for a new one.
    pub before: Option<Arc<Entry>>,
    gone: OnceLock<Arc<Entry>>,
}

/// What a watcher is told of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The object is new to the watcher.
    Added,
    /// The watcher knows it; it changed.
    Modified,
    /// It is gone, or left the selection.
    Deleted,
}

impl EventKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl Event {
    fn new(revision: Revision, now: Option<Arc<Entry>>, before: Option<Arc<Entry>>) -> Self {
        Self { revision, now, before, gone: OnceLock::new() }
    }

    /// What a watcher of `selection` is told, if anything.
    pub fn seen_by(&self, selection: &Selection) -> Option<(EventKind, Arc<Entry>)> {
        let now = self.now.as_ref().filter(|entry| selection.matches(entry));
        let before = self.before.as_ref().filter(|entry| selection.matches(entry));
        match (before, now) {
            (None, None) => None,
            (None, Some(now)) => Some((EventKind::Added, Arc::clone(now))),
            (Some(_), Some(now)) => Some((EventKind::Modified, Arc::clone(now))),
            // The last known state under the version of its removal, encoded once for all.
            (Some(before), None) => {
                let gone = self.gone.get_or_init(|| Arc::new(before.at(self.revision)));
                Some((EventKind::Deleted, Arc::clone(gone)))
            }
        }
    }

    fn bytes(&self) -> usize {
        self.before.as_ref().map_or(0, |entry| entry.encoded.len())
    }
}

/// A change as the feed brings it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) revision: Revision,
    pub(super) place: Box<str>,
    pub(super) now: Option<Entry>,
}

/// A watch asks for changes that the window has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooOld {
    /// The oldest revision a watch may start after.
    pub(super) floor: Revision,
}

/// Objects and window.
#[derive(Debug, Default)]
pub(super) struct State {
    objects: BTreeMap<Box<str>, Arc<Entry>>,
    window: VecDeque<Arc<Event>>,
    window_bytes: usize,
    floor: Revision,
    revision: Revision,
}

impl State {
    /// Replaces everything by a fresh listing.
    pub(super) fn reset(&mut self, entries: Vec<Entry>, revision: Revision) {
        let place = |entry: Entry| (entry.place.clone(), Arc::new(entry));
        *self = Self {
            objects: entries.into_iter().map(place).collect(),
            floor: revision,
            revision,
            ..Self::default()
        };
    }

    /// Takes changes in, and that all changes up to `revision` have been.
    pub(super) fn apply(&mut self, arrivals: Vec<Arrival>, revision: Revision) {
        for Arrival { revision, place, now } in arrivals {
            let now = now.map(Arc::new);
            let before = match &now {
                Some(now) => self.objects.insert(place, Arc::clone(now)),
                None => self.objects.remove(&place),
            };
            let event = Arc::new(Event::new(revision, now, before));
            self.window_bytes += event.bytes();
            self.window.push_back(event);
        }
        self.revision = self.revision.max(revision);
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.window.len() > CACHE_WINDOW_EVENTS_MAX
            || (self.window_bytes > CACHE_WINDOW_BYTES_MAX && self.window.len() > 1)
        {
            let Some(oldest) = self.window.pop_front() else { return };
            self.window_bytes -= oldest.bytes();
            self.floor = oldest.revision;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let found = if namespace.is_empty() {
            self.objects.get(name)
        } else {
            self.objects.get(format!("{namespace}/{name}").as_str())
        };
        found.cloned()
    }

    pub(super) fn snapshot(&self, selection: &Selection) -> Snapshot {
        let revision = self.revision;
        if let (false, Some(name)) = (selection.namespace.is_empty(), selection.name()) {
            let one = self.get(&selection.namespace, name);
            let entries = one.into_iter().filter(|entry| selection.matches(entry)).collect();
            return Snapshot { entries, revision };
        }
        let entries = self
            .within(&selection.namespace)
            .filter(|entry| selection.matches(entry))
            .cloned()
            .collect();
        Snapshot { entries, revision }
    }

    /// The objects of a namespace, or all.
    fn within(&self, namespace: &str) -> impl Iterator<Item = &Arc<Entry>> {
        let (from, to) = if namespace.is_empty() {
            (Bound::Unbounded, Bound::Unbounded)
        } else {
            // `0` is the character after the slash.
            (Bound::Included(format!("{namespace}/")), Bound::Excluded(format!("{namespace}0")))
        };
        let bounds = (from.as_ref().map(String::as_str), to.as_ref().map(String::as_str));
        let range: Vec<_> = self.objects.range::<str, _>(bounds).map(|(_, entry)| entry).collect();
        range.into_iter()
    }

    /// The changes after `cursor`, about `limit` of them but whole revisions, and how far they go.
    pub(super) fn since(
        &self,
        cursor: Revision,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, Revision), TooOld> {
        if cursor < self.floor {
            return Err(TooOld { floor: self.floor });
        }
        let start = self.window.partition_point(|event| event.revision <= cursor);
        let mut events: Vec<Arc<Event>> = Vec::new();
        for event in self.window.iter().skip(start) {
            if events.len() >= limit
                && events.last().is_some_and(|last| last.revision != event.revision)
            {
                let reached = events.last().map_or(cursor, |last| last.revision);
                return Ok((events, reached));
            }
            events.push(Arc::clone(event));
        }
        Ok((events, self.revision.max(cursor)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kijabi_meta::selector::LabelSelector;

    use super::*;

    fn entry(place: &str, revision: i64, label: &str) -> Entry {
        let text = format!(
            r#"{{"metadata":{{"labels":{{"l":"{label}"}},"name":"x","resourceVersion":"{revision}"}}}}"#
        );
        Entry {
            place: place.into(),
            revision: Revision(revision),
            labels: vec![("l".into(), label.into())],
            fields: Vec::new(),
            encoded: Bytes::from(text),
            rest_at: 1,
        }
    }

    fn put(state: &mut State, place: &str, revision: i64, label: &str) {
        let now = Some(entry(place, revision, label));
        let arrival = Arrival { revision: Revision(revision), place: place.into(), now };
        state.apply(vec![arrival], Revision(revision));
    }

    fn remove(state: &mut State, place: &str, revision: i64) {
        let arrival = Arrival { revision: Revision(revision), place: place.into(), now: None };
        state.apply(vec![arrival], Revision(revision));
    }

    fn told(state: &State, cursor: i64, selector: &str) -> Vec<String> {
        let selection =
            Selection { labels: LabelSelector::parse(selector).unwrap(), ..Selection::default() };
        let (events, _) = state.since(Revision(cursor), 100).unwrap();
        let seen = events.iter().filter_map(|event| event.seen_by(&selection));
        seen.map(|(kind, entry)| format!("{} {} {}", kind.as_str(), entry.place, entry.revision))
            .collect()
    }

    #[test]
    fn entering_and_leaving_a_selection_look_like_adding_and_deleting() {
        let mut state = State::default();
        state.reset(vec![entry("g/a", 3, "x")], Revision(5));
        put(&mut state, "g/a", 6, "y");
        put(&mut state, "g/a", 7, "y");
        put(&mut state, "g/a", 8, "x");
        remove(&mut state, "g/a", 9);
        assert_eq!(told(&state, 5, "l=y"), ["ADDED g/a 6", "MODIFIED g/a 7", "DELETED g/a 8"]);
        assert_eq!(told(&state, 5, "l=x"), ["DELETED g/a 6", "ADDED g/a 8", "DELETED g/a 9"]);
        assert_eq!(told(&state, 7, "l=x"), ["ADDED g/a 8", "DELETED g/a 9"]);
        assert!(told(&state, 9, "").is_empty());
    }

    #[test]
    fn a_deletion_shows_the_last_state_under_the_version_of_the_deletion() {
        let mut state = State::default();
        state.reset(vec![entry("g/a", 3, "x")], Revision(5));
        remove(&mut state, "g/a", 9);
        let (events, reached) = state.since(Revision(5), 10).unwrap();
        let (kind, gone) = events[0].seen_by(&Selection::default()).unwrap();
        assert_eq!((kind, reached), (EventKind::Deleted, Revision(9)));
        assert_eq!(gone.object()["metadata"]["resourceVersion"], "9");
        assert_eq!(gone.object()["metadata"]["labels"]["l"], "x");
    }

    #[test]
    fn the_window_is_bounded_and_says_when_it_is_too_short() {
        let mut state = State::default();
        state.reset(Vec::new(), Revision(10));
        assert_eq!(state.since(Revision(9), 1).unwrap_err(), TooOld { floor: Revision(10) });
        let most = CACHE_WINDOW_EVENTS_MAX as i64;
        for revision in 11..=11 + most {
            put(&mut state, "g/a", revision, "x");
        }
        assert_eq!(state.window.len(), CACHE_WINDOW_EVENTS_MAX);
        assert_eq!(state.since(Revision(10), 1).unwrap_err(), TooOld { floor: Revision(11) });
        assert_eq!(state.since(Revision(11), usize::MAX).unwrap().0.len(), CACHE_WINDOW_EVENTS_MAX);
    }

    #[test]
    fn a_revision_is_never_cut_in_two() {
        let mut state = State::default();
        state.reset(Vec::new(), Revision(1));
        let arrival = |place: &str| Arrival {
            revision: Revision(2),
            place: place.into(),
            now: Some(entry(place, 2, "x")),
        };
        state.apply(vec![arrival("g/a"), arrival("g/b"), arrival("g/c")], Revision(2));
        put(&mut state, "g/d", 3, "x");
        let (events, reached) = state.since(Revision(1), 1).unwrap();
        assert_eq!((events.len(), reached), (3, Revision(2)));
    }

    #[test]
    fn a_snapshot_is_of_one_namespace_and_in_key_order() {
        let mut state = State::default();
        for (revision, place) in [(2, "b/x"), (3, "a/y"), (4, "a/x"), (5, "a-b/z")] {
            put(&mut state, place, revision, "x");
        }
        let places = |namespace: &str| {
            let snapshot = state.snapshot(&Selection::all_in(namespace));
            snapshot.entries.iter().map(|e| e.place.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(places("a"), ["a/x", "a/y"]);
        assert_eq!(places(""), ["a-b/z", "a/x", "a/y", "b/x"]);
    }
}

//! What the store held at each revision, once the order is known.
//!
//! Owns: states and events by revision. Must not know: whether anybody saw them. A newcomer's trap:
//! revisions beyond the last request's may have been made by requests of unknown fate that nobody
//! saw; nothing is said about them.

use std::collections::BTreeMap;

use super::history::{Answer, Entry, Key, Kv, Range, Request};
use super::model::{Model, State};

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Key,
    /// The revision that made it.
    pub revision: i64,
    /// What was written; `None` = deleted.
    pub kv: Option<Kv>,
    /// What was there before.
    pub prev: Option<Kv>,
}

/// One revision.
#[derive(Clone, Debug)]
pub struct Revision {
    /// What it changed, by key.
    pub events: Vec<Event>,
    /// When its request was sent.
    pub called: u64,
}

/// All that happened, in order.
#[derive(Debug, Default)]
pub struct Timeline {
    revisions: BTreeMap<i64, Revision>,
    by_key: BTreeMap<Key, Vec<Event>>,
    /// Every compaction that was asked for: when, and to which revision.
    compactions: Vec<(u64, i64)>,
}

impl Timeline {
    /// Does the requests of `order` one after another.
    pub fn new(entries: &[Entry], order: &[usize]) -> Self {
        let mut timeline = Self::default();
        for entry in entries {
            if let Request::Compact(revision) = &entry.request
                && !matches!(entry.answer(), Some(Answer::Refused(_)))
            {
                timeline.compactions.push((entry.called, *revision));
            }
        }
        let (model, mut state) = (Model::plain(), State::default());
        for at in order {
            let entry = &entries[*at];
            let step = model.step(&state, entry).expect("the order is legal");
            let Some(after) = step.state else { continue };
            if after.revision > state.revision {
                timeline.push(&state, &after, entry.called);
            }
            state = after;
        }
        timeline
    }

    fn push(&mut self, before: &State, after: &State, called: u64) {
        let revision = after.revision;
        let mut events = Vec::new();
        for (key, kv) in &after.keys {
            if kv.modified == revision {
                let prev = before.keys.get(key).cloned();
                events.push(Event { key: key.clone(), revision, kv: Some(kv.clone()), prev });
            }
        }
        for (key, kv) in &before.keys {
            if !after.keys.contains_key(key) {
                let prev = Some(kv.clone());
                events.push(Event { key: key.clone(), revision, kv: None, prev });
            }
        }
        events.sort_by(|a, b| a.key.cmp(&b.key));
        for event in &events {
            self.by_key.entry(event.key.clone()).or_default().push(event.clone());
        }
        self.revisions.insert(revision, Revision { events, called });
    }

    /// The last revision.
    pub fn last(&self) -> i64 {
        self.revisions.keys().next_back().copied().unwrap_or(1)
    }

    /// One revision.
    pub fn revision(&self, number: i64) -> Option<&Revision> {
        self.revisions.get(&number)
    }

    /// The events of `range` from one revision up to another, both included.
    pub fn events<'a>(
        &'a self,
        range: &'a Range,
        from: i64,
        upto: i64,
    ) -> impl Iterator<Item = &'a Event> {
        let revisions =
            (from <= upto).then(|| self.revisions.range(from..=upto)).into_iter().flatten();
        revisions.flat_map(|(_, revision)| &revision.events).filter(|event| range.has(&event.key))
    }

    /// What `range` held at `revision`.
    pub fn read(&self, range: &Range, revision: i64) -> Vec<Kv> {
        let of = |events: &Vec<Event>| {
            let upto = events.partition_point(|event| event.revision <= revision);
            events[..upto].last().and_then(|event| event.kv.clone())
        };
        match &range.end {
            None => self.by_key.get(&range.key).and_then(of).into_iter().collect(),
            Some(end) if range.key < *end => {
                let keys = self.by_key.range(range.key.clone()..end.clone());
                keys.filter_map(|(_, events)| of(events)).collect()
            }
            Some(_) => Vec::new(),
        }
    }

    /// The highest revision that may have been compacted by `time`.
    pub fn compacted_by(&self, time: u64) -> i64 {
        let asked = self.compactions.iter().filter(|(called, _)| *called <= time);
        asked.map(|(_, revision)| *revision).max().unwrap_or(-1)
    }

    /// Whether somebody asked to compact to this revision.
    pub fn was_compacted(&self, revision: i64) -> bool {
        self.compactions.iter().any(|(_, asked)| *asked == revision)
    }
}

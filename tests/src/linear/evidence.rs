//! What answers and watches tell about single revisions.
//!
//! Owns: which revisions have a known writer, what was seen of the others, and what did not happen
//! in them. Must not know: the order. A newcomer's trap: evidence may only rule out; whatever the
//! search accepts was done step by step by the model, so false evidence can condemn a right history
//! but cannot acquit a broken one.

use std::collections::{BTreeMap, BTreeSet};

use super::History;
use super::history::{Answer, Key, Kv, OpAnswer, Range};
use super::model::State;
use super::watch::{Watch, WatchKind};

/// What a revision did: each key with its value, `None` for a delete. Not necessarily all of it.
type Changes = BTreeMap<Key, Option<Key>>;

/// All of it, by revision.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Revisions whose writer was answered.
    owned: BTreeSet<i64>,
    /// What was seen.
    changes: BTreeMap<i64, Changes>,
    /// Of revisions without a known writer: keys of which all changes were seen.
    whole: BTreeMap<i64, Vec<Range>>,
}

impl Evidence {
    /// Reads a history.
    pub(super) fn of(history: &History) -> Self {
        let owned = history.entries.iter().filter_map(|entry| match entry.answer() {
            Some(Answer::Txn(revision, ..)) if entry.changed() => Some(*revision),
            _ => None,
        });
        let owned: BTreeSet<i64> = owned.collect();
        let changes = seen(history);
        let last = owned.last().max(changes.keys().next_back()).copied().unwrap_or(0);
        // A broken history may claim any revision; no more than there are requests can be made.
        let last = last.min(history.entries.len() as i64 + 1);
        let mut whole: BTreeMap<i64, Vec<Range>> =
            (2..=last).filter(|at| !owned.contains(at)).map(|at| (at, Vec::new())).collect();
        for watch in history.watches.iter().filter(|watch| !watch.no_put && !watch.no_delete) {
            let Some((from, upto)) = shown_whole(watch) else { continue };
            if from > upto {
                continue;
            }
            for ranges in whole.range_mut(from..=upto).map(|(_, ranges)| ranges) {
                if !ranges.contains(&watch.range) {
                    ranges.push(watch.range.clone());
                }
            }
        }
        Self { owned, changes, whole }
    }

    /// Whether the writer of `revision` was answered.
    pub(super) fn is_owned(&self, revision: i64) -> bool {
        self.owned.contains(&revision)
    }

    /// Whether going from one state to the next is what was seen of the next one's revision.
    pub(super) fn agrees(&self, before: &State, after: &State) -> bool {
        let seen = self.changes.get(&after.revision);
        let as_seen =
            seen.into_iter().flatten().all(|(key, value)| match (after.keys.get(key), value) {
                (Some(kv), Some(value)) => kv.modified == after.revision && kv.value == *value,
                (None, None) => before.keys.contains_key(key),
                _ => false,
            });
        as_seen
            && self.whole.get(&after.revision).is_none_or(|ranges| {
                let written = after.keys.values().filter(|kv| kv.modified == after.revision);
                let gone = before.keys.keys().filter(|key| !after.keys.contains_key(*key));
                written.map(|kv| &kv.key).chain(gone).all(|key| {
                    let must_be_seen = ranges.iter().any(|range| range.has(key));
                    !must_be_seen || seen.is_some_and(|seen| seen.contains_key(key))
                })
            })
    }
}

/// From which revision up to which a watch has shown all there was.
fn shown_whole(watch: &Watch) -> Option<(i64, i64)> {
    let mut first = None;
    let mut upto = 0;
    for seen in &watch.seen {
        match &seen.kind {
            WatchKind::Created => {
                first = Some(if watch.start == 0 { seen.revision + 1 } else { watch.start });
            }
            WatchKind::Events(events, more) => {
                let last = events.last().map_or(0, |event| event.revision);
                upto = upto.max(if *more { last - 1 } else { last });
            }
            WatchKind::Progress => upto = upto.max(seen.revision),
            WatchKind::Canceled(..) => {}
        }
    }
    first.map(|first| (first, upto))
}

fn seen(history: &History) -> BTreeMap<i64, Changes> {
    let mut changes: BTreeMap<i64, Changes> = BTreeMap::new();
    let mut saw = |kv: &Kv| {
        let at = changes.entry(kv.modified).or_default();
        at.insert(kv.key.clone(), Some(kv.value.clone()));
    };
    for entry in &history.entries {
        match entry.answer() {
            Some(Answer::Range(_, kvs)) => kvs.iter().for_each(&mut saw),
            Some(Answer::Txn(_, _, answers)) => {
                for answer in answers {
                    match answer {
                        OpAnswer::Put(prev) => prev.iter().for_each(&mut saw),
                        OpAnswer::Delete(kvs) | OpAnswer::Get(kvs) => kvs.iter().for_each(&mut saw),
                    }
                }
            }
            Some(Answer::Compact(_) | Answer::Refused(_)) | None => {}
        }
    }
    for event in history.watches.iter().flat_map(Watch::events) {
        let at = changes.entry(event.revision).or_default();
        at.insert(event.key.clone(), event.kv.as_ref().map(|kv| kv.value.clone()));
    }
    changes
}

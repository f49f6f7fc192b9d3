//! Which revisions each key has: the part of the store that is kept in memory.
//!
//! Owns: the ordered map of keys and each key's history. Must not know: values, they are rows of
//! the durable state. A newcomer's trap: a history is one list over all lives of the key; etcd's
//! "generations" are the stretches between tombstones. Creation and version are those of the last
//! life only: reads at older revisions take them from the stored record.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::key_range::KeyRange;
use super::row::Row;

/// The revisions of one key, oldest first; never empty. The last one is kept inline, because most
/// keys of a compacted store have no other.
#[derive(Debug)]
pub(crate) struct KeyHistory {
    older: Vec<Row>,
    last: Row,
    created: i64,
    version: i64,
}

/// A key as it is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current {
    /// Its last change.
    pub(crate) row: Row,
    /// The revision its present life began at.
    pub(crate) created: i64,
    /// How many puts its present life has seen.
    pub(crate) version: i64,
}

impl KeyHistory {
    /// The last change at or before `revision`, tombstones included.
    fn row_at(&self, revision: i64) -> Option<Row> {
        if self.last.main <= revision {
            return Some(self.last);
        }
        let upto = self.older.partition_point(|row| row.main <= revision);
        upto.checked_sub(1).map(|at| self.older[at])
    }

    fn push(&mut self, row: Row) {
        self.older.push(self.last);
        self.last = row;
    }

    /// Drops what a compaction at `revision` makes unreadable, at most `max` rows into `dropped`.
    ///
    /// The last change at or before `revision` stays, unless it is a tombstone older than
    /// `revision`. A tombstone at `revision` itself stays: a watch may start there (etcd#19179).
    fn compact(&mut self, revision: i64, max: usize, dropped: &mut Vec<Row>) -> Compacted {
        let mut superseded = self.older.partition_point(|row| row.main <= revision);
        let last_readable = self.last.main <= revision;
        if !last_readable && superseded > 0 {
            // One of the older rows is the last at or before the revision: see whether it stays.
            let row = self.older[superseded - 1];
            if !row.tombstone || row.main == revision {
                superseded -= 1;
            }
        }
        let take = superseded.min(max);
        dropped.extend(self.older.drain(..take));
        if take < superseded {
            return Compacted::InPart;
        }
        if self.older.capacity() > 2 * self.older.len() {
            self.older.shrink_to_fit();
        }
        if last_readable && self.last.tombstone && self.last.main < revision {
            dropped.push(self.last);
            return Compacted::Gone;
        }
        Compacted::Whole
    }
}

/// How far the compaction of one key got.
#[derive(Debug, PartialEq, Eq)]
enum Compacted {
    /// There is more to drop.
    InPart,
    /// All was dropped that could be.
    Whole,
    /// Nothing is left of the key.
    Gone,
}

/// All keys and their revisions.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Box<[u8]>, KeyHistory>,
}

/// What one step of compaction dropped, and where to go on; no `next` at the end.
#[derive(Debug)]
pub(crate) struct IndexCompaction {
    pub(crate) dropped: Vec<Row>,
    pub(crate) next: Option<Box<[u8]>>,
}

impl Index {
    /// How many keys there are, those with nothing but history included.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key as it is now; `None` if it is not there.
    pub(crate) fn current(&self, key: &[u8]) -> Option<Current> {
        self.keys.get(key).and_then(Self::live)
    }

    fn live(history: &KeyHistory) -> Option<Current> {
        let KeyHistory { last, created, version, .. } = *history;
        (!last.tombstone).then_some(Current { row: last, created, version })
    }

    /// Records a put; returns the key as it is then.
    pub(crate) fn put(&mut self, key: &[u8], row: Row) -> Current {
        let Some(history) = self.keys.get_mut(key) else {
            let history =
                KeyHistory { older: Vec::new(), last: row, created: row.main, version: 1 };
            self.keys.insert(key.into(), history);
            return Current { row, created: row.main, version: 1 };
        };
        if history.last.tombstone {
            history.created = row.main;
            history.version = 1;
        } else {
            history.version += 1;
        }
        history.push(row);
        Current { row, created: history.created, version: history.version }
    }

    /// Records the deletion of a key that is there.
    pub(crate) fn delete(&mut self, key: &[u8], row: Row) {
        if let Some(history) = self.keys.get_mut(key) {
            history.push(row);
        }
    }

    /// Records a change read back from the durable state, in the order of the rows.
    pub(crate) fn restore(&mut self, key: &[u8], row: Row, created: i64, version: i64) {
        match self.keys.get_mut(key) {
            Some(history) => {
                history.push(row);
                history.created = created;
                history.version = version;
            }
            None => {
                let history = KeyHistory { older: Vec::new(), last: row, created, version };
                self.keys.insert(key.into(), history);
            }
        }
    }

    /// Visits the keys of `range` that exist at `revision`, in key order.
    pub(crate) fn visit_at(
        &self,
        range: KeyRange<'_>,
        revision: i64,
        mut visit: impl FnMut(&[u8], Row),
    ) {
        for (key, history) in self.histories(range) {
            if let Some(row) = history.row_at(revision).filter(|row| !row.tombstone) {
                visit(key, row);
            }
        }
    }

    /// Visits the keys of `range` that exist now, in key order.
    pub(crate) fn visit_current(&self, range: KeyRange<'_>, mut visit: impl FnMut(&[u8], Current)) {
        for (key, history) in self.histories(range) {
            if let Some(current) = Self::live(history) {
                visit(key, current);
            }
        }
    }

    /// The histories of a range's keys, in key order. One key is looked up once, not as a range.
    fn histories(&self, range: KeyRange<'_>) -> impl Iterator<Item = (&[u8], &KeyHistory)> {
        let (one, bounds) = match range {
            KeyRange::One(key) => (self.keys.get_key_value(key), None),
            KeyRange::Between { .. } => (None, range.bounds()),
        };
        let many = bounds.map(|bounds| self.keys.range::<[u8], _>(bounds));
        let all = one.into_iter().chain(many.into_iter().flatten());
        all.map(|(key, history)| (&**key, history))
    }

    /// The row of `key` at `revision`, if the key existed then.
    pub(crate) fn row_at(&self, key: &[u8], revision: i64) -> Option<Row> {
        self.keys.get(key)?.row_at(revision).filter(|row| !row.tombstone)
    }

    /// Drops what a compaction at `revision` makes unreadable, from the key `from` on: at most
    /// `rows_max` rows, looking at no more than `keys_max` keys.
    pub(crate) fn compact(
        &mut self,
        revision: i64,
        from: &[u8],
        rows_max: usize,
        keys_max: usize,
    ) -> IndexCompaction {
        let mut dropped = Vec::new();
        let mut gone: Vec<Box<[u8]>> = Vec::new();
        let mut next = None;
        let bounds = (Bound::Included(from), Bound::Unbounded);
        for (looked, (key, history)) in self.keys.range_mut::<[u8], _>(bounds).enumerate() {
            if looked >= keys_max || dropped.len() >= rows_max {
                next = Some(key.clone());
                break;
            }
            match history.compact(revision, rows_max - dropped.len(), &mut dropped) {
                Compacted::InPart => {
                    next = Some(key.clone());
                    break;
                }
                Compacted::Gone => gone.push(key.clone()),
                Compacted::Whole => {}
            }
        }
        for key in gone {
            self.keys.remove(&key);
        }
        IndexCompaction { dropped, next }
    }
}

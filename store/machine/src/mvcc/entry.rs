//! One key of the index: the revisions it has had.
//!
//! Owns: a key's history and what a compaction drops of it. Must not know: other keys. A newcomer's
//! trap: a history is one list over all lives of the key; etcd's "generations" are the stretches
//! between tombstones. Creation and version are those of the last life only: reads at older
//! revisions take them from the stored record.

use super::row::{Hint, Row};
use crate::state::is_large;

/// A row as the index keeps it: with the size of what is stored under it, in 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) main: i64,
    sub: u32,
    /// The tombstone's mark in the highest bit, then the record's size.
    bytes: u32,
}

const TOMBSTONE: u32 = 1 << 31;

impl Stored {
    pub(super) fn new(row: Row, record_bytes: usize) -> Self {
        let mark = if row.tombstone { TOMBSTONE } else { 0 };
        let size = u32::try_from(record_bytes).unwrap_or(u32::MAX).min(TOMBSTONE - 1);
        Self { main: row.main, sub: row.sub, bytes: mark | size }
    }

    pub(super) fn row(self) -> Row {
        let large = Hint(is_large(self.record_bytes()));
        Row { main: self.main, sub: self.sub, tombstone: self.is_tombstone(), large }
    }

    pub(super) fn is_tombstone(self) -> bool {
        self.bytes & TOMBSTONE != 0
    }

    /// Bytes of the record.
    pub(super) fn record_bytes(self) -> u64 {
        u64::from(self.bytes & !TOMBSTONE)
    }

    /// Bytes of the row's key and of its record.
    pub(super) fn bytes(self) -> u64 {
        self.row().key_bytes() as u64 + self.record_bytes()
    }
}

/// A key and its revisions, oldest first; there is always one. What most keys of a compacted store
/// do not have stands apart.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Box<[u8]>,
    last: Stored,
    more: Option<Box<More>>,
}

/// What a key has that was changed since it was created.
#[derive(Debug)]
struct More {
    older: Vec<Stored>,
    created: i64,
    version: i64,
}

/// A key as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    /// Its last change.
    pub(crate) row: Row,
    /// The revision its present life began at.
    pub(crate) created: i64,
    /// How many puts its present life has seen.
    pub(crate) version: i64,
}

/// How far the compaction of one key got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Compacted {
    /// There is more to drop.
    InPart,
    /// All was dropped that could be.
    Whole,
    /// Nothing is left of the key.
    Gone,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(key: &[u8], last: Stored, created: i64, version: i64) -> Self {
        let mut entry = Self { key: key.into(), last, more: None };
        entry.note(created, version);
        entry
    }

    /// A key that was created by its last change needs no note of it.
    fn note(&mut self, created: i64, version: i64) {
        match &mut self.more {
            Some(more) => {
                more.created = created;
                more.version = version;
            }
            None if (created, version) == (self.last.main, 1) => {}
            None => self.more = Some(Box::new(More { older: Vec::new(), created, version })),
        }
    }

    /// Adds a change at the end.
    pub(super) fn push(&mut self, last: Stored, created: i64, version: i64) {
        let more = self.more.get_or_insert_with(|| {
            Box::new(More { older: Vec::with_capacity(1), created, version })
        });
        more.older.push(self.last);
        self.last = last;
        self.note(created, version);
    }

    /// Adds what happened to the same key later.
    pub(super) fn append(&mut self, later: Self) {
        let (created, version) = later.created_and_version();
        let before = self.last;
        let more = self.more.get_or_insert_with(|| {
            Box::new(More { older: Vec::with_capacity(1), created, version })
        });
        more.older.push(before);
        if let Some(later) = later.more {
            more.older.extend(later.older);
        }
        self.last = later.last;
        self.note(created, version);
    }

    /// The revision of its last change.
    pub(super) fn last_revision(&self) -> i64 {
        self.last.main
    }

    pub(super) fn is_live(&self) -> bool {
        !self.last.is_tombstone()
    }

    pub(super) fn current(&self) -> Option<Current> {
        let (created, version) = self.created_and_version();
        self.is_live().then_some(Current { row: self.last.row(), created, version })
    }

    fn created_and_version(&self) -> (i64, i64) {
        match &self.more {
            Some(more) => (more.created, more.version),
            None => (self.last.main, 1),
        }
    }

    fn older(&self) -> &[Stored] {
        self.more.as_ref().map_or(&[], |more| &more.older)
    }

    /// The last change at or before `revision`, if it was not a deletion.
    pub(super) fn row_at(&self, revision: i64) -> Option<Row> {
        self.stored_at(revision).map(Stored::row)
    }

    /// The same with its size.
    pub(super) fn stored_at(&self, revision: i64) -> Option<Stored> {
        let found = if self.last.main <= revision {
            self.last
        } else {
            let older = self.older();
            let upto = older.partition_point(|stored| stored.main <= revision);
            *older.get(upto.checked_sub(1)?)?
        };
        (!found.is_tombstone()).then_some(found)
    }

    /// Drops what a compaction at `revision` makes unreadable, at most `max` rows into `dropped`.
    ///
    /// The last change at or before `revision` stays, unless it is a tombstone older than
    /// `revision`. A tombstone at `revision` itself stays: a watch may start there (etcd#19179).
    pub(super) fn compact(
        &mut self,
        revision: i64,
        max: usize,
        dropped: &mut Vec<Stored>,
    ) -> Compacted {
        let last_readable = self.last.main <= revision;
        if let Some(more) = &mut self.more {
            let older = &mut more.older;
            let mut superseded = older.partition_point(|stored| stored.main <= revision);
            if !last_readable && superseded > 0 {
                // One of the older rows is the last at or before the revision: see if it stays.
                let stored = older[superseded - 1];
                if !stored.is_tombstone() || stored.main == revision {
                    superseded -= 1;
                }
            }
            let take = superseded.min(max);
            dropped.extend(older.drain(..take));
            if take < superseded {
                return Compacted::InPart;
            }
            if older.capacity() > 2 * older.len() {
                older.shrink_to_fit();
            }
            if older.is_empty() && (more.created, more.version) == (self.last.main, 1) {
                self.more = None;
            }
        }
        if last_readable && self.last.is_tombstone() && self.last.main < revision {
            dropped.push(self.last);
            return Compacted::Gone;
        }
        Compacted::Whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a million keys cost: `mvcc/tree.rs` adds a share of a leaf, the allocator the key.
    #[test]
    fn a_key_takes_forty_bytes_besides_its_name() {
        assert_eq!((size_of::<Stored>(), size_of::<Entry>()), (16, 40));
    }

    #[test]
    fn a_stored_row_reads_back() {
        for (tombstone, bytes) in [(false, 0), (true, 70), (false, (1 << 31) - 1)] {
            let row = Row::new(7, 3, tombstone);
            let stored = Stored::new(row, bytes);
            assert_eq!((stored.row(), stored.bytes()), (row, (row.key().len() + bytes) as u64));
        }
    }
}

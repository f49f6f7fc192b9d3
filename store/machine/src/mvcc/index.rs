//! Which revisions each key has: the part of the store that is kept in memory.
//!
//! Owns: what reads, writes and compaction ask of it. Must not know: values, they are rows of the
//! durable state. A newcomer's trap: it changes at once, before the rows are written; whoever
//! fails after a change must not go on.

use std::ops::ControlFlow;

pub(crate) use super::entry::Current;
use super::entry::{Compacted, Stored};
use super::key_range::KeyRange;
use super::row::Row;
use super::tree::Tree;

/// All keys and their revisions.
#[derive(Debug, Default)]
pub(crate) struct Index {
    tree: Tree,
    /// Bytes of all rows it names: their keys and their records.
    bytes: u64,
}

/// What one step of compaction dropped, and where to go on; no `next` at the end.
#[derive(Debug)]
pub(crate) struct IndexCompaction {
    pub(crate) dropped: Vec<Row>,
    pub(crate) next: Option<Box<[u8]>>,
}

impl Index {
    /// An index of these keys, whose rows have so many bytes.
    pub(super) fn of(tree: Tree, bytes: u64) -> Self {
        Self { tree, bytes }
    }

    /// How many keys there are, those with nothing but history included.
    pub(crate) fn len(&self) -> usize {
        self.tree.len()
    }

    /// Bytes of the rows of all readable revisions.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The key as it is now; `None` if it is not there.
    pub(crate) fn current(&self, key: &[u8]) -> Option<Current> {
        self.tree.get(key)?.current()
    }

    /// Records a change, in the order of the rows. Of a deletion, the creation and the version do
    /// not matter.
    pub(crate) fn record(
        &mut self,
        key: &[u8],
        row: Row,
        record_bytes: usize,
        created: i64,
        version: i64,
    ) {
        let stored = Stored::new(row, record_bytes);
        self.bytes += stored.bytes();
        self.tree.record(key, stored, created, version);
    }

    /// How many keys of `range` existed at `revision`.
    pub(crate) fn count_at(&self, range: KeyRange<'_>, revision: i64) -> usize {
        self.tree.count(range, revision)
    }

    /// Visits the rows of the keys of `range` that existed at `revision`, with the sizes of their
    /// records, in key order, until `visit` breaks.
    pub(crate) fn visit_at(
        &self,
        range: KeyRange<'_>,
        revision: i64,
        mut visit: impl FnMut(Row, u64) -> ControlFlow<()>,
    ) {
        self.tree.visit(range, |entry| match entry.stored_at(revision) {
            Some(stored) => visit(stored.row(), stored.record_bytes()),
            None => ControlFlow::Continue(()),
        });
    }

    /// Visits the keys of `range` that exist now, in key order.
    pub(crate) fn visit_current(&self, range: KeyRange<'_>, mut visit: impl FnMut(&[u8], Current)) {
        self.tree.visit(range, |entry| {
            if let Some(current) = entry.current() {
                visit(&entry.key, current);
            }
            ControlFlow::Continue(())
        });
    }

    /// The row of `key` at `revision`, if the key existed then.
    pub(crate) fn row_at(&self, key: &[u8], revision: i64) -> Option<Row> {
        self.tree.get(key)?.row_at(revision)
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
        for (looked, entry) in self.tree.entries_from(from).enumerate() {
            if looked >= keys_max || dropped.len() >= rows_max {
                next = Some(entry.key.clone());
                break;
            }
            match entry.compact(revision, rows_max - dropped.len(), &mut dropped) {
                Compacted::InPart => {
                    next = Some(entry.key.clone());
                    break;
                }
                Compacted::Gone => gone.push(entry.key.clone()),
                Compacted::Whole => {}
            }
        }
        for key in gone {
            self.tree.remove(&key);
        }
        self.bytes -= dropped.iter().map(|stored| stored.bytes()).sum::<u64>();
        IndexCompaction { dropped: dropped.into_iter().map(Stored::row).collect(), next }
    }
}

//! How the state machine sees its durable state, and how its changes come out.
//!
//! Owns: the tables' names, the read interface, the batch of changes. Must not know: RocksDB. A
//! newcomer's trap: a batch is applied in order, so a later operation on the same key wins.

use std::ops::ControlFlow;

use bytes::Bytes;
use kijabi_base::limits;

/// A table of the durable state (a RocksDB column family).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Revision key (8 bytes BE main, `_`, 8 bytes BE sub, `t` for a tombstone: etcd's own form,
    /// so that HashKV can agree) to the protobuf `mvccpb.KeyValue`.
    Key,
    /// Small values by name: applied index, compacted revision, consistent term, …
    Meta,
    /// Lease id (8 bytes BE) to its record.
    Lease,
    /// Alarms, members and auth, each under its own key prefix.
    Cluster,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 4] = [Self::Key, Self::Meta, Self::Lease, Self::Cluster];

    /// The column family's name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Meta => "meta",
            Self::Lease => "lease",
            Self::Cluster => "cluster",
        }
    }
}

/// Whether a record of so many bytes is large: kept apart from what is read at a start.
pub fn is_large(record_bytes: u64) -> bool {
    record_bytes >= limits::STATE_LARGE_RECORD_BYTES as u64
}

/// What is wanted of the rows of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of them, but the values of few: some have only a head ([`crate::record_head`]).
    Heads,
    /// Those with large records: others may be left out. A large one may be, too; then it is still
    /// found by its key.
    Large,
}

/// The durable state could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("state read failed: {0}")]
pub struct StateError(pub String);

/// Pairs by their keys, as they are when they are read or as they were at one moment.
pub trait StateView {
    /// The value of `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// The record of a row of the table of keys, by the row's key and whether the record is large,
    /// as far as is known.
    fn get_record(&self, key: &[u8], _large: bool) -> Result<Option<Bytes>, StateError> {
        self.get(Table::Key, key)
    }

    /// Visits the records of several rows, in their order: the same as [`StateView::get_record`].
    fn visit_records(
        &self,
        keys: &[(Vec<u8>, bool)],
        visit: &mut dyn FnMut(Option<&[u8]>),
    ) -> Result<(), StateError> {
        for (key, large) in keys {
            visit(self.get_record(key, *large)?.as_deref());
        }
        Ok(())
    }

    /// The same as [`StateView::scan`] of the rows of keys, without what nobody wants.
    fn scan_rows(
        &self,
        _wanted: Wanted,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        self.scan(Table::Key, from, to, visit)
    }

    /// Visits the pairs with `from <= key` and `key < to` (no end if `None`) in key order, on one
    /// consistent view, until `visit` breaks.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError>;
}

/// What is called with each key and its value.
pub type VisitPair<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Reads durable state. Implemented by `kijabi-disk` on RocksDB and by [`MemoryState`] in tests.
pub trait StateReader: StateView + Send + Sync + 'static {
    /// Reads on one consistent view: what is removed meanwhile can still be read.
    fn with_view(&self, read: &mut dyn FnMut(&dyn StateView));

    /// The same as [`StateView::scan_rows`] for the heads of very many rows that nobody is going to
    /// read soon again.
    fn scan_through(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        self.scan_rows(Wanted::Heads, from, to, visit)
    }

    /// About how many bytes [`StateReader::scan_through`] reads from `from` on, before `to`; 0 if
    /// nobody knows.
    fn estimated_bytes(&self, _from: &[u8], _to: &[u8]) -> u64 {
        0
    }
}

/// One change of durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateOp {
    /// Sets a key.
    Put {
        /// Where.
        table: Table,
        /// Which.
        key: Vec<u8>,
        /// To what.
        value: Bytes,
    },
    /// Removes a key.
    Delete {
        /// Where.
        table: Table,
        /// Which.
        key: Vec<u8>,
    },
}

/// The changes of one applied batch, in order.
#[derive(Clone, Debug, Default)]
pub struct StateBatch {
    /// The operations.
    pub ops: Vec<StateOp>,
}

impl StateBatch {
    /// Sets `key` in `table`.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        self.ops.push(StateOp::Put { table, key: key.into(), value: value.into() });
    }

    /// Removes `key` from `table`.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.ops.push(StateOp::Delete { table, key: key.into() });
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// State in memory: for tests and for replaying a batch without a disk.
#[derive(Debug, Default)]
pub struct MemoryState {
    tables: std::sync::RwLock<std::collections::BTreeMap<(Table, Vec<u8>), Bytes>>,
}

impl MemoryState {
    /// Applies a batch.
    pub fn write(&self, batch: &StateBatch) {
        let mut tables = self.tables.write().expect("no writer panics while it holds the lock");
        for op in &batch.ops {
            match op {
                StateOp::Put { table, key, value } => {
                    tables.insert((*table, key.clone()), value.clone());
                }
                StateOp::Delete { table, key } => {
                    tables.remove(&(*table, key.clone()));
                }
            }
        }
    }
}

impl StateView for MemoryState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let tables = self.tables.read().expect("no writer panics while it holds the lock");
        Ok(tables.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        let tables = self.tables.read().expect("no writer panics while it holds the lock");
        for ((at, key), value) in tables.range((table, from.to_vec())..) {
            if *at != table || to.is_some_and(|to| key.as_slice() >= to) {
                break;
            }
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A view of it is the state as it is when it is read.
impl StateReader for MemoryState {
    fn with_view(&self, read: &mut dyn FnMut(&dyn StateView)) {
        read(self);
    }
}

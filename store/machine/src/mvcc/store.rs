//! The store of revisions: index in memory, rows in the durable state, overlay in between.
//!
//! Owns: the current and the compacted revision, opening from durable state, reading single
//! records. Must not know: requests. A newcomer's trap: the current revision is stored by itself;
//! it must not be derived from the last row, which compaction may delete (etcd#17780).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kijabi_base::limits::EVENT_PREVIOUS_BYTES_MAX;
use kijabi_proto::mvccpb::KeyValue;
use prost::Message as _;

use super::compact::Compaction;
use super::fetch::visit_records;
use super::index::{Current, Index};
use super::key_range::KeyRange;
use super::open::{self, Opened};
use super::row::Row;
use crate::meta;
use crate::state::{StateError, StateReader, StateView};

/// Revisions of keys.
pub(crate) struct Mvcc {
    pub(super) state: Arc<dyn StateReader>,
    pub(super) index: Index,
    /// Invariant (REV-1): grows by one per mutating command.
    pub(super) revision: i64,
    pub(super) compaction: Compaction,
    /// Rows of the batch being applied: they are not in the state yet.
    pub(super) overlay: HashMap<Row, Bytes>,
    /// Bytes of previous values that the events of one entry may hold.
    event_bytes_max: usize,
    /// What is left of them for the entry being applied.
    pub(super) event_bytes_left: usize,
}

/// Room for so many rows stays reserved between entries.
const OVERLAY_ROWS_KEPT: usize = 4096;

/// Reads records by their rows.
pub(crate) trait Rows {
    /// The records of `rows`, in their order.
    fn records(&self, rows: &[Row]) -> Result<Vec<Option<Bytes>>, StateError>;
}

impl Rows for &dyn StateView {
    fn records(&self, rows: &[Row]) -> Result<Vec<Option<Bytes>>, StateError> {
        let mut records = Vec::with_capacity(rows.len());
        let mut copy = |record: Option<&[u8]>| records.push(record.map(Bytes::copy_from_slice));
        visit_records(*self, rows, &mut copy)?;
        Ok(records)
    }
}

impl Rows for Mvcc {
    fn records(&self, rows: &[Row]) -> Result<Vec<Option<Bytes>>, StateError> {
        let state: &dyn StateView = &*self.state;
        if self.overlay.is_empty() {
            return state.records(rows);
        }
        let mut records: Vec<Option<Bytes>> =
            rows.iter().map(|row| self.overlay.get(row).cloned()).collect();
        let (places, missing): (Vec<usize>, Vec<Row>) =
            rows.iter().enumerate().filter(|(at, _)| records[*at].is_none()).unzip();
        for (place, record) in places.into_iter().zip(state.records(&missing)?) {
            records[place] = record;
        }
        Ok(records)
    }
}

/// Decodes a stored record; key and value stay slices of it.
pub(super) fn decode(record: Bytes) -> Result<KeyValue, StateError> {
    KeyValue::decode(record).map_err(|error| StateError(format!("record of a key: {error}")))
}

impl Mvcc {
    /// Rebuilds the index. `attach` is told of each key that holds a lease now.
    pub(crate) fn open(
        state: Arc<dyn StateReader>,
        mut leased: impl FnMut(&[u8], i64),
    ) -> Result<Self, StateError> {
        let compaction = Compaction::open(&*state)?;
        let stored = meta::read_i64(&*state, meta::REVISION)?.unwrap_or(1);
        let Opened { index, leases, newest } = open::open(&*state, stored)?;
        for (key, lease) in leases {
            leased(&key, lease);
        }
        let revision = stored.max(newest).max(compaction.scheduled());
        let overlay = HashMap::new();
        let event_bytes_max = EVENT_PREVIOUS_BYTES_MAX;
        let event_bytes_left = event_bytes_max;
        Ok(Self { state, index, revision, compaction, overlay, event_bytes_max, event_bytes_left })
    }

    /// The current revision.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// How many keys the index holds.
    pub(crate) fn key_count(&self) -> usize {
        self.index.len()
    }

    /// Bytes of all rows that are not compacted away.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// The durable state.
    pub(crate) fn state(&self) -> Arc<dyn StateReader> {
        Arc::clone(&self.state)
    }

    /// The entry is applied: forgets its overlay, which the caller is about to write.
    pub(crate) fn end_entry(&mut self) {
        self.overlay.clear();
        self.overlay.shrink_to(OVERLAY_ROWS_KEPT);
        self.event_bytes_left = self.event_bytes_max;
    }

    /// Whether the events of the entries from here on tell previous values that only watchers may
    /// want; else whoever wants one reads it from history.
    pub(crate) fn tell_previous(&mut self, tell: bool) {
        self.event_bytes_max = if tell { EVENT_PREVIOUS_BYTES_MAX } else { 0 };
        self.event_bytes_left = self.event_bytes_max;
    }

    /// Whether the key is there now.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.index.current(key).is_some()
    }

    /// Visits the keys of `range` that exist now, in key order.
    pub(crate) fn visit_current(&self, range: KeyRange<'_>, visit: impl FnMut(&[u8], Current)) {
        self.index.visit_current(range, visit);
    }

    /// One record as a key-value pair.
    pub(crate) fn record(&self, row: Row) -> Result<KeyValue, StateError> {
        if let Some(record) = self.overlay.get(&row) {
            return decode(record.clone());
        }
        match self.state.get_record(&row.key(), row.large.0)? {
            Some(record) => decode(record),
            None => Err(StateError(format!("no record of {row:?}, which the index names"))),
        }
    }
}

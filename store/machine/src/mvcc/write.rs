//! Writing: one command's changes, all at one new revision.
//!
//! Owns: how a put or a delete becomes a row, an index entry, an event and a lease attachment.
//! Must not know: whether the command may be carried out; that is decided before. A newcomer's
//! trap: nothing here may fail but reading the state, because the index changes at once.

use std::sync::Arc;

use bytes::Bytes;
use kijabi_base::check;
use kijabi_proto::mvccpb::{Event, KeyValue, event::EventType};
use prost::Message as _;

use super::history::deletion;
use super::key_range::KeyRange;
use super::row::Row;
use super::store::{Mvcc, decode};
use crate::id::LeaseId;
use crate::lease::Leases;
use crate::outcome::RevisionEvents;
use crate::state::{StateBatch, StateError, Table};

/// The changes of one command.
pub(crate) struct Write<'a> {
    /// What is written to.
    pub(crate) mvcc: &'a mut Mvcc,
    /// Which key holds which lease.
    pub(crate) leases: &'a mut Leases,
    batch: &'a mut StateBatch,
    events: Vec<Event>,
    previous_left_out: bool,
}

/// What a deletion deleted.
#[derive(Debug)]
pub(crate) struct Deleted {
    /// How many keys.
    pub(crate) count: usize,
    /// What they were, if that was wanted.
    pub(crate) previous: Vec<KeyValue>,
}

impl<'a> Write<'a> {
    /// Begins a command's changes; they go to `batch`.
    pub(crate) fn begin(
        mvcc: &'a mut Mvcc,
        leases: &'a mut Leases,
        batch: &'a mut StateBatch,
    ) -> Self {
        Self { mvcc, leases, batch, events: Vec::new(), previous_left_out: false }
    }

    /// Whether anything was changed: from then on the command must succeed.
    pub(crate) fn has_changed(&self) -> bool {
        !self.events.is_empty()
    }

    /// The revision a read inside the command sees: the new one after the first change.
    pub(crate) fn revision(&self) -> i64 {
        self.mvcc.revision + i64::from(!self.events.is_empty())
    }

    /// The revision the changes get.
    pub(crate) fn next_revision(&self) -> i64 {
        self.mvcc.revision + 1
    }

    /// The key's present value.
    pub(crate) fn current(&self, key: &[u8]) -> Result<Option<KeyValue>, StateError> {
        self.mvcc.index.current(key).map(|current| self.mvcc.record(current.row)).transpose()
    }

    /// Sets a key; returns what it was, which may be left out if it is not `wanted`.
    pub(crate) fn put(
        &mut self,
        key: &Bytes,
        value: Bytes,
        lease: LeaseId,
        wanted: bool,
    ) -> Result<Option<KeyValue>, StateError> {
        let current = self.mvcc.index.current(key);
        let previous = match current {
            Some(current) => self.previous(current.row, wanted)?,
            None => None,
        };
        let row = self.next_row(false);
        let (created, version) =
            current.map_or((row.main, 1), |current| (current.created, current.version + 1));
        let kv = KeyValue {
            key: key.clone(),
            create_revision: created,
            mod_revision: row.main,
            version,
            value,
            lease: lease.0,
        };
        let record = Bytes::from(kv.encode_to_vec());
        self.mvcc.index.record(key, row, record.len(), created, version);
        // Decoded again so that the event holds slices of the record and not of the whole request.
        let kv = decode(record.clone())?;
        self.store(row, record);
        self.leases.attach(key, lease);
        let prev_kv = match previous.clone() {
            Some(previous) => self.before_command(previous)?,
            None => None,
        };
        self.events.push(Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv });
        Ok(previous)
    }

    /// Deletes the keys of `range`; if that is `wanted`, says what they were, in key order.
    pub(crate) fn delete_range(
        &mut self,
        range: KeyRange<'_>,
        wanted: bool,
    ) -> Result<Deleted, StateError> {
        let mut keys = Vec::new();
        self.mvcc.index.visit_current(range, |key, current| {
            keys.push((Bytes::copy_from_slice(key), current.row));
        });
        let mut deleted = Deleted { count: keys.len(), previous: Vec::new() };
        for (key, row) in keys {
            let previous = self.previous(row, wanted)?;
            self.delete(key, previous.clone())?;
            deleted.previous.extend(previous.filter(|_| wanted));
        }
        Ok(deleted)
    }

    fn delete(&mut self, key: Bytes, previous: Option<KeyValue>) -> Result<(), StateError> {
        let row = self.next_row(true);
        let record = KeyValue { key: key.clone(), ..Default::default() };
        let record = Bytes::from(record.encode_to_vec());
        self.mvcc.index.record(&key, row, record.len(), 0, 0);
        // Nobody reads a tombstone's record while the batch is being applied.
        self.batch.put(Table::Key, row.key(), record);
        self.leases.attach(&key, LeaseId::NONE);
        let prev_kv = match previous {
            Some(previous) => self.before_command(previous)?,
            None => None,
        };
        self.events.push(Event { prev_kv, ..deletion(key, row.main) });
        Ok(())
    }

    /// A value that is about to be replaced. If nobody asked for it, it is read for the watchers
    /// only as long as the entry's events hold few such bytes: they can read it themselves.
    fn previous(&mut self, row: Row, wanted: bool) -> Result<Option<KeyValue>, StateError> {
        if !wanted && self.mvcc.event_bytes_left == 0 {
            self.previous_left_out = true;
            return Ok(None);
        }
        let previous = self.mvcc.record(row)?;
        let bytes = previous.key.len() + previous.value.len();
        self.mvcc.event_bytes_left = self.mvcc.event_bytes_left.saturating_sub(bytes);
        Ok(Some(previous))
    }

    /// What an event tells as the previous value: the one before the whole command, also if the
    /// command changes the key twice.
    fn before_command(&self, previous: KeyValue) -> Result<Option<KeyValue>, StateError> {
        if previous.mod_revision < self.next_revision() {
            return Ok(Some(previous));
        }
        let row = self.mvcc.index.row_at(&previous.key, self.mvcc.revision);
        row.map(|row| self.mvcc.record(row)).transpose()
    }

    fn next_row(&self, tombstone: bool) -> Row {
        let sub = u32::try_from(self.events.len()).expect("a command changes far fewer keys");
        Row::new(self.next_revision(), sub, tombstone)
    }

    fn store(&mut self, row: Row, record: Bytes) {
        self.mvcc.overlay.insert(row, record.clone());
        self.batch.put(Table::Key, row.key(), record);
    }

    /// Ends the command: if it changed anything there is a new revision with these events.
    pub(crate) fn end(self) -> Option<Arc<RevisionEvents>> {
        if self.events.is_empty() {
            return None;
        }
        let revision = self.next_revision();
        check!(
            Rev1,
            self.events.iter().all(|e| e.kv.as_ref().is_some_and(|kv| kv.mod_revision == revision)),
            "an event is not of revision {revision}"
        );
        self.mvcc.revision = revision;
        let Self { events, previous_left_out, .. } = self;
        Some(Arc::new(RevisionEvents { revision, events, previous_left_out }))
    }
}

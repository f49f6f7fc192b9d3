//! The Raft log as it is in memory: where each entry is on disk, and the latest ones' bytes.
//!
//! Owns: the index of live entries and the bounded cache. Must not know: how bytes reach the disk.
//! A newcomer's trap: an entry is readable from the moment it is appended; until the writer has
//! put it in a file its bytes exist only here, so they are never evicted before that.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::error::WalError;
use super::segment::{HardState, Segment};
use super::{LogEntry, LogId};

/// Where an entry's frame is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u32,
    /// The entry's data, without header and prefix.
    pub(crate) data_bytes: u32,
}

struct Slot {
    term: u64,
    kind: u8,
    /// Tells this entry from another one that had the same index before a truncation.
    stamp: u64,
    place: Option<Place>,
    data: Option<Bytes>,
}

/// What [`Memory::read`] found.
pub(crate) enum Found {
    Cached(LogEntry),
    OnDisk(LogId, u8, Place),
}

/// The log in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) hard: HardState,
    /// The index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Slots from this position on have their data.
    cached_from: usize,
    cached_bytes: usize,
    cache_bytes_max: usize,
    stamps: u64,
    /// The purged entry, while replay lets the log begin anywhere.
    replaying_purged: Option<LogId>,
}

// === impl Memory ===

impl Memory {
    pub(crate) fn new(hard: HardState, cache_bytes_max: usize) -> Self {
        Self { hard, cache_bytes_max, ..Self::default() }
    }

    /// The last entry, or the purged one if there is none.
    pub(crate) fn last(&self) -> Option<LogId> {
        match self.slots.back() {
            Some(slot) => {
                Some(LogId { term: slot.term, index: self.first + self.slots.len() as u64 - 1 })
            }
            None => self.hard.purged,
        }
    }

    /// The last entry of a term before `term`, or the purged one if there is none.
    pub(crate) fn last_before(&self, term: u64) -> Option<LogId> {
        // Terms never fall from one entry to the next.
        let count = self.slots.partition_point(|slot| slot.term < term);
        match count.checked_sub(1) {
            Some(at) => Some(LogId { term: self.slots[at].term, index: self.first + at as u64 }),
            None => self.hard.purged.filter(|purged| purged.term < term),
        }
    }

    /// Whether there is this entry, or it is the purged one.
    pub(crate) fn has(&self, id: LogId) -> bool {
        let slot = id.index.checked_sub(self.first).and_then(|at| self.slots.get(at as usize));
        slot.is_some_and(|slot| slot.term == id.term) || self.hard.purged == Some(id)
    }

    /// The first index there is an entry for, if any.
    pub(crate) fn first(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    fn next_index(&self) -> Option<u64> {
        self.last().map(|id| id.index + 1)
    }

    /// Whether the entries follow the last one and each other.
    pub(crate) fn check_order(&self, entries: &[LogEntry]) -> Result<(), WalError> {
        let mut next = self.next_index();
        for entry in entries {
            match next {
                Some(next) if next != entry.id.index => {
                    let what = format!("entry {} does not follow {}", entry.id.index, next - 1);
                    return Err(WalError::Order(what));
                }
                _ => next = Some(entry.id.index + 1),
            }
        }
        Ok(())
    }

    /// Adds an entry at the end and gives its stamp. Without a place its data is pinned.
    pub(crate) fn push(&mut self, entry: &LogEntry, place: Option<Place>) -> Result<u64, WalError> {
        self.check_order(std::slice::from_ref(entry))?;
        if self.slots.is_empty() {
            self.first = entry.id.index;
        }
        self.stamps += 1;
        self.cached_bytes += entry.data.len();
        self.slots.push_back(Slot {
            term: entry.id.term,
            kind: entry.kind,
            stamp: self.stamps,
            place,
            data: Some(entry.data.clone()),
        });
        self.evict();
        Ok(self.stamps)
    }

    /// The writer has put the entry in a file.
    pub(crate) fn placed(&mut self, index: u64, stamp: u64, place: Place) {
        let Some(at) = index.checked_sub(self.first) else { return };
        if let Some(slot) = self.slots.get_mut(at as usize)
            && slot.stamp == stamp
        {
            slot.place = Some(place);
        }
    }

    /// Removes the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: u64) {
        while !self.slots.is_empty() && self.first + self.slots.len() as u64 > from {
            let slot = self.slots.pop_back().expect("it is not empty");
            self.cached_bytes -= slot.data.map_or(0, |data| data.len());
        }
        self.cached_from = self.cached_from.min(self.slots.len());
    }

    /// Removes the entries up to `upto`, inclusive. It may be beyond the last one.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if self.hard.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        self.hard.purged = Some(upto);
        while !self.slots.is_empty() && self.first <= upto.index {
            let slot = self.slots.pop_front().expect("it is not empty");
            self.cached_bytes -= slot.data.map_or(0, |data| data.len());
            self.first += 1;
            self.cached_from = self.cached_from.saturating_sub(1);
        }
    }

    /// Drops cached data from the front while there is too much of it.
    pub(crate) fn evict(&mut self) {
        while self.cached_bytes > self.cache_bytes_max {
            match self.slots.get_mut(self.cached_from) {
                Some(slot) if slot.place.is_some() => {
                    self.cached_bytes -= slot.data.take().map_or(0, |data| data.len());
                    self.cached_from += 1;
                }
                _ => return,
            }
        }
    }

    /// The entries with `from <= index < to`, at most `bytes_max` of data but at least one.
    pub(crate) fn read(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Found> {
        let end = self.first + self.slots.len() as u64;
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in from.max(self.first)..to.min(end) {
            let slot = &self.slots[(index - self.first) as usize];
            let id = LogId { term: slot.term, index };
            let (size, item) = match (&slot.data, &slot.place) {
                (Some(data), _) => {
                    let entry = LogEntry { id, kind: slot.kind, data: data.clone() };
                    (data.len(), Found::Cached(entry))
                }
                (None, Some(place)) => {
                    (place.data_bytes as usize, Found::OnDisk(id, slot.kind, place.clone()))
                }
                (None, None) => unreachable!("data without a place is never evicted"),
            };
            bytes += size;
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(item);
        }
        found
    }
}

/// For replay only.
impl Memory {
    /// Lets the next entry have any index: the log is being read from its middle.
    pub(crate) fn forget_end(&mut self) {
        self.replaying_purged = self.hard.purged.take().or(self.replaying_purged);
    }

    /// Checks that no entry is missing between the purged one and the first.
    pub(crate) fn settle(&mut self, dir: &std::path::Path) -> Result<(), WalError> {
        if let Some(purged) = self.replaying_purged.take()
            && self.hard.purged.is_none_or(|later| later.index < purged.index)
        {
            self.hard.purged = None;
            self.purge(purged);
        }
        let expected = self.hard.purged.map_or(0, |purged| purged.index + 1);
        match self.first() {
            Some(first) if first > expected => {
                let what = format!("entries {expected} to {} are missing", first - 1);
                return Err(WalError::corrupt(dir, 0, what));
            }
            _ => {}
        }
        let last = self.last();
        match self.hard.committed {
            // A commit is only recorded once the entry is durable.
            Some(id) if last.is_none_or(|last| last.index < id.index) => {
                let what = format!("entry {} was committed, but is missing", id.index);
                Err(WalError::corrupt(dir, 0, what))
            }
            _ => Ok(()),
        }
    }
}

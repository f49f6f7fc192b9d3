//! Reading back the events of past revisions, for watchers that are behind.
//!
//! Owns: turning rows into events. Must not know: who watches. A newcomer's trap: rows are read
//! without the machine's lock, so a compaction may remove some meanwhile; after reading, compare
//! the first revision wanted with [`crate::Machine::compacted_revision`] before using the answer.

use std::ops::ControlFlow;

use bytes::Bytes;
use kijabi_proto::mvccpb::{Event, KeyValue, event::EventType};

use super::head::{is_record_head, record_key};
use super::row::Row;
use super::store::{Mvcc, Rows as _, decode};
use crate::meta;
use crate::outcome::RevisionEvents;
use crate::state::{StateError, StateView, Wanted};

/// Events of past revisions.
#[derive(Debug)]
pub struct History {
    /// The events by revision, without previous values. Revisions with no wanted event are left out.
    pub revisions: Vec<RevisionEvents>,
    /// The first revision that was not read; one beyond the last asked for if all were.
    pub next: i64,
}

/// How much history is read at once.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimit {
    /// Revisions looked at.
    pub revisions_max: usize,
    /// Bytes of wanted events after which no further revision is begun.
    pub bytes_max: usize,
}

/// Reads the events of the revisions `from..=to` on the keys that are `wanted`. A revision is read
/// whole or not at all (WATCH-2).
pub fn read_history(
    state: &dyn StateView,
    from: i64,
    to: i64,
    limit: HistoryLimit,
    wanted: &dyn Fn(&[u8]) -> bool,
) -> Result<History, StateError> {
    let mut revisions: Vec<RevisionEvents> = Vec::new();
    let mut next = to.saturating_add(1);
    let (mut looked, mut bytes, mut current) = (0, 0, None);
    let mut failed = None;
    let end = Row::first_key_of(next);
    let from = Row::first_key_of(from);
    state.scan_rows(Wanted::Heads, &from, Some(&end), &mut |key, head| {
        let Some(row) = Row::parse(key) else {
            failed = Some(StateError(format!("not a row's key: {key:?}")));
            return ControlFlow::Break(());
        };
        if current != Some(row.main) {
            if looked >= limit.revisions_max || bytes >= limit.bytes_max {
                next = row.main;
                return ControlFlow::Break(());
            }
            looked += 1;
            current = Some(row.main);
        }
        if !record_key(head).is_some_and(wanted) {
            return ControlFlow::Continue(());
        }
        match event(state, row, head) {
            Ok(Some((event, record_bytes))) => {
                bytes += record_bytes;
                push(&mut revisions, row.main, event);
            }
            Ok(None) => {}
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(History { revisions, next }),
    }
}

fn push(revisions: &mut Vec<RevisionEvents>, revision: i64, event: Event) {
    match revisions.last_mut() {
        Some(last) if last.revision == revision => last.events.push(event),
        _ => revisions.push(RevisionEvents {
            revision,
            events: vec![event],
            previous_left_out: true,
        }),
    }
}

/// The event of a row, by its record or the head of it, and the record's size; `None` if a
/// compaction has removed the record meanwhile.
fn event(
    state: &dyn StateView,
    row: Row,
    head: &[u8],
) -> Result<Option<(Event, usize)>, StateError> {
    let record = if is_record_head(head) {
        state.get_record(&row.key(), true)?
    } else {
        Some(Bytes::copy_from_slice(head))
    };
    let Some(record) = record else {
        // Nothing but a compaction removes one, and it says so before.
        let compacted = meta::read_i64(state, meta::COMPACT_SCHEDULED)?;
        return match compacted {
            Some(revision) if row.main <= revision => Ok(None),
            _ => Err(StateError(format!("no record of {row:?}, which has a head"))),
        };
    };
    let bytes = record.len();
    let kv = decode(record)?;
    if row.tombstone {
        return Ok(Some((deletion(kv.key, row.main), bytes)));
    }
    Ok(Some((Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None }, bytes)))
}

/// The event of a deletion: nothing but the key and the revision.
pub(super) fn deletion(key: Bytes, revision: i64) -> Event {
    let kv = KeyValue { key, mod_revision: revision, ..Default::default() };
    Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None }
}

/// Which rows hold the previous values of events.
#[derive(Debug)]
pub struct PreviousPlan(Vec<(usize, usize, Row)>);

impl Mvcc {
    /// Finds the rows of the events' previous values, as far as they are not compacted.
    pub(crate) fn plan_previous(&self, revisions: &[RevisionEvents]) -> PreviousPlan {
        let mut plan = Vec::new();
        for (at, revision) in revisions.iter().enumerate() {
            let before = revision.revision - 1;
            if before < self.compacted_revision() {
                continue;
            }
            for (place, event) in revision.events.iter().enumerate() {
                let Some(kv) = &event.kv else { continue };
                let created =
                    event.r#type() == EventType::Put && kv.create_revision == kv.mod_revision;
                if let Some(row) = self.index.row_at(&kv.key, before).filter(|_| !created) {
                    plan.push((at, place, row));
                }
            }
        }
        PreviousPlan(plan)
    }
}

impl PreviousPlan {
    /// Reads the previous values into the events, at most about `bytes_max` of them; one beyond
    /// that, or that a compaction has removed, stays absent. Returns how many were beyond it.
    pub fn fetch(
        self,
        state: &dyn StateView,
        revisions: &mut [RevisionEvents],
        bytes_max: usize,
    ) -> Result<usize, StateError> {
        for revision in &mut *revisions {
            revision.previous_left_out = false;
        }
        let (mut bytes, mut read) = (0, 0);
        for chunk in self.0.chunks(PREVIOUS_ROWS) {
            if bytes >= bytes_max {
                break;
            }
            read += chunk.len();
            let rows: Vec<Row> = chunk.iter().map(|(_, _, row)| *row).collect();
            for ((at, place, _), record) in chunk.iter().zip(state.records(&rows)?) {
                if let Some(record) = record {
                    bytes += record.len();
                    revisions[*at].events[*place].prev_kv = Some(decode(record)?);
                }
            }
        }
        Ok(self.0.len() - read)
    }
}

/// Previous values read at once.
const PREVIOUS_ROWS: usize = 64;

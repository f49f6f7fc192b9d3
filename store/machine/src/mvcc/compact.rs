//! Compaction: making old revisions unreadable at once, and removing them bit by bit.
//!
//! Owns: which revision is compacted, and the cursor of the removal. Must not know: pauses and
//! tasks; the caller drives the steps. A newcomer's trap: a compaction counts from the moment it
//! is applied, before a single row is gone; after a restart the removal starts over, which is safe
//! because the index is rebuilt from the rows that are left.

use super::store::Mvcc;
use crate::error::Error;
use crate::meta;
use crate::outcome::CompactStep;
use crate::state::{StateBatch, StateError, StateReader, Table};

/// No compaction yet.
const NEVER: i64 = -1;
/// Keys looked at in one step for each row it may drop, so that a step over keys with nothing to
/// drop ends too.
const KEYS_PER_ROW: usize = 16;

/// How far compaction got.
#[derive(Debug)]
pub(super) struct Compaction {
    scheduled: i64,
    finished: i64,
    pass: Option<Pass>,
}

/// One walk over the whole index.
#[derive(Debug)]
struct Pass {
    revision: i64,
    next: Box<[u8]>,
}

impl Compaction {
    pub(super) fn open(state: &dyn StateReader) -> Result<Self, StateError> {
        let scheduled = meta::read_i64(state, meta::COMPACT_SCHEDULED)?.unwrap_or(NEVER);
        let finished = meta::read_i64(state, meta::COMPACT_FINISHED)?.unwrap_or(NEVER);
        Ok(Self { scheduled, finished, pass: None })
    }

    pub(super) fn scheduled(&self) -> i64 {
        self.scheduled
    }
}

impl Mvcc {
    /// The revision of the last compaction asked for; it is still readable itself.
    pub(crate) fn compacted_revision(&self) -> i64 {
        self.compaction.scheduled
    }

    /// The revision up to which everything superseded is gone.
    pub(crate) fn compaction_finished(&self) -> i64 {
        self.compaction.finished
    }

    /// Makes everything before `revision` unreadable.
    pub(crate) fn schedule_compaction(
        &mut self,
        revision: i64,
        batch: &mut StateBatch,
    ) -> Result<(), Error> {
        if revision <= self.compaction.scheduled {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compaction.scheduled = revision;
        meta::put_i64(batch, meta::COMPACT_SCHEDULED, revision);
        Ok(())
    }

    /// Removes at most `rows_max` superseded rows.
    pub(crate) fn compact_step(&mut self, rows_max: usize) -> Option<CompactStep> {
        let Compaction { scheduled, finished, pass } = &mut self.compaction;
        if finished >= scheduled {
            return None;
        }
        let pass = pass.get_or_insert_with(|| Pass { revision: *scheduled, next: Box::default() });
        let step = self.index.compact(
            pass.revision,
            &pass.next,
            rows_max,
            rows_max.saturating_mul(KEYS_PER_ROW),
        );
        let mut state = StateBatch::default();
        for row in step.dropped {
            state.delete(Table::Key, row.key());
        }
        if let Some(next) = step.next {
            pass.next = next;
            return Some(CompactStep { state, done: false });
        }
        *finished = pass.revision;
        meta::put_i64(&mut state, meta::COMPACT_FINISHED, *finished);
        let done = finished >= scheduled;
        self.compaction.pass = None;
        Some(CompactStep { state, done })
    }
}

//! What waits to be written to the log, and who writes it.
//!
//! Owns: the queue of jobs, the turns of those that write, and the entries in memory beside them.
//! Must not know: how a batch is written, see [`super::writer`]. A newcomer's trap: whoever takes a
//! batch writes alone until [`Shared::end_turn`], so that what is written keeps the order of calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kijabi_base::limits;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::frame::{self, ENTRY_PREFIX_BYTES, Record};
use super::memory::{Memory, Place};
use super::writer::Job;
use super::{Callback, LogId, WalError, WalOptions, Writes};
use crate::vfs::Vfs;

/// A sync that takes no longer costs less than waking a thread twice.
const QUICK_SYNC: Duration = Duration::from_micros(50);
/// A sync that takes no longer costs about what waking a thread twice does.
const FAIR_SYNC: Duration = Duration::from_micros(400);
/// So many of them in a row, and the disk is believed to be quick; one that is slower ends it.
const QUICK_SYNCS_MIN: u32 = 64;
/// More bytes go to the writer's thread, however quick the disk is.
const AT_ONCE_BYTES_MAX: usize = 64 << 10;
/// More bytes than a few small requests have go to the writer's thread if a sync takes its time.
const LITTLE_BYTES_MAX: usize = 1 << 10;

/// Bytes of a record that names an entry only.
const ENTRY_ID_BYTES: usize = 16;

/// What the callers and the writer share.
pub(super) struct Shared {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) dir: PathBuf,
    pub(super) options: WalOptions,
    pub(super) inner: Mutex<Inner>,
    pub(super) wake: Condvar,
}

pub(super) struct Inner {
    pub(super) memory: Memory,
    pub(super) jobs: Vec<Job>,
    /// Jobs that somebody waits for; the others are written along with them.
    pub(super) urgent: usize,
    /// Whether somebody writes; nobody else does then.
    pub(super) writing: bool,
    /// Syncs in a row that took next to no time.
    quick_syncs: u32,
    /// Syncs in a row that took no longer than waking a thread for each.
    fair_syncs: u32,
    /// Whether entries are sent to others once they were handed over.
    pub(super) replicates: bool,
    pub(super) closed: bool,
    pub(super) failed: Option<Arc<str>>,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(vfs: Arc<dyn Vfs>, dir: &Path, options: WalOptions, memory: Memory) -> Self {
        let inner = Inner::new(memory);
        let (dir, inner) = (dir.to_owned(), Mutex::new(inner));
        Self { vfs, dir, options, inner, wake: Condvar::new() }
    }

    pub(super) fn lock(&self) -> Result<MutexGuard<'_, Inner>, WalError> {
        let inner = self.inner.lock();
        match &inner.failed {
            Some(why) => Err(WalError::Failed(Arc::clone(why))),
            None if inner.closed => Err(WalError::Closed),
            None => Ok(inner),
        }
    }

    /// A frame above the limit could be written but would be taken for corruption when it is read.
    pub(super) fn check_size(&self, index: u64, bytes: usize) -> Result<(), WalError> {
        let bytes_max = self.options.frame_bytes_max;
        if bytes > bytes_max {
            return Err(WalError::TooLarge { index, bytes, bytes_max });
        }
        Ok(())
    }

    pub(super) fn submit(&self, inner: &mut Inner, job: Job) {
        let urgent = job.durable.is_some();
        inner.jobs.push(job);
        if urgent {
            inner.urgent += 1;
            self.wake.notify_one();
        }
    }

    /// Waits for a job somebody waits for; gives all there are, up to a batch's size. `None` once
    /// the log is closed and everything is written.
    pub(super) fn take_jobs(&self) -> Option<Vec<Job>> {
        let mut inner = self.inner.lock();
        while inner.writing || (inner.urgent == 0 && !inner.closed) {
            self.wake.wait(&mut inner);
        }
        if inner.jobs.is_empty() || inner.failed.is_some() {
            return None;
        }
        Some(inner.take_batch())
    }

    /// Lets the next one write.
    pub(super) fn end_turn(&self) {
        let mut inner = self.inner.lock();
        inner.writing = false;
        if inner.urgent > 0 || inner.closed {
            self.wake.notify_one();
        }
    }

    /// A sync took this long.
    pub(super) fn synced(&self, took: Duration) {
        let mut inner = self.inner.lock();
        let count = |before: u32, most| if took <= most { before.saturating_add(1) } else { 0 };
        inner.quick_syncs = count(inner.quick_syncs, QUICK_SYNC);
        inner.fair_syncs = count(inner.fair_syncs, FAIR_SYNC);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.inner.lock().urgent == 0
    }

    pub(super) fn placed(&self, places: Vec<(u64, u64, Place)>) {
        let mut inner = self.inner.lock();
        for (index, stamp, place) in places {
            inner.memory.placed(index, stamp, place);
        }
        inner.memory.evict();
    }

    /// Answers everybody who waits, and everybody who will ask.
    pub(super) fn fail(&self, error: &WalError, unfinished: Vec<Job>) {
        let why: Arc<str> = error.to_string().into();
        let waiting = {
            let mut inner = self.inner.lock();
            inner.failed = Some(Arc::clone(&why));
            std::mem::take(&mut inner.jobs)
        };
        for job in unfinished.into_iter().chain(waiting) {
            if let Some(durable) = job.durable {
                durable(Err(WalError::Failed(Arc::clone(&why))));
            }
        }
    }

    pub(super) fn read_place(&self, place: &Place, id: LogId) -> Result<Bytes, WalError> {
        let segment = &place.segment;
        let payload = ENTRY_PREFIX_BYTES + place.data_bytes as usize;
        let mut bytes = vec![0; frame::FRAME_HEADER_BYTES + payload];
        segment
            .file
            .read_at(u64::from(place.offset), &mut bytes)
            .map_err(|error| WalError::io(&segment.path, error))?;
        let frame =
            frame::decode(&bytes.into(), 0, Some(segment.salt), self.options.frame_bytes_max);
        match frame.map(|frame| frame.record) {
            Some(Record::Entry(entry)) if entry.id == id => Ok(entry.data),
            _ => {
                let what = format!("entry {} is not there any more", id.index);
                Err(WalError::corrupt(&segment.path, u64::from(place.offset), what))
            }
        }
    }
}

// === impl Inner ===

impl Inner {
    fn new(memory: Memory) -> Self {
        Self {
            memory,
            jobs: Vec::new(),
            urgent: 0,
            writing: false,
            quick_syncs: 0,
            fair_syncs: 0,
            replicates: false,
            closed: false,
            failed: None,
        }
    }

    /// The caller writes what it has just added if nobody else writes, and the disk is so quick
    /// that telling the writer's thread would take longer.
    pub(super) fn who_writes(&self) -> Writes {
        let bytes: usize = self.jobs.iter().map(|job| job.bytes).sum();
        let quick = self.quick_syncs >= QUICK_SYNCS_MIN;
        // Little was asked, so there is little to do meanwhile.
        let little = bytes <= LITTLE_BYTES_MAX && (quick || self.fair_syncs >= QUICK_SYNCS_MIN);
        match (self.writing || self.urgent > 1, self.replicates) {
            (true, _) => Writes::Thread,
            (false, true) if little => Writes::CallerSoon,
            (false, false) if little => Writes::CallerNow,
            (false, _) if quick && bytes <= AT_ONCE_BYTES_MAX => Writes::CallerNow,
            (false, _) => Writes::Thread,
        }
    }

    /// Takes what is waiting, up to a batch's size, to be written by whoever calls.
    pub(super) fn take_batch(&mut self) -> Vec<Job> {
        let mut bytes = 0;
        let fitting = self.jobs.iter().take_while(|job| {
            let fits = bytes == 0 || bytes + job.bytes <= limits::LOG_WRITE_BATCH_BYTES_MAX;
            bytes += job.bytes;
            fits
        });
        let count = fitting.count();
        let batch: Vec<Job> = self.jobs.drain(..count).collect();
        self.urgent -= batch.iter().filter(|job| job.durable.is_some()).count();
        self.writing = true;
        batch
    }
}

impl Job {
    pub(super) fn of(record: Record, durable: Option<Callback>) -> Self {
        let payload = match &record {
            Record::Vote(vote) => vote.len(),
            _ => ENTRY_ID_BYTES,
        };
        let bytes = frame::frame_bytes(payload);
        Self { records: vec![record], stamps: Vec::new(), bytes, durable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_depends_on_the_disk_on_how_much_and_on_who_else_waits() {
        let many = QUICK_SYNCS_MIN;
        use Writes::{CallerNow as Now, CallerSoon as Soon, Thread};
        // (quick syncs, fair syncs, replicates, bytes): who writes.
        for (quick, fair, replicates, bytes, writes) in [
            (0, 0, false, 10, Thread),
            (many, many, false, 10, Now),
            (many, many, true, AT_ONCE_BYTES_MAX, Now),
            (many, many, false, AT_ONCE_BYTES_MAX + 1, Thread),
            (many, many, true, LITTLE_BYTES_MAX, Soon),
            (many - 1, many, false, LITTLE_BYTES_MAX, Now),
            (0, many, false, LITTLE_BYTES_MAX + 1, Thread),
            (0, many, true, 10, Soon),
            (0, many, true, LITTLE_BYTES_MAX + 1, Thread),
            (0, many - 1, false, 10, Thread),
        ] {
            let (jobs, memory) = (vec![Job { bytes, ..Job::default() }], Memory::default());
            let mut inner = Inner {
                jobs,
                urgent: 1,
                quick_syncs: quick,
                fair_syncs: fair,
                replicates,
                ..Inner::new(memory)
            };
            let what = format!("{quick} {fair} {replicates} {bytes}");
            assert_eq!(inner.who_writes(), writes, "{what}");
            inner.writing = true;
            assert_eq!(inner.who_writes(), Thread, "{what}: somebody writes");
        }
    }
}

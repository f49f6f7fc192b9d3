//! Writing the Raft log: on a thread of its own, or on the caller's while the disk is quick.
//!
//! Owns: group commit, rotation, removal of purged segments. Must not know: what entries hold. A
//! newcomer's trap: there is no timer. While one sync runs, requests collect; the next batch is
//! whatever has collected, so an idle log answers at once and a busy one syncs in large batches.

use std::sync::Arc;

use super::Callback;
use super::error::WalError;
use super::frame::{self, Record};
use super::memory::Place;
use super::queue::Shared;
use super::segment::{self, HardState, Segment};

/// Room that was reserved and never written costs a sync more than room that was: the file system
/// has to note that it holds something now, and other files' syncs wait for that, too. So a small
/// batch that comes to such room fills it with zeros up to the next multiple of this.
const ZEROED_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 256 << 10 };
/// A batch of more bytes does not: it would soon be there again.
const ZEROED_FOR_BYTES_MAX: usize = if cfg!(test) { 512 } else { 16 << 10 };

/// One request to the writer, in the order of the log (WAL-2).
#[derive(Default)]
pub(crate) struct Job {
    pub(crate) records: Vec<Record>,
    /// The stamps of the entries among the records, in their order.
    pub(crate) stamps: Vec<u64>,
    pub(crate) bytes: usize,
    pub(crate) durable: Option<Callback>,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// Oldest first, each with the greatest index it has ever held.
    segments: Vec<(Arc<Segment>, Option<u64>)>,
    offset: u64,
    /// Where the room begins that was never written.
    reserved: u64,
    /// Everything before this offset is durable. Frames say so: see `frame.rs`.
    durable: u64,
    /// What the written records amount to; the memory may be ahead of it.
    written: HardState,
    buffer: Vec<u8>,
}

/// Ends the log if whoever writes panics.
struct Panics<'a>(&'a Shared);

impl Drop for Panics<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = WalError::Failed("the raft log's writer panicked".into());
            self.0.fail(&error, Vec::new());
        }
    }
}

// === impl Writer ===

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        segments: Vec<(Arc<Segment>, Option<u64>)>,
        offset: u64,
        written: HardState,
    ) -> Self {
        let (reserved, durable) = (offset, offset);
        Self { shared, segments, offset, reserved, durable, written, buffer: Vec::new() }
    }

    /// Writes a batch and answers those who wait for it. A write that fails ends the log.
    pub(crate) fn turn(&mut self, mut jobs: Vec<Job>) {
        let shared = Arc::clone(&self.shared);
        let _ends = Panics(&shared);
        if let Err(error) = self.write_batch(&mut jobs) {
            tracing::error!(%error, "the raft log cannot be written; the member must stop");
            // After a failed sync nobody knows what is on disk, and a second sync may lie
            // about it: never try again.
            self.shared.fail(&error, jobs);
            return;
        }
        // Invariant (WAL-1): answered only now, after the sync.
        for job in jobs {
            if let Some(durable) = job.durable {
                durable(Ok(()));
            }
        }
        if let Err(error) = self.after_batch() {
            tracing::error!(%error, "the raft log cannot be written; the member must stop");
            self.shared.fail(&error, Vec::new());
        }
    }

    fn write_batch(&mut self, jobs: &mut [Job]) -> Result<(), WalError> {
        let bytes: usize = jobs.iter().map(|job| job.bytes).sum();
        if self.offset + bytes as u64 > self.shared.options.segment_bytes
            && self.offset > segment::FIRST_WRITE_BYTES as u64
        {
            self.rotate()?;
        }
        let (segment, greatest) = self.segments.last_mut().expect("there is always one");
        let segment = Arc::clone(segment);
        let start = self.offset as u32;
        let mut places = Vec::new();
        self.buffer.clear();
        for job in jobs.iter_mut() {
            let mut stamps = job.stamps.iter();
            for record in std::mem::take(&mut job.records) {
                let offset = start + self.buffer.len() as u32;
                frame::encode(&mut self.buffer, segment.salt, self.durable as u32, &record);
                match record {
                    Record::Entry(entry) => {
                        let stamp = *stamps.next().expect("one stamp for each entry");
                        let data_bytes = entry.data.len() as u32;
                        let segment = Arc::clone(&segment);
                        *greatest = (*greatest).max(Some(entry.id.index));
                        places.push((entry.id.index, stamp, Place { segment, offset, data_bytes }));
                    }
                    Record::Vote(vote) => self.written.vote = Some(vote),
                    Record::Purge(id) => self.written.purged = Some(id),
                    Record::Commit(id) => self.written.committed = Some(id),
                    _ => {}
                }
            }
        }
        self.write_ahead(&segment)?;
        self.sync(&segment)?;
        self.shared.placed(places);
        Ok(())
    }

    fn write(&mut self, segment: &Segment) -> Result<(), WalError> {
        let end = self.offset + self.buffer.len() as u64;
        self.write_to(segment, end)
    }

    /// Writes what is to be synced, and zeros where that makes later syncs cheaper.
    fn write_ahead(&mut self, segment: &Segment) -> Result<(), WalError> {
        let end = self.offset + self.buffer.len() as u64;
        if end > self.reserved && self.buffer.len() <= ZEROED_FOR_BYTES_MAX {
            let zeroed = end.next_multiple_of(ZEROED_BYTES).min(self.shared.options.segment_bytes);
            self.buffer.resize((zeroed.max(end) - self.offset) as usize, 0);
        }
        self.write_to(segment, end)
    }

    /// Writes the buffer; what follows goes to `end`.
    fn write_to(&mut self, segment: &Segment, end: u64) -> Result<(), WalError> {
        segment
            .file
            .write_at(self.offset, &self.buffer)
            .map_err(|error| WalError::io(&segment.path, error))?;
        self.reserved = self.reserved.max(self.offset + self.buffer.len() as u64);
        self.offset = end;
        Ok(())
    }

    fn sync(&mut self, segment: &Segment) -> Result<(), WalError> {
        let started = kijabi_base::clock::now();
        segment.file.sync_data().map_err(|error| WalError::io(&segment.path, error))?;
        self.durable = self.offset;
        let took = started.elapsed();
        self.shared.synced(took);
        (self.shared.options.on_sync)(self.buffer.len(), took);
        Ok(())
    }

    /// Seals the segment and begins the next one. Everything in the old one is durable already.
    fn rotate(&mut self) -> Result<(), WalError> {
        let old = self.current();
        self.buffer.clear();
        frame::encode(&mut self.buffer, old.salt, self.durable as u32, &Record::Seal);
        self.write(&old)?;
        self.sync(&old)?;
        let Shared { vfs, dir, options, .. } = &*self.shared;
        let (segment, offset) =
            segment::create(&**vfs, dir, old.sequence + 1, &self.written, options)?;
        self.segments.push((Arc::new(segment), None));
        (self.offset, self.reserved, self.durable) = (offset, offset, offset);
        Ok(())
    }

    fn after_batch(&mut self) -> Result<(), WalError> {
        self.remove_purged();
        if self.shared.is_idle() {
            // Not synced: it only has to survive what leaves the disk's content intact, and then
            // it tells a flipped bit in the last batch from a torn write.
            let segment = self.current();
            self.buffer.clear();
            frame::encode(&mut self.buffer, segment.salt, self.durable as u32, &Record::Synced);
            self.write(&segment)?;
        }
        Ok(())
    }

    fn current(&self) -> Arc<Segment> {
        Arc::clone(&self.segments.last().expect("there is always one").0)
    }

    /// Removes segments whose entries are all purged, oldest first. The purge itself is durable.
    fn remove_purged(&mut self) {
        let Some(purged) = self.written.purged else { return };
        let removable = self
            .segments
            .iter()
            .take_while(|(_, greatest)| greatest.is_none_or(|index| index <= purged.index))
            .count();
        // The last segment is the one written to.
        let removable = removable.min(self.segments.len() - 1);
        for (segment, _) in self.segments.drain(..removable) {
            if let Err(error) = self.shared.vfs.remove(&segment.path) {
                tracing::warn!(path = %segment.path.display(), %error, "cannot remove a segment");
            }
        }
        if removable > 0
            && let Err(error) = self.shared.vfs.sync_dir(&self.shared.dir)
        {
            tracing::warn!(%error, "cannot sync the raft log's folder");
        }
    }
}

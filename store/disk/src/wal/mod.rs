//! The Raft log: votes and entries in one ordered, segmented, checksummed write-ahead log.
//!
//! Owns: durability of what Raft must not forget. Must not know: Raft's rules, or what an entry or
//! a vote holds. A newcomer's trap: [`Wal::append`] returns before anything is durable; only the
//! callback says that it is (WAL-1). Everything is written in the order of the calls (WAL-2).

#[cfg(test)]
mod damage;
mod error;
mod frame;
mod memory;
mod queue;
mod recover;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use kijabi_base::limits;
use parking_lot::{Mutex, MutexGuard};

pub use error::WalError;
use frame::{ENTRY_PREFIX_BYTES, Record};
use memory::Found;
use queue::{Inner, Shared};
use writer::{Job, Writer};

use crate::vfs::Vfs;

/// The place of an entry in the log: under one term there is one leader, so this names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    /// The leader's term.
    pub term: u64,
    /// The index.
    pub index: u64,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub id: LogId,
    /// What its data is, decided by the caller.
    pub kind: u8,
    /// Its data, verbatim.
    pub data: Bytes,
}

/// Called once a write is durable, or has failed. Runs on the writer's thread, or inside of
/// [`Wal::append`] or [`Wal::write`] if the disk is quick: it must neither block nor call the log.
pub type Callback = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// Who makes entries durable that were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Writes {
    /// The log's own thread.
    Thread,
    /// The caller has done it.
    CallerNow,
    /// The caller, by [`Wal::write`], once it has sent them to others: that takes no time, and what
    /// they do then goes on meanwhile. What is added before that is written by the thread, and
    /// these with it.
    CallerSoon,
}

/// Called after each sync with the bytes written and the time the sync took.
pub type SyncObserver = Arc<dyn Fn(usize, Duration) + Send + Sync>;

/// How the log is kept.
#[derive(Clone)]
pub struct WalOptions {
    /// Size of one file.
    pub segment_bytes: u64,
    /// Bytes of recent entries kept in memory.
    pub cache_bytes_max: usize,
    /// Largest frame that is believed when reading.
    pub frame_bytes_max: usize,
    /// Told about each sync.
    pub on_sync: SyncObserver,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: limits::LOG_SEGMENT_BYTES,
            cache_bytes_max: limits::LOG_CACHE_BYTES_MAX,
            frame_bytes_max: limits::LOG_FRAME_BYTES_MAX,
            on_sync: Arc::new(|_, _| {}),
        }
    }
}

/// The Raft log. Cloning shares; [`Wal::close`], or dropping the last clone, ends the writer.
#[derive(Clone)]
pub struct Wal(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Writer>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

// === impl Wal ===

impl Wal {
    /// Opens the log in `dir`, or begins one. Repairs what a crash may leave; what was acknowledged
    /// and is damaged is an error.
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, options: WalOptions) -> Result<Self, WalError> {
        let recover::Recovered { mut memory, segments, offset } =
            recover::recover(&*vfs, dir, &options)?;
        memory.evict();
        let written = memory.hard.clone();
        let shared = Arc::new(Shared::new(vfs, dir, options, memory));
        let writer = Writer::new(Arc::clone(&shared), segments, offset, written);
        let writer = Arc::new(Mutex::new(writer));
        let (jobs, writes) = (Arc::clone(&shared), Arc::clone(&writer));
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || {
                while let Some(batch) = jobs.take_jobs() {
                    writes.lock().turn(batch);
                    jobs.end_turn();
                }
            })
            .map_err(|error| WalError::io(dir, error))?;
        Ok(Self(Arc::new(Handle { shared, writer, thread: Mutex::new(Some(thread)) })))
    }

    /// Adds entries at the end. They are readable when this returns, and durable when `durable` is
    /// called. All of them are taken or, with an error, none. If the caller is to write them soon,
    /// it has to call [`Wal::write`].
    pub fn append(&self, entries: Vec<LogEntry>, durable: Callback) -> Result<Writes, WalError> {
        let mut inner = self.0.shared.lock()?;
        for entry in &entries {
            self.0.shared.check_size(entry.id.index, ENTRY_PREFIX_BYTES + entry.data.len())?;
        }
        inner.memory.check_order(&entries)?;
        let mut job = Job::default();
        for entry in entries {
            let bytes = frame::frame_bytes(ENTRY_PREFIX_BYTES + entry.data.len());
            // One sync may cover many small entries, but the buffer it is written from is bounded.
            if job.bytes > 0 && job.bytes + bytes > limits::LOG_WRITE_BATCH_BYTES_MAX {
                self.0.shared.submit(&mut inner, std::mem::take(&mut job));
            }
            job.stamps.push(inner.memory.push(&entry, None)?);
            job.bytes += bytes;
            job.records.push(Record::Entry(entry));
        }
        inner.jobs.push(Job { durable: Some(durable), ..job });
        inner.urgent += 1;
        let writes = inner.who_writes();
        match writes {
            Writes::Thread => {
                self.0.shared.wake.notify_one();
            }
            Writes::CallerNow => self.write_with(inner),
            Writes::CallerSoon => {}
        }
        Ok(writes)
    }

    /// Writes what [`Wal::append`] has left to the caller, unless somebody else has by now.
    pub fn write(&self) {
        let inner = self.0.shared.inner.lock();
        if inner.urgent > 0 && !inner.writing && inner.failed.is_none() {
            self.write_with(inner);
        }
    }

    fn write_with(&self, mut inner: MutexGuard<'_, Inner>) {
        let batch = inner.take_batch();
        drop(inner);
        self.0.writer.lock().turn(batch);
        self.0.shared.end_turn();
    }

    /// Whether entries are sent to others once they were handed over: a sync that takes its time
    /// then happens beside that.
    pub fn set_replicates(&self, replicates: bool) {
        self.0.shared.inner.lock().replicates = replicates;
    }

    /// Replaces the vote. It is readable when this returns, and durable when `durable` is called;
    /// without that, nobody waits for it: it is written with what follows.
    pub fn save_vote(&self, vote: Bytes, durable: Option<Callback>) -> Result<(), WalError> {
        let mut inner = self.0.shared.lock()?;
        // Every segment begins with it.
        let (bytes, bytes_max) = (vote.len(), segment::VOTE_BYTES_MAX);
        if bytes > bytes_max {
            return Err(WalError::TooLarge { index: 0, bytes, bytes_max });
        }
        inner.memory.hard.vote = Some(vote.clone());
        self.0.shared.submit(&mut inner, Job::of(Record::Vote(vote), durable));
        Ok(())
    }

    /// Notes how far the log is committed. Nobody waits for it: it is written with what follows.
    pub fn save_committed(&self, id: LogId) -> Result<(), WalError> {
        let mut inner = self.0.shared.lock()?;
        inner.memory.hard.committed = Some(id);
        match inner.jobs.last_mut() {
            // Only the last one of several counts.
            Some(Job { records, durable: None, .. })
                if matches!(records[..], [Record::Commit(_)]) =>
            {
                records[0] = Record::Commit(id);
            }
            _ => self.0.shared.submit(&mut inner, Job::of(Record::Commit(id), None)),
        }
        Ok(())
    }

    /// Removes the entries from `from` on. Durable before anything that is appended later.
    pub fn truncate_from(&self, from: u64) -> Result<(), WalError> {
        let mut inner = self.0.shared.lock()?;
        inner.memory.truncate(from);
        self.0.shared.submit(&mut inner, Job::of(Record::Truncate { from }, None));
        Ok(())
    }

    /// Removes the entries up to `upto`, inclusive, and the files that held nothing else.
    pub fn purge(&self, upto: LogId) -> Result<(), WalError> {
        let mut inner = self.0.shared.lock()?;
        inner.memory.purge(upto);
        self.0.shared.submit(&mut inner, Job::of(Record::Purge(upto), Some(Box::new(|_| {}))));
        Ok(())
    }

    /// As [`Wal::read`], if all of them are in memory.
    pub fn read_cached(&self, range: Range<u64>, bytes_max: usize) -> Option<Vec<LogEntry>> {
        let found = self.0.shared.inner.lock().memory.read(range.start, range.end, bytes_max);
        let cached = |found| match found {
            Found::Cached(entry) => Some(entry),
            Found::OnDisk(..) => None,
        };
        found.into_iter().map(cached).collect()
    }

    /// The entries with an index in `range`, as far as they exist, at most `bytes_max` of data but
    /// at least one. Older ones are read from disk.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, WalError> {
        let found = self.0.shared.inner.lock().memory.read(range.start, range.end, bytes_max);
        found
            .into_iter()
            .map(|found| match found {
                Found::Cached(entry) => Ok(entry),
                Found::OnDisk(id, kind, place) => {
                    self.0.shared.read_place(&place, id).map(|data| LogEntry { id, kind, data })
                }
            })
            .collect()
    }

    /// The last saved vote.
    pub fn vote(&self) -> Option<Bytes> {
        self.0.shared.inner.lock().memory.hard.vote.clone()
    }

    /// The last noted commit.
    pub fn committed(&self) -> Option<LogId> {
        self.0.shared.inner.lock().memory.hard.committed
    }

    /// The last purged entry.
    pub fn purged(&self) -> Option<LogId> {
        self.0.shared.inner.lock().memory.hard.purged
    }

    /// The last entry, or the purged one if there is none.
    pub fn last(&self) -> Option<LogId> {
        self.0.shared.inner.lock().memory.last()
    }

    /// The last entry of a term before `term`, or the purged one if there is none.
    pub fn last_before(&self, term: u64) -> Option<LogId> {
        self.0.shared.inner.lock().memory.last_before(term)
    }

    /// Whether there is this entry, or it is the purged one.
    pub fn has(&self, id: LogId) -> bool {
        self.0.shared.inner.lock().memory.has(id)
    }

    /// Writes what is waiting and ends the writer.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.inner.lock().closed = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the raft log's writer panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

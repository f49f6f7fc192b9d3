//! Raft's log on the write-ahead log of `kijabi-disk`.
//!
//! Owns: the adapter. Must not know: files. A newcomer's trap: `append` only hands over; the
//! callback comes after the sync (WAL-1), from the log's own thread, or before `append` returns.
//! `save_vote` waits for it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::Stream;
use kijabi_base::tasks;
use kijabi_disk::wal::{Wal, WalError, Writes};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{Notify, oneshot, watch};

use super::types::{Entry, LogId, TypeConfig, Vote, decode, encode, from_disk, from_disk_id};
use super::types::{to_disk, to_disk_id};
use crate::crew;
use crate::limits::REPLICATION_MESSAGE_BYTES;

/// Bytes of entries read from the log at once when there is a choice.
const READ_BYTES_MAX: usize = REPLICATION_MESSAGE_BYTES;

/// The log. Cloning shares.
#[derive(Clone)]
pub(crate) struct LogStore {
    wal: Wal,
    /// The last entry that Raft has appended.
    appended: Arc<watch::Sender<Option<u64>>>,
    /// There is something to write once it was sent.
    unwritten: Arc<Notify>,
}

// === impl LogStore ===

impl LogStore {
    pub(crate) fn new(wal: Wal) -> Self {
        let appended = Arc::new(watch::Sender::new(wal.last().map(|id| id.index)));
        Self { wal, appended, unwritten: Arc::default() }
    }

    /// Changes with what Raft appends, to tell that there is something to send.
    pub(super) fn appended(&self) -> watch::Receiver<Option<u64>> {
        self.appended.subscribe()
    }

    /// Writes entries in Raft's task once they were sent, if the log leaves them to it.
    pub(super) async fn write_after_sending(self) {
        loop {
            self.unwritten.notified().await;
            crew::later().await;
            self.wal.write();
        }
    }

    pub(crate) fn last_index(&self) -> Option<u64> {
        self.wal.last().map(|id| id.index)
    }

    /// The last entry of a term before `term`, if there is one.
    pub(crate) fn last_before(&self, term: u64) -> Option<LogId> {
        self.wal.last_before(term).map(from_disk_id)
    }

    /// Whether the log has that entry, or it was the last one that was purged.
    pub(crate) fn has(&self, id: &LogId) -> bool {
        self.wal.has(to_disk_id(id))
    }

    /// Raft's task does not wait for the disk: entries that are not in memory are read beside.
    async fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let entries = match self.wal.read_cached(range.clone(), bytes_max) {
            Some(entries) => entries,
            None => {
                let wal = self.wal.clone();
                let read = tasks::blocking(move || wal.read(range, bytes_max)).await;
                read.map_err(io::Error::other)?.map_err(to_io)?
            }
        };
        entries.into_iter().map(from_disk).collect()
    }
}

fn to_io(error: WalError) -> io::Error {
    io::Error::other(error)
}

fn to_range(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read(to_range(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, READ_BYTES_MAX).await
    }

    /// In pieces, so that a long catch-up does not hold the whole log in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let pieces = futures::stream::try_unfold(
            (self.clone(), to_range(&range)),
            |(log, rest)| async move {
                let piece = log.read(rest.clone(), READ_BYTES_MAX).await?;
                let Some(last) = piece.last() else { return Ok(None) };
                let next = last.log_id.index + 1..rest.end;
                let piece = futures::stream::iter(piece.into_iter().map(Ok));
                io::Result::Ok(Some((piece, (log, next))))
            },
        );
        Box::pin(futures::TryStreamExt::try_flatten(pieces))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.wal.vote().map(|vote| decode(&vote)).transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: self.wal.purged().map(from_disk_id),
            last_log_id: self.wal.last().map(from_disk_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    /// A vote that was given must not be forgotten. That a quorum has given it too may be: whoever
    /// restarts without it learns it again from the leader, and the first entry of the leader that
    /// becomes durable makes it durable before. That saves each member a sync in each election.
    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let given = self.read_vote().await?;
        if vote.committed && given.is_some_and(|given| given.leader_id == vote.leader_id) {
            return self.wal.save_vote(encode(vote)?, None).map_err(to_io);
        }
        let (done, durable) = oneshot::channel();
        let callback = Box::new(move |result| {
            let _ = done.send(result);
        });
        self.wal.save_vote(encode(vote)?, Some(callback)).map_err(to_io)?;
        durable.await.map_err(|_| to_io(WalError::Closed))?.map_err(to_io)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(id) => self.wal.save_committed(to_disk_id(&id)).map_err(to_io),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.wal.committed().map(from_disk_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(to_disk).collect::<io::Result<Vec<_>>>()?;
        let callback = Box::new(move |result: Result<(), WalError>| {
            callback.io_completed(result.map_err(to_io));
        });
        let last = entries.last().map(|entry| entry.id.index);
        let writes = self.wal.append(entries, callback).map_err(to_io)?;
        self.appended.send_replace(last);
        if writes == Writes::CallerSoon {
            self.unwritten.notify_one();
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let from = last_log_id.map_or(0, |id| id.index + 1);
        self.wal.truncate_from(from).map_err(to_io)
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.wal.purge(to_disk_id(&log_id)).map_err(to_io)
    }
}

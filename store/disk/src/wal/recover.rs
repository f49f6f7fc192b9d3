//! Opening the Raft log: replaying its segments.
//!
//! Owns: what the records mean together, and what recovery may repair (a torn tail, an interrupted
//! rotation, leftovers of a removal). Must not know: Raft. A newcomer's trap: only what nobody was
//! told about may be cut off; everything else is an error that names the file and the offset.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::error::WalError;
use super::frame::Record;
use super::memory::{Memory, Place};
use super::segment::{self, HardState, Scanned, Segment};
use super::{LogEntry, LogId, WalOptions};
use crate::vfs::Vfs;

/// An opened log: its memory, the segments that hold it, and where the next write goes.
pub(crate) struct Recovered {
    pub(crate) memory: Memory,
    /// Oldest first, each with the greatest index it has ever held; the last one is written to.
    pub(crate) segments: Vec<(Arc<Segment>, Option<u64>)>,
    pub(crate) offset: u64,
}

pub(crate) fn recover(
    vfs: &dyn Vfs,
    dir: &Path,
    options: &WalOptions,
) -> Result<Recovered, WalError> {
    vfs.create_dir(dir).map_err(|error| WalError::io(dir, error))?;
    let sequences = newest_run(vfs, dir)?;
    let mut replay = Replay {
        memory: Memory::new(HardState::default(), options.cache_bytes_max),
        segments: Vec::new(),
    };
    let mut last: Option<Scanned> = None;
    // One at a time, all in the same room: the log may be larger than the memory.
    let mut room = BytesMut::new();
    for sequence in &sequences {
        let scanned = segment::scan(vfs, dir, *sequence, options, std::mem::take(&mut room))?;
        let Some(scanned) = scanned else {
            let path = dir.join(segment::file_name(*sequence));
            if Some(sequence) != sequences.last() {
                let what = "the segment is empty, but later ones exist";
                return Err(WalError::corrupt(path, 0, what));
            }
            tracing::warn!(path = %path.display(), "removed a segment that was being created");
            vfs.remove(&path).map_err(|error| WalError::io(&path, error))?;
            break;
        };
        if let Some(earlier) = last.take()
            && !earlier.sealed
        {
            let what = "the segment ends too early: a later segment exists";
            return Err(WalError::corrupt(&earlier.segment.path, earlier.end, what));
        }
        let mut scanned = replay.segment(scanned)?;
        room = std::mem::take(&mut scanned.content).try_into_mut().unwrap_or_default();
        last = Some(scanned);
        replay.memory.evict();
    }
    let Replay { mut memory, segments } = replay;
    memory.settle(dir)?;
    // A process that was killed may have left writes and names that no sync has covered yet; from
    // here on they count as durable (WAL-1).
    if let Some(last) = &last {
        let segment = &last.segment;
        segment.file.sync_data().map_err(|error| WalError::io(&segment.path, error))?;
        vfs.sync_dir(dir).map_err(|error| WalError::io(dir, error))?;
    }
    match last {
        None => {
            let next = sequences.last().map_or(1, |last| last + 1);
            start_segment(vfs, dir, next, memory, segments, options)
        }
        Some(last) if last.sealed => {
            let next = last.segment.sequence + 1;
            start_segment(vfs, dir, next, memory, segments, options)
        }
        Some(last) => {
            if last.torn {
                cut_tail(&last, options)?;
            }
            Ok(Recovered { memory, segments, offset: last.end })
        }
    }
}

/// The sequences of the segments in the folder. Segments are removed oldest first, but a crash may
/// bring one back: what stands before a gap is such a leftover. [`Memory::settle`] makes sure that
/// nothing is missing without it.
fn newest_run(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<u64>, WalError> {
    let names = vfs.list(dir).map_err(|error| WalError::io(dir, error))?;
    let mut sequences: Vec<u64> =
        names.iter().filter_map(|name| segment::parse_name(name)).collect();
    sequences.sort_unstable();
    let gap = sequences.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    Ok(sequences.split_off(gap.map_or(0, |gap| gap + 1)))
}

fn start_segment(
    vfs: &dyn Vfs,
    dir: &Path,
    sequence: u64,
    memory: Memory,
    mut segments: Vec<(Arc<Segment>, Option<u64>)>,
    options: &WalOptions,
) -> Result<Recovered, WalError> {
    let (segment, offset) = segment::create(vfs, dir, sequence, &memory.hard, options)?;
    segments.push((Arc::new(segment), None));
    Ok(Recovered { memory, segments, offset })
}

/// Zeros what follows the intact frames, so that it cannot be mistaken for something later.
fn cut_tail(last: &Scanned, options: &WalOptions) -> Result<(), WalError> {
    let Scanned { segment, end, .. } = last;
    tracing::warn!(path = %segment.path.display(), offset = end, "cut off an unfinished write");
    let failed = |error| WalError::io(&segment.path, error);
    segment.file.set_size(*end).map_err(failed)?;
    segment.file.allocate(options.segment_bytes.max(*end)).map_err(failed)?;
    segment.file.sync_data().map_err(failed)
}

/// What has been replayed so far.
struct Replay {
    memory: Memory,
    segments: Vec<(Arc<Segment>, Option<u64>)>,
}

impl Replay {
    /// Replays the next segment and gives it back without its frames.
    fn segment(&mut self, mut scanned: Scanned) -> Result<Scanned, WalError> {
        let is_oldest = self.segments.is_empty();
        let mut greatest = None;
        for (offset, frame) in std::mem::take(&mut scanned.frames) {
            if let Record::Entry(entry) = &frame.record {
                greatest = greatest.max(Some(entry.id.index));
            }
            self.record(&scanned.segment, is_oldest, offset, frame.record).map_err(|what| {
                WalError::corrupt(&scanned.segment.path, u64::from(offset), what)
            })?;
        }
        self.segments.push((Arc::clone(&scanned.segment), greatest));
        Ok(scanned)
    }

    fn record(
        &mut self,
        segment: &Arc<Segment>,
        is_oldest: bool,
        offset: u32,
        record: Record,
    ) -> Result<(), String> {
        let memory = &mut self.memory;
        if !has_possible_indexes(&record) {
            return Err("an index that no log can have".into());
        }
        match record {
            Record::Header { .. } => return Err("a second header".into()),
            // For the oldest segment it is all there is; later ones only repeat it.
            Record::State { vote, purged, committed } if is_oldest => {
                memory.hard = HardState { vote, purged, committed };
            }
            Record::State { vote, .. } if memory.hard.vote != vote => {
                return Err("the vote is not the one of the segment before".into());
            }
            Record::Vote(vote) => memory.hard.vote = Some(vote),
            Record::Entry(entry) => {
                let data_bytes = entry.data.len() as u32;
                let place = Place { segment: Arc::clone(segment), offset, data_bytes };
                // The oldest segment may begin behind entries that are purged later on.
                if memory.first().is_none() {
                    memory.forget_end();
                }
                // Its data is a slice of the whole file, which must not stay in memory with it.
                let data = Bytes::copy_from_slice(&entry.data);
                let entry = LogEntry { data, ..entry };
                memory.push(&entry, Some(place)).map_err(|error| error.to_string())?;
            }
            Record::Truncate { from } => memory.truncate(from),
            Record::Purge(id) => memory.purge(id),
            Record::Commit(id) => memory.hard.committed = Some(id),
            Record::State { .. } | Record::Seal | Record::Synced => {}
        }
        Ok(())
    }
}

/// Counting on from any index in the record cannot overflow.
fn has_possible_indexes(record: &Record) -> bool {
    const INDEX_MAX: u64 = u64::MAX / 4;
    let index = match record {
        Record::Entry(entry) => Some(entry.id.index),
        Record::Purge(id) | Record::Commit(id) => Some(id.index),
        Record::State { purged, committed, .. } => {
            let index = |id: &Option<LogId>| id.map(|id| id.index);
            index(purged).max(index(committed))
        }
        Record::Truncate { from } => Some(*from),
        Record::Header { .. } | Record::Vote(_) | Record::Seal | Record::Synced => None,
    };
    index.is_none_or(|index| index <= INDEX_MAX)
}

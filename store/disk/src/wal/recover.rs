//! Opening the Raft log: replaying its segments.
//!
//! Owns: what the records mean together, and what recovery may repair (a torn tail, an interrupted
//! rotation, leftovers of a removal). Must not know: Raft. A newcomer's trap: only what nobody was
//! told about may be cut off; everything else is an error that names the file and the offset.

use std::path::Path;
use std::sync::Arc;

use super::WalOptions;
use super::error::WalError;
use super::frame::Record;
use super::memory::{Memory, Place};
use super::segment::{self, HardState, Scanned, Segment};
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
    let names = vfs.list(dir).map_err(|error| WalError::io(dir, error))?;
    let mut sequences: Vec<u64> =
        names.iter().filter_map(|name| segment::parse_name(name)).collect();
    sequences.sort_unstable();
    let mut scanned = Vec::new();
    for sequence in &sequences {
        match segment::scan(vfs, dir, *sequence, options)? {
            Some(segment) => scanned.push(segment),
            None if Some(sequence) == sequences.last() => {
                let path = dir.join(segment::file_name(*sequence));
                tracing::warn!(path = %path.display(), "removed a segment that was being created");
                vfs.remove(&path).map_err(|error| WalError::io(&path, error))?;
            }
            None => {
                let path = dir.join(segment::file_name(*sequence));
                return Err(WalError::corrupt(
                    path,
                    0,
                    "the segment is empty, but later ones exist",
                ));
            }
        }
    }
    keep_newest_run(&mut scanned);
    check_seals(&scanned)?;
    let memory = replay(dir, &scanned, options)?;
    let Some(last) = scanned.last() else {
        let next = sequences.last().map_or(1, |last| last + 1);
        return start_segment(vfs, dir, next, memory, Vec::new(), options);
    };
    let segments: Vec<_> = scanned
        .iter()
        .map(|scanned| (Arc::clone(&scanned.segment), greatest_index(scanned)))
        .collect();
    if last.sealed {
        let next = last.segment.sequence + 1;
        return start_segment(vfs, dir, next, memory, segments, options);
    }
    if last.torn {
        cut_tail(last, options)?;
    }
    Ok(Recovered { memory, segments, offset: last.end })
}

/// Segments are removed oldest first, but a crash may bring one back: what stands before a gap is
/// such a leftover. [`replay`] makes sure that nothing is missing without it.
fn keep_newest_run(scanned: &mut Vec<Scanned>) {
    let newest_run = scanned
        .windows(2)
        .rposition(|pair| pair[0].segment.sequence + 1 != pair[1].segment.sequence)
        .map_or(0, |gap| gap + 1);
    scanned.drain(..newest_run);
}

fn check_seals(scanned: &[Scanned]) -> Result<(), WalError> {
    for earlier in &scanned[..scanned.len().saturating_sub(1)] {
        if !earlier.sealed {
            let what = "the segment ends too early: a later segment exists";
            return Err(WalError::corrupt(&earlier.segment.path, earlier.end, what));
        }
    }
    Ok(())
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

fn greatest_index(scanned: &Scanned) -> Option<u64> {
    let entries = scanned.frames.iter().filter_map(|(_, frame)| match &frame.record {
        Record::Entry(entry) => Some(entry.id.index),
        _ => None,
    });
    entries.max()
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

fn replay(dir: &Path, scanned: &[Scanned], options: &WalOptions) -> Result<Memory, WalError> {
    let mut memory = Memory::new(HardState::default(), options.cache_bytes_max);
    for (position, scanned) in scanned.iter().enumerate() {
        for (offset, frame) in &scanned.frames {
            let corrupt = |what: String| {
                Err(WalError::corrupt(&scanned.segment.path, u64::from(*offset), what))
            };
            match &frame.record {
                Record::Header { .. } => return corrupt("a second header".into()),
                Record::State { vote, purged, committed } => {
                    let state =
                        HardState { vote: vote.clone(), purged: *purged, committed: *committed };
                    // For the oldest segment it is all there is; later ones only repeat it.
                    if position == 0 {
                        memory.hard = state;
                    } else if memory.hard.vote != state.vote {
                        return corrupt("the vote is not the one of the segment before".into());
                    }
                }
                Record::Vote(vote) => memory.hard.vote = Some(vote.clone()),
                Record::Entry(entry) => {
                    let place = Place {
                        segment: Arc::clone(&scanned.segment),
                        offset: *offset,
                        data_bytes: entry.data.len() as u32,
                    };
                    // The oldest segment may begin behind entries that are purged later on.
                    if memory.first().is_none() {
                        memory.forget_end();
                    }
                    if let Err(error) = memory.push(entry, Some(place)) {
                        return corrupt(error.to_string());
                    }
                }
                Record::Truncate { from } => memory.truncate(*from),
                Record::Purge(id) => memory.purge(*id),
                Record::Commit(id) => memory.hard.committed = Some(*id),
                Record::Seal | Record::Synced => {}
            }
        }
    }
    memory.settle(dir)?;
    Ok(memory)
}

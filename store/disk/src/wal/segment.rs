//! One file of the Raft log.
//!
//! Owns: file names, creating a segment, scanning one and telling a torn tail from corruption.
//! Must not know: what the records mean together. A newcomer's trap: a segment's room is reserved
//! in advance, so its end is where the intact frames end, not where the file ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kijabi_base::limits;

use super::error::WalError;
use super::frame::{self, Frame, Record};
use super::{LogId, WalOptions};
use crate::vfs::{Vfs, VfsFile};

/// A segment that can be read; kept as long as entries are in it.
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    pub(crate) salt: u32,
    pub(crate) file: Box<dyn VfsFile>,
}

/// The hard state a segment begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HardState {
    pub(crate) vote: Option<Bytes>,
    pub(crate) purged: Option<LogId>,
    pub(crate) committed: Option<LogId>,
}

/// A scanned segment.
pub(crate) struct Scanned {
    pub(crate) segment: Arc<Segment>,
    /// The frames after the header, with their offsets.
    pub(crate) frames: Vec<(u32, Frame)>,
    /// The whole file, which the frames' data are slices of.
    pub(crate) content: Bytes,
    /// Where the intact frames end.
    pub(crate) end: u64,
    pub(crate) sealed: bool,
    /// Whether something that is not zero follows the intact frames.
    pub(crate) torn: bool,
}

pub(crate) fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.wal")
}

/// The sequence number in a segment's file name.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Creates a segment that begins with `state`, durable with its name before this returns. Gives
/// the segment and the offset its first batch goes to.
pub(crate) fn create(
    vfs: &dyn Vfs,
    dir: &Path,
    sequence: u64,
    state: &HardState,
    options: &WalOptions,
) -> Result<(Segment, u64), WalError> {
    let path = dir.join(file_name(sequence));
    let failed = |error| WalError::io(&path, error);
    let mut nonce = [0; 8];
    kijabi_base::rng::fill(&mut nonce);
    let nonce = u64::from_le_bytes(nonce);
    let salt = frame::salt(sequence, nonce);
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, salt, 0, &Record::Header { sequence, nonce });
    let HardState { vote, purged, committed } = state.clone();
    frame::encode(&mut bytes, salt, 0, &Record::State { vote, purged, committed });
    if bytes.len() > FIRST_WRITE_BYTES {
        return Err(WalError::Order(format!("a vote of {} bytes is too long", bytes.len())));
    }
    bytes.resize(FIRST_WRITE_BYTES, 0);
    let file = vfs.open(&path, true).map_err(failed)?;
    // A leftover of an interrupted creation may hold anything.
    file.set_size(0).map_err(failed)?;
    file.allocate(options.segment_bytes).map_err(failed)?;
    file.write_at(0, &bytes).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    vfs.sync_dir(dir).map_err(|error| WalError::io(dir, error))?;
    Ok((Segment { sequence, path, salt, file }, bytes.len() as u64))
}

/// Reads a segment, into `room` if that is there. `Ok(None)` = its creation was interrupted and
/// nothing was ever in it.
pub(crate) fn scan(
    vfs: &dyn Vfs,
    dir: &Path,
    sequence: u64,
    options: &WalOptions,
    mut room: BytesMut,
) -> Result<Option<Scanned>, WalError> {
    let path = dir.join(file_name(sequence));
    let failed = |error| WalError::io(&path, error);
    let file = vfs.open(&path, false).map_err(failed)?;
    let size = file.size().map_err(failed)?;
    let bytes_max = options.segment_bytes
        + (options.frame_bytes_max + limits::LOG_WRITE_BATCH_BYTES_MAX) as u64
        + FIRST_WRITE_BYTES as u64;
    if size > bytes_max {
        let what = format!("{size} bytes are more than a segment ever has");
        return Err(WalError::corrupt(path, bytes_max, what));
    }
    if room.is_empty() {
        room = BytesMut::zeroed(size as usize);
    }
    room.resize(size as usize, 0);
    file.read_at(0, &mut room).map_err(failed)?;
    let content = room.freeze();
    let header = frame::decode(&content, 0, None, options.frame_bytes_max);
    let Some(Frame { record: Record::Header { sequence: written, nonce }, bytes, .. }) = header
    else {
        return interrupted_creation(&content, path);
    };
    if written != sequence {
        return Err(WalError::corrupt(path, 0, format!("the header says segment {written:016x}")));
    }
    let salt = frame::salt(sequence, nonce);
    let state = frame::decode(&content, bytes, Some(salt), options.frame_bytes_max);
    let Some(state @ Frame { record: Record::State { .. }, .. }) = state else {
        return interrupted_creation(&content, path);
    };
    let mut frames = vec![(bytes as u32, state)];
    let mut at = FIRST_WRITE_BYTES;
    let mut sealed = false;
    while let Some(frame) = frame::decode(&content, at, Some(salt), options.frame_bytes_max) {
        let next = at + frame.bytes;
        sealed = frame.record == Record::Seal;
        frames.push((at as u32, frame));
        at = next;
        if sealed {
            break;
        }
    }
    let end = at.min(content.len());
    let torn = !is_zero(&content[end..]);
    if torn && let Some(proof) = proof_of_loss(&content, end, salt, options) {
        let what = format!("a broken frame, but a later write at offset {proof} is intact");
        return Err(WalError::corrupt(path, end as u64, what));
    }
    let segment = Arc::new(Segment { sequence, path, salt, file });
    Ok(Some(Scanned { segment, frames, content, end: end as u64, sealed, torn }))
}

/// Header and state are written at once, to this length, and are durable before anything else is
/// written.
pub(crate) const FIRST_WRITE_BYTES: usize = 512;

/// A vote must fit in there, behind the header and the rest of the state.
pub(crate) const VOTE_BYTES_MAX: usize = FIRST_WRITE_BYTES - 112;

/// The beginning of the segment is not readable: nothing was ever in it, or it was damaged later.
fn interrupted_creation(content: &Bytes, path: PathBuf) -> Result<Option<Scanned>, WalError> {
    let rest = content.get(FIRST_WRITE_BYTES..).unwrap_or_default();
    if !is_zero(rest) {
        return Err(WalError::corrupt(path, 0, "the beginning of the segment is damaged"));
    }
    Ok(None)
}

/// Whether there are only zeros. Many at a time: there are millions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

/// The offset of an intact frame that was written after the place `broken` had become durable.
fn proof_of_loss(content: &Bytes, broken: usize, salt: u32, options: &WalOptions) -> Option<usize> {
    let first = broken.next_multiple_of(8).max(8);
    (first..content.len().saturating_sub(frame::FRAME_HEADER_BYTES - 1)).step_by(8).find(|at| {
        // Most of the rest is zeros; a frame's kind is not.
        content[at + 12] != 0
            && frame::decode(content, *at, Some(salt), options.frame_bytes_max).is_some_and(
                |frame| {
                    let durable_to = frame.durable_to as usize;
                    durable_to > broken && durable_to <= *at
                },
            )
    })
}

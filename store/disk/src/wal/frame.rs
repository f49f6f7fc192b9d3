//! One frame of the Raft log: how records are laid out in a file, and read back.
//!
//! Owns: the byte format. Must not know: files and their order. A newcomer's trap: a frame says up
//! to which offset the file was durable when it was written. An intact frame that says so of a
//! broken place proves that the place was whole once: that is corruption. Without such a frame,
//! the broken place is the torn tail of a write that nobody was told about.
//!
//! ```text
//! 0        4        8            12     13         16
//! | crc32c | length | durable to  | kind | reserved | payload … | zeros to a multiple of 8
//! ```
//! All numbers are little endian. The checksum covers everything after itself, and starts from the
//! segment's salt so that a frame copied from another file is not taken for one of this file.

use bytes::Bytes;

use super::{LogEntry, LogId};

pub(crate) const FRAME_HEADER_BYTES: usize = 16;
const ALIGNMENT: usize = 8;
const MAGIC: &[u8; 8] = b"KIJABIWL";
const FORMAT_VERSION: u32 = 1;

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The first frame of a segment.
    Header { sequence: u64, nonce: u64 },
    /// The hard state as it was when the segment began, so that older segments can be removed.
    State { vote: Option<Bytes>, purged: Option<LogId>, committed: Option<LogId> },
    /// A saved vote, opaque here.
    Vote(Bytes),
    /// A log entry.
    Entry(LogEntry),
    /// Entries from this index on are gone.
    Truncate { from: u64 },
    /// Entries up to this one, inclusive, are gone.
    Purge(LogId),
    /// Entries up to this one were known to be committed.
    Commit(LogId),
    /// The segment's last frame: everything before it is durable and a next segment follows.
    Seal,
    /// Everything before it is durable. Written when the log falls idle.
    Synced,
}

const HEADER: u8 = 1;
const STATE: u8 = 2;
const VOTE: u8 = 3;
const ENTRY: u8 = 4;
const TRUNCATE: u8 = 5;
const PURGE: u8 = 6;
const COMMIT: u8 = 7;
const SEAL: u8 = 8;
const SYNCED: u8 = 9;

/// The size of an entry's payload without its data.
pub(crate) const ENTRY_PREFIX_BYTES: usize = 17;

/// The bytes a frame takes with a payload of `payload` bytes.
pub(crate) fn frame_bytes(payload: usize) -> usize {
    (FRAME_HEADER_BYTES + payload).next_multiple_of(ALIGNMENT)
}

/// The salt of a segment's checksums.
pub(crate) fn salt(sequence: u64, nonce: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), &nonce.to_le_bytes())
}

/// Appends a frame to `out`. Everything before the file offset `durable_to` is durable already.
pub(crate) fn encode(out: &mut Vec<u8>, salt: u32, durable_to: u32, record: &Record) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    let kind = encode_payload(out, record);
    let length = (out.len() - start - FRAME_HEADER_BYTES) as u32;
    let salt = if kind == HEADER { 0 } else { salt };
    let frame = &mut out[start..];
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[8..12].copy_from_slice(&durable_to.to_le_bytes());
    frame[12] = kind;
    let crc = crc32c::crc32c_append(salt, &frame[4..]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + frame_bytes(length as usize), 0);
}

fn encode_payload(out: &mut Vec<u8>, record: &Record) -> u8 {
    match record {
        Record::Header { sequence, nonce } => {
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
            out.extend_from_slice(&sequence.to_le_bytes());
            out.extend_from_slice(&nonce.to_le_bytes());
            HEADER
        }
        Record::State { vote, purged, committed } => {
            encode_option(out, *purged);
            encode_option(out, *committed);
            out.push(u8::from(vote.is_some()));
            out.extend_from_slice(vote.as_deref().unwrap_or_default());
            STATE
        }
        Record::Vote(vote) => {
            out.extend_from_slice(vote);
            VOTE
        }
        Record::Entry(entry) => {
            encode_id(out, entry.id);
            out.push(entry.kind);
            out.extend_from_slice(&entry.data);
            ENTRY
        }
        Record::Truncate { from } => {
            out.extend_from_slice(&from.to_le_bytes());
            TRUNCATE
        }
        Record::Purge(id) => {
            encode_id(out, *id);
            PURGE
        }
        Record::Commit(id) => {
            encode_id(out, *id);
            COMMIT
        }
        Record::Seal => SEAL,
        Record::Synced => SYNCED,
    }
}

fn encode_id(out: &mut Vec<u8>, id: LogId) {
    out.extend_from_slice(&id.term.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
}

fn encode_option(out: &mut Vec<u8>, id: Option<LogId>) {
    out.push(u8::from(id.is_some()));
    encode_id(out, id.unwrap_or_default());
}

/// A frame found in a file.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) record: Record,
    pub(crate) durable_to: u32,
    /// Its size in the file, padding included.
    pub(crate) bytes: usize,
}

/// Reads the frame at `offset` of a whole file. `None` if there is no intact one. `salt` is `None`
/// for the header, whose checksum has none.
pub(crate) fn decode(
    file: &Bytes,
    offset: usize,
    salt: Option<u32>,
    length_max: usize,
) -> Option<Frame> {
    let header = file.get(offset..offset + FRAME_HEADER_BYTES)?;
    let crc = u32_at(header, 0);
    let length = u32_at(header, 4) as usize;
    let durable_to = u32_at(header, 8);
    let kind = header[12];
    if length > length_max || !(HEADER..=SYNCED).contains(&kind) {
        return None;
    }
    let end = offset + FRAME_HEADER_BYTES + length;
    let body = file.get(offset + 4..end)?;
    if (kind == HEADER) != salt.is_none() || crc32c::crc32c_append(salt.unwrap_or(0), body) != crc {
        return None;
    }
    let payload = file.slice(offset + FRAME_HEADER_BYTES..end);
    let record = decode_payload(kind, payload)?;
    Some(Frame { record, durable_to, bytes: frame_bytes(length) })
}

fn decode_payload(kind: u8, payload: Bytes) -> Option<Record> {
    Some(match kind {
        HEADER => {
            let known = payload.len() == 28
                && payload.starts_with(MAGIC)
                && u32_at(&payload, 8) == FORMAT_VERSION;
            if !known {
                return None;
            }
            Record::Header { sequence: u64_at(&payload, 12)?, nonce: u64_at(&payload, 20)? }
        }
        STATE => {
            let purged = decode_option(&payload, 0)?;
            let committed = decode_option(&payload, 17)?;
            let has_vote = *payload.get(34)? != 0;
            let vote = has_vote.then(|| payload.slice(35..));
            Record::State { vote, purged, committed }
        }
        VOTE => Record::Vote(payload),
        ENTRY => {
            let id = decode_id(&payload, 0)?;
            let kind = *payload.get(16)?;
            Record::Entry(LogEntry { id, kind, data: payload.slice(ENTRY_PREFIX_BYTES..) })
        }
        TRUNCATE => Record::Truncate { from: u64_at(&payload, 0)? },
        PURGE => Record::Purge(decode_id(&payload, 0)?),
        COMMIT => Record::Commit(decode_id(&payload, 0)?),
        SEAL => Record::Seal,
        SYNCED => Record::Synced,
        _ => return None,
    })
}

fn decode_id(bytes: &[u8], at: usize) -> Option<LogId> {
    Some(LogId { term: u64_at(bytes, at)?, index: u64_at(bytes, at + 8)? })
}

#[allow(clippy::option_option, reason = "outer: readable; inner: there is one")]
fn decode_option(bytes: &[u8], at: usize) -> Option<Option<LogId>> {
    let is_some = *bytes.get(at)? != 0;
    let id = decode_id(bytes, at + 1)?;
    Some(is_some.then_some(id))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let mut number = [0; 8];
    number.copy_from_slice(bytes.get(at..at + 8)?);
    Some(u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record> {
        let id = LogId { term: 3, index: 7 };
        vec![
            Record::State { vote: None, purged: None, committed: Some(id) },
            Record::State {
                vote: Some(Bytes::from_static(b"v")),
                purged: Some(id),
                committed: None,
            },
            Record::Vote(Bytes::from_static(b"term 3, node 1")),
            Record::Entry(LogEntry { id, kind: 2, data: Bytes::from_static(b"payload") }),
            Record::Entry(LogEntry { id, kind: 0, data: Bytes::new() }),
            Record::Truncate { from: 9 },
            Record::Purge(id),
            Record::Commit(id),
            Record::Seal,
            Record::Synced,
        ]
    }

    #[test]
    fn every_record_survives_a_round_trip() {
        for record in samples() {
            let mut out = Vec::new();
            encode(&mut out, 5, 64, &record);
            assert_eq!(out.len() % ALIGNMENT, 0, "{record:?}");
            let frame = decode(&Bytes::from(out.clone()), 0, Some(5), 1024).unwrap();
            assert_eq!((frame.record, frame.durable_to, frame.bytes), (record, 64, out.len()));
        }
    }

    #[test]
    fn any_flipped_bit_of_a_frame_is_noticed() {
        for record in samples() {
            let mut out = Vec::new();
            encode(&mut out, 5, 64, &record);
            let padding = out.len() - FRAME_HEADER_BYTES - u32_at(&out, 4) as usize;
            for bit in 0..(out.len() - padding) * 8 {
                let mut flipped = out.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let frame = decode(&Bytes::from(flipped), 0, Some(5), 1 << 20);
                assert!(frame.is_none(), "{record:?}: bit {bit}");
            }
        }
    }

    #[test]
    fn a_frame_of_another_segment_is_not_taken() {
        let mut out = Vec::new();
        encode(&mut out, salt(1, 99), 0, &Record::Seal);
        assert!(decode(&Bytes::from(out), 0, Some(salt(2, 99)), 1024).is_none());
    }
}

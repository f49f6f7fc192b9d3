//! A state as a stream of checksummed chunks.
//!
//! Owns: the format. Must not know: the transport. A newcomer's trap: the stream ends with a chunk
//! that counts the pairs, so a stream that stops between two chunks is noticed too.
//!
//! ```text
//! "KIJABISN" version:u32 crc:u32 { length:u32 crc:u32 { table:u8 klen:u32 vlen:u32 key value }* }* 8:u32 crc:u32 pairs:u64
//! ```
//! All numbers are little endian. Each checksum goes on from the one before, so chunks cannot be
//! left out, repeated or swapped.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use kijabi_base::limits::SNAPSHOT_CHUNK_BYTES;
use kijabi_machine::state::{StateBatch, StateError, Table};

use crate::state::State;

const MAGIC: &[u8; 8] = b"KIJABISN";
const VERSION: u32 = 1;
/// A chunk is closed when it is full, so one large pair may follow a full chunk's worth.
const CHUNK_BYTES_MAX: usize = SNAPSHOT_CHUNK_BYTES + (64 << 20);
const COUNT_BYTES: usize = 8;
/// A chunk of pairs begins with this, the last chunk with another one.
const PAIRS: u8 = 1;
const END: u8 = 2;

/// Why a snapshot stream was not taken.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It is not one, or it is damaged.
    #[error("snapshot is corrupt at offset {offset}: {what}")]
    Corrupt {
        /// Where in the stream.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// It could not be read.
    #[error("snapshot cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The new state could not be written.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Sends the state, on one consistent view, in pieces to `sink` until it breaks.
pub fn send(
    state: &State,
    sink: &mut dyn FnMut(Bytes) -> ControlFlow<()>,
) -> Result<(), StateError> {
    let mut crc = crc32c::crc32c(MAGIC);
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &VERSION.to_le_bytes());
    head.extend_from_slice(&crc.to_le_bytes());
    if sink(head.into()).is_break() {
        return Ok(());
    }
    let mut pairs = 0_u64;
    let mut chunk = vec![PAIRS];
    let mut gone = false;
    state.scan_all(&mut |table, key, value| {
        pairs += 1;
        chunk.push(number_of(table));
        chunk.extend_from_slice(&(key.len() as u32).to_le_bytes());
        chunk.extend_from_slice(&(value.len() as u32).to_le_bytes());
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(value);
        if chunk.len() < SNAPSHOT_CHUNK_BYTES {
            return ControlFlow::Continue(());
        }
        let full = std::mem::replace(&mut chunk, vec![PAIRS]);
        let flow = sink(framed(&mut crc, &full));
        gone = flow.is_break();
        flow
    })?;
    if gone || (chunk.len() > 1 && sink(framed(&mut crc, &chunk)).is_break()) {
        return Ok(());
    }
    let mut end = vec![END];
    end.extend_from_slice(&pairs.to_le_bytes());
    let _ = sink(framed(&mut crc, &end));
    Ok(())
}

fn framed(crc: &mut u32, chunk: &[u8]) -> Bytes {
    let length = (chunk.len() as u32).to_le_bytes();
    *crc = crc32c::crc32c_append(crc32c::crc32c_append(*crc, &length), chunk);
    let mut out = Vec::with_capacity(8 + chunk.len());
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(chunk);
    out.into()
}

/// Receives a stream into a new state at `path`, verified and durable. On failure nothing is left
/// there that a restart would not remove.
pub fn receive(reader: &mut dyn Read, path: &Path) -> Result<State, StreamError> {
    let state = State::open(path)?;
    read(reader, &mut |batch| state.write(&batch))?;
    state.flush()?;
    Ok(state)
}

/// Checks a whole stream without keeping it.
#[cfg(test)]
pub(crate) fn verify(reader: &mut dyn Read) -> Result<(), StreamError> {
    read(reader, &mut |_| Ok(()))
}

fn read(
    reader: &mut dyn Read,
    take: &mut dyn FnMut(StateBatch) -> Result<(), StateError>,
) -> Result<(), StreamError> {
    let mut reader = Reader { reader, offset: 0 };
    let mut head = [0; 16];
    reader.fill(&mut head)?;
    let mut crc = crc32c::crc32c(&head[..12]);
    if !head.starts_with(MAGIC) || number(&head[12..]) != crc {
        return Err(reader.corrupt("not a snapshot"));
    }
    if number(&head[8..]) != VERSION {
        return Err(reader.corrupt("a version that is not known here"));
    }
    let mut pairs = 0;
    loop {
        let mut frame = [0; 8];
        reader.fill(&mut frame)?;
        let length = number(&frame) as usize;
        if length == 0 || length > CHUNK_BYTES_MAX {
            return Err(reader.corrupt("impossible chunk length"));
        }
        // Read in pieces: a claimed length allocates nothing that does not come.
        let mut chunk = Vec::new();
        reader.reader.take(length as u64).read_to_end(&mut chunk)?;
        if chunk.len() < length {
            return Err(reader.corrupt("the stream ends too early"));
        }
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &frame[..4]), &chunk);
        if number(&frame[4..]) != crc {
            return Err(reader.corrupt("wrong checksum"));
        }
        reader.offset += length as u64;
        match chunk[0] {
            PAIRS => {
                let batch = parse(&Bytes::from(chunk).slice(1..))
                    .ok_or_else(|| reader.corrupt("broken pairs"))?;
                pairs += batch.ops.len() as u64;
                take(batch)?;
            }
            END if chunk.len() == 1 + COUNT_BYTES && chunk[1..] == pairs.to_le_bytes() => {
                return Ok(());
            }
            _ => return Err(reader.corrupt("pairs are missing")),
        }
    }
}

struct Reader<'a> {
    reader: &'a mut dyn Read,
    offset: u64,
}

impl Reader<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), StreamError> {
        match self.reader.read_exact(buffer) {
            Ok(()) => {
                self.offset += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.corrupt("the stream ends too early"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn corrupt(&self, what: &'static str) -> StreamError {
        StreamError::Corrupt { offset: self.offset, what }
    }
}

fn parse(chunk: &Bytes) -> Option<StateBatch> {
    let mut batch = StateBatch::default();
    let mut at = 0;
    while at < chunk.len() {
        let table = table_of(*chunk.get(at)?)?;
        let key_bytes = number(chunk.get(at + 1..at + 5)?) as usize;
        let value_bytes = number(chunk.get(at + 5..at + 9)?) as usize;
        let key = chunk.get(at + 9..at + 9 + key_bytes)?.to_vec();
        at += 9 + key_bytes;
        chunk.get(at..at + value_bytes)?;
        batch.put(table, key, chunk.slice(at..at + value_bytes));
        at += value_bytes;
    }
    Some(batch)
}

fn number(bytes: &[u8]) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[..4]);
    u32::from_le_bytes(number)
}

fn number_of(table: Table) -> u8 {
    match table {
        Table::Key => 1,
        Table::Meta => 2,
        Table::Lease => 3,
        Table::Cluster => 4,
    }
}

fn table_of(number: u8) -> Option<Table> {
    Table::ALL.into_iter().find(|table| number_of(*table) == number)
}

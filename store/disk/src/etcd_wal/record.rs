//! The records of one file of the log.
//!
//! Owns: frames and the running checksum. Must not know: other files. A newcomer's trap: the file
//! is longer than what was written, so zeros mean the end; and a record that fails its checksum is
//! a torn write only if it is in the last file and a whole sector of it is zero.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use bytes::Bytes;
use kijabi_base::limits::ETCD_LOG_RECORD_BYTES_MAX;
use kijabi_proto::etcdstorage;
use prost::Message as _;

use super::EtcdWalError;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    /// The term, the vote and the commit.
    State,
    /// What the member is, and where its snapshots are.
    Other,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) data: Bytes,
    /// Where the data begins in the file.
    pub(super) data_offset: u64,
}

pub(super) struct Records<'a> {
    path: &'a Path,
    reader: BufReader<&'a File>,
    bytes: u64,
    offset: u64,
    crc: u32,
    is_last: bool,
    torn: Option<u64>,
}

const LENGTH_BYTES: u64 = 8;
const SECTOR_BYTES: u64 = 512;

/// etcd's numbers of the kinds.
const METADATA: i64 = 1;
const ENTRY: i64 = 2;
const STATE: i64 = 3;
const CRC: i64 = 4;
const SNAPSHOT: i64 = 5;

// === impl Records ===

impl<'a> Records<'a> {
    /// The records of `file`; `crc` is the checksum at the end of the file before it.
    pub(super) fn new(
        path: &'a Path,
        file: &'a File,
        crc: u32,
        is_last: bool,
    ) -> Result<Self, EtcdWalError> {
        let failed = |source| EtcdWalError::Io { path: path.to_owned(), source };
        let bytes = file.metadata().map_err(failed)?.len();
        let reader = BufReader::with_capacity(64 << 10, file);
        Ok(Self { path, reader, bytes, offset: 0, crc, is_last, torn: None })
    }

    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// Where the last record breaks off.
    pub(super) fn torn(&self) -> Option<u64> {
        self.torn
    }

    /// The next record; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, EtcdWalError> {
        loop {
            let Some((framed, length)) = self.frame()? else { return Ok(None) };
            let Ok(record) = etcdstorage::Record::decode(framed.slice(..length)) else {
                return self.broken(&framed, "broken record");
            };
            let data_offset = self.data_offset(&framed, &record.data);
            if record.r#type == CRC {
                // The first file that is left may begin in the middle of the whole log's checksum.
                if self.crc != 0 && self.crc != record.crc {
                    return Err(self.corrupt("wrong checksum of the files before"));
                }
                self.crc = record.crc;
            } else {
                let crc = crc32c::crc32c_append(self.crc, &record.data);
                if crc != record.crc {
                    return self.broken(&framed, "wrong checksum");
                }
                self.crc = crc;
            }
            self.offset += LENGTH_BYTES + framed.len() as u64;
            let kind = match record.r#type {
                ENTRY => Kind::Entry,
                STATE => Kind::State,
                METADATA | SNAPSHOT => Kind::Other,
                CRC => continue,
                _ => return Err(self.corrupt("a record of a kind that is not known here")),
            };
            return Ok(Some(Record { kind, data: record.data, data_offset }));
        }
    }

    /// The bytes of the next record with their padding, and the length without it.
    fn frame(&mut self) -> Result<Option<(Bytes, usize)>, EtcdWalError> {
        let left = self.bytes.saturating_sub(self.offset);
        if left < LENGTH_BYTES {
            return if left == 0 { Ok(None) } else { self.end("the file is cut") };
        }
        let mut field = [0; 8];
        self.fill(&mut field)?;
        let field = i64::from_le_bytes(field);
        if field == 0 {
            return Ok(None);
        }
        let length = field.cast_unsigned() & !(0xff << 56);
        let padding = if field < 0 { (field.cast_unsigned() >> 56) & 0x7 } else { 0 };
        if length > left - LENGTH_BYTES || length + padding > left - LENGTH_BYTES {
            return self.end("a record reaches behind the end of the file");
        }
        if length > ETCD_LOG_RECORD_BYTES_MAX {
            return Err(self.corrupt("impossible length of a record"));
        }
        let mut framed = vec![0; (length + padding) as usize];
        self.fill(&mut framed)?;
        Ok(Some((framed.into(), length as usize)))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), EtcdWalError> {
        let path = self.path;
        let filled = self.reader.read_exact(buffer);
        filled.map_err(|source: io::Error| EtcdWalError::Io { path: path.to_owned(), source })
    }

    /// The last file may end in the middle of a record that nobody was told of.
    fn end<T>(&mut self, what: &'static str) -> Result<Option<T>, EtcdWalError> {
        if !self.is_last {
            return Err(self.corrupt(what));
        }
        self.torn = Some(self.offset);
        Ok(None)
    }

    fn broken<T>(&mut self, framed: &[u8], what: &'static str) -> Result<Option<T>, EtcdWalError> {
        let start = self.offset + LENGTH_BYTES;
        let mut rest = framed;
        let mut at = start;
        while self.is_last && !rest.is_empty() {
            let sector = (SECTOR_BYTES - at % SECTOR_BYTES).min(rest.len() as u64);
            let (piece, behind) = rest.split_at(sector as usize);
            if piece.iter().all(|byte| *byte == 0) {
                return if self.ends_here()? { self.end(what) } else { Err(self.corrupt(what)) };
            }
            rest = behind;
            at += sector;
        }
        Err(self.corrupt(what))
    }

    /// Whether nothing was written behind what was read. A record that is followed by others was
    /// whole once.
    fn ends_here(&mut self) -> Result<bool, EtcdWalError> {
        let mut buffer = [0; 4096];
        loop {
            match self.reader.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(read) if buffer[..read].iter().any(|byte| *byte != 0) => return Ok(false),
                Ok(_) => {}
                Err(source) => {
                    return Err(EtcdWalError::Io { path: self.path.to_owned(), source });
                }
            }
        }
    }

    /// Where `data`, which is a part of `framed`, begins in the file.
    fn data_offset(&self, framed: &Bytes, data: &Bytes) -> u64 {
        let within = (data.as_ptr() as usize).checked_sub(framed.as_ptr() as usize);
        self.offset + LENGTH_BYTES + within.unwrap_or_default() as u64
    }

    fn corrupt(&self, what: &'static str) -> EtcdWalError {
        EtcdWalError::Corrupt { path: self.path.to_owned(), offset: self.offset, what }
    }
}

//! The write-ahead log of an etcd member, read to its end.
//!
//! Owns: files, records, checksums, the torn end that a crash leaves. Must not know: what an entry
//! asks for. A newcomer's trap: an entry that comes again at the same index replaces the one before
//! and all after it, so which entries count is known only at the end; only their places are kept.

mod record;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kijabi_proto::etcdstorage::{Entry, HardState};
use prost::Message as _;

use record::{Kind, Records};

/// Why the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EtcdWalError {
    /// The operating system's answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// A file is damaged.
    #[error("{} is corrupt at offset {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Entries are missing.
    #[error("{what}", what = gap(*.wanted, *.found))]
    Gap {
        /// The first entry that was looked for.
        wanted: u64,
        /// The first one there is.
        found: u64,
    },
    /// Entries are missing at the end.
    #[error("the log ends at entry {last}, but entries up to {committed} were committed")]
    Missing {
        /// The last one known to be committed.
        committed: u64,
        /// The last one there is.
        last: u64,
    },
}

fn gap(wanted: u64, found: u64) -> String {
    format!("the log's entries from {wanted} on are needed, but the first one left is {found}")
}

/// The log of an etcd member, checked to its end.
#[derive(Debug)]
pub struct EtcdWal {
    files: Vec<(PathBuf, File)>,
    places: Vec<Place>,
    first: u64,
    torn: Option<(PathBuf, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    file: u32,
    bytes: u32,
    offset: u64,
    term: u64,
}

// === impl EtcdWal ===

impl EtcdWal {
    /// Opens the log in `dir` for the entries behind `after`. Nothing in it is changed.
    pub fn open(dir: &Path, after: u64) -> Result<Self, EtcdWalError> {
        let files = open_files(dir)?;
        let mut wal = Self { files: Vec::new(), places: Vec::new(), first: after + 1, torn: None };
        let (mut crc, mut committed) = (0, 0);
        let count = files.len();
        for (number, (path, file)) in files.into_iter().enumerate() {
            let is_last = number + 1 == count;
            let mut records = Records::new(&path, &file, crc, is_last)?;
            while let Some(record) = records.next()? {
                match record.kind {
                    Kind::Entry => wal.note(number, &path, &record)?,
                    Kind::State => {
                        let state = HardState::decode(record.data).unwrap_or_default();
                        committed = committed.max(state.commit);
                    }
                    Kind::Other => {}
                }
            }
            if let Some(offset) = records.torn() {
                wal.torn = Some((path.clone(), offset));
            }
            crc = records.crc();
            wal.files.push((path, file));
        }
        let last = wal.last_index();
        if committed > last {
            return Err(EtcdWalError::Missing { committed, last });
        }
        Ok(wal)
    }

    /// The index of the last entry; the one asked to begin behind, if there is none.
    pub fn last_index(&self) -> u64 {
        self.first - 1 + self.places.len() as u64
    }

    /// Where the log breaks off in the middle of a record, as after a crash.
    pub fn torn(&self) -> Option<(&Path, u64)> {
        self.torn.as_ref().map(|(path, offset)| (path.as_path(), *offset))
    }

    /// The entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, EtcdWalError>> + '_ {
        self.places.iter().enumerate().map(|(number, place)| {
            let (path, file) = &self.files[place.file as usize];
            let corrupt =
                |what| EtcdWalError::Corrupt { path: path.clone(), offset: place.offset, what };
            let mut data = vec![0; place.bytes as usize];
            file.read_exact_at(&mut data, place.offset)
                .map_err(|source| EtcdWalError::Io { path: path.clone(), source })?;
            let entry = Entry::decode(Bytes::from(data)).map_err(|_| corrupt("broken entry"))?;
            if entry.index != self.first + number as u64 {
                return Err(corrupt("the log was changed while it was read"));
            }
            Ok(entry)
        })
    }

    fn note(
        &mut self,
        file: usize,
        path: &Path,
        record: &record::Record,
    ) -> Result<(), EtcdWalError> {
        let corrupt = |what| EtcdWalError::Corrupt {
            path: path.to_owned(),
            offset: record.data_offset,
            what,
        };
        let entry = Entry::decode(record.data.clone()).map_err(|_| corrupt("broken entry"))?;
        let Some(number) = entry.index.checked_sub(self.first) else {
            return Ok(());
        };
        if number > self.places.len() as u64 {
            return if self.places.is_empty() {
                Err(EtcdWalError::Gap { wanted: self.first, found: entry.index })
            } else {
                Err(corrupt("entries are missing before this one"))
            };
        }
        self.places.truncate(number as usize);
        if self.places.last().is_some_and(|before| before.term > entry.term) {
            return Err(corrupt("an entry of an earlier term than the one before"));
        }
        self.places.push(Place {
            file: file as u32,
            bytes: record.data.len() as u32,
            offset: record.data_offset,
            term: entry.term,
        });
        Ok(())
    }
}

/// The log's files in their order.
fn open_files(dir: &Path) -> Result<Vec<(PathBuf, File)>, EtcdWalError> {
    let failed = |source| EtcdWalError::Io { path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if let Some(sequence) = sequence_of(&name) {
            names.push((sequence, name));
        }
    }
    names.sort();
    let mut files = Vec::with_capacity(names.len());
    for (at, (sequence, name)) in names.iter().enumerate() {
        let path = dir.join(name);
        if at > 0 && names[at - 1].0.checked_add(1) != Some(*sequence) {
            let what = "the file before it is missing";
            return Err(EtcdWalError::Corrupt { path, offset: 0, what });
        }
        let file =
            File::open(&path).map_err(|source| EtcdWalError::Io { path: path.clone(), source })?;
        files.push((path, file));
    }
    Ok(files)
}

/// The number in `<16 digits>-<16 digits>.wal`.
fn sequence_of(name: &str) -> Option<u64> {
    let (sequence, index) = name.strip_suffix(".wal")?.split_once('-')?;
    let number =
        |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    number(index)?;
    number(sequence)
}

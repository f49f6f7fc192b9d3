//! A snapshot file, checked and opened.
//!
//! Owns: the hash behind the database and the list of its buckets. Must not know: what rows mean.
//! A newcomer's trap: whether there is a hash is told by the file's length alone: a database is a
//! multiple of 512 bytes, and a SHA-256 has 32.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use kijabi_disk::bbolt::{self, Reader};
use kijabi_machine::exchange::{Bucket, ExchangeError};
use sha2::{Digest as _, Sha256};

use super::BackupError;

/// What is asked of the hash behind a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashCheck {
    /// There must be one, and it must be right.
    Required,
    /// If there is one, it must be right.
    IfThere,
    /// It is not looked at.
    Skipped,
}

/// A database of etcd's, with or without a hash behind it.
#[derive(Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    reader: Reader,
    buckets: Vec<(Bucket, bbolt::Bucket)>,
}

/// What a walk calls with each key and value, until it fails.
type TryVisit<'a, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'a;

pub(super) const HASH_BYTES: u64 = 32;
const SECTOR_BYTES: u64 = 512;
/// More than etcd ever had.
const BUCKETS_MAX: usize = 64;
/// A bucket that only etcd's own tests use.
const TEST_BUCKET: &[u8] = b"test";

// === impl SnapshotFile ===

impl SnapshotFile {
    /// Opens and checks a file.
    pub fn open(path: &Path, check: HashCheck) -> Result<Self, BackupError> {
        let mut file = File::open(path).map_err(BackupError::io(path))?;
        let metadata = file.metadata().map_err(BackupError::io(path))?;
        if !metadata.is_file() {
            let source = std::io::Error::other("not a file");
            return Err(BackupError::Io { path: path.to_owned(), source });
        }
        let has_hash = metadata.len() % SECTOR_BYTES == HASH_BYTES;
        let bytes = if has_hash { metadata.len() - HASH_BYTES } else { metadata.len() };
        match check {
            HashCheck::Required if !has_hash => return Err(BackupError::NoHash),
            HashCheck::Required | HashCheck::IfThere if has_hash => {
                check_hash(path, &mut file, bytes)?;
            }
            _ => {}
        }
        let reader = Reader::open(file, bytes).map_err(BackupError::database(path))?;
        let mut buckets = Vec::new();
        for (name, bucket) in reader.buckets(BUCKETS_MAX).map_err(BackupError::database(path))? {
            match Bucket::of_name(&name) {
                Some(known) => buckets.push((known, bucket)),
                None if name == TEST_BUCKET => {}
                None => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let what = format!("bucket {name:?} is not one of etcd's");
                    return Err(BackupError::rows(path)(ExchangeError::Unknown(what)));
                }
            }
        }
        for needed in [Bucket::Key, Bucket::Meta] {
            if !buckets.iter().any(|(bucket, _)| *bucket == needed) {
                let what = format!("not a database of etcd: no bucket {:?}", needed.name());
                return Err(BackupError::rows(path)(ExchangeError::Unknown(what)));
            }
        }
        Ok(Self { path: path.to_owned(), reader, buckets })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the database.
    pub(super) fn bytes(&self) -> u64 {
        self.reader.bytes()
    }

    /// The buckets in the order of their names.
    pub(super) fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.buckets.iter().map(|(bucket, _)| *bucket)
    }

    /// Visits the rows of a bucket in order until `visit` breaks. A bucket that is not there has
    /// none.
    pub(super) fn scan(
        &self,
        bucket: Bucket,
        visit: &mut bbolt::VisitPair<'_>,
    ) -> Result<(), BackupError> {
        let Some((_, bucket)) = self.buckets.iter().find(|(known, _)| *known == bucket) else {
            return Ok(());
        };
        self.reader.scan(bucket, visit).map_err(BackupError::database(&self.path))
    }

    /// Like [`SnapshotFile::scan`], with a visit that may fail.
    pub(super) fn try_scan<E: Into<ScanError>>(
        &self,
        bucket: Bucket,
        visit: &mut TryVisit<'_, E>,
    ) -> Result<(), BackupError> {
        let mut failed = None;
        self.scan(bucket, &mut |key, value| match visit(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error.into());
                ControlFlow::Break(())
            }
        })?;
        match failed {
            None => Ok(()),
            Some(ScanError::Rows(error)) => Err(BackupError::rows(&self.path)(error)),
            Some(ScanError::Other(error)) => Err(*error),
        }
    }
}

/// Why a visit failed.
pub(super) enum ScanError {
    Rows(ExchangeError),
    Other(Box<BackupError>),
}

impl From<ExchangeError> for ScanError {
    fn from(error: ExchangeError) -> Self {
        Self::Rows(error)
    }
}

impl From<BackupError> for ScanError {
    fn from(error: BackupError) -> Self {
        Self::Other(Box::new(error))
    }
}

fn check_hash(path: &Path, file: &mut File, bytes: u64) -> Result<(), BackupError> {
    let found = hash_of(file, bytes).map_err(BackupError::io(path))?;
    let mut expected = [0; HASH_BYTES as usize];
    file.read_exact(&mut expected).map_err(BackupError::io(path))?;
    if found == expected {
        return Ok(());
    }
    Err(BackupError::WrongHash { expected: hex(&expected), found: hex(&found) })
}

/// SHA-256 of the first `bytes` of a file, which is read up to there.
pub(super) fn hash_of(file: &mut File, bytes: u64) -> std::io::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut reader = file.take(bytes);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&buffer[..read]);
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

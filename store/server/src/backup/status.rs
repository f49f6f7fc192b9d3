//! What there is to say about a snapshot file.
//!
//! Owns: etcd's numbers about it, and the hash of its key space. Must not know: how they are
//! printed. A newcomer's trap: the hash of the file covers all buckets and so differs between
//! members; the hash of the key space (HashKV) is the same on every member, and after a restore.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use kijabi_machine::exchange::{Bucket, ExchangeError, Taking};
use kijabi_machine::state::{
    MemoryState, StateBatch, StateError, StateReader, StateView, Table, VisitPair,
};
use kijabi_machine::{Machine, Row, Settings};
use kijabi_proto::mvccpb::KeyValue;
use parking_lot::RwLock;
use prost::Message as _;

use super::{BackupError, SnapshotFile};
use crate::service::hash_kv;

/// What `status` tells.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FileStatus {
    /// The hash of all buckets.
    pub hash: u32,
    /// The last revision.
    pub revision: i64,
    /// Keys that exist at the last revision.
    #[serde(rename = "totalKey")]
    pub total_key: usize,
    /// Bytes.
    #[serde(rename = "totalSize")]
    pub total_size: u64,
    /// The version of the database; empty before etcd 3.6.
    pub version: String,
}

/// The hash of a file's key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHash {
    /// The hash.
    pub hash: u32,
    /// The revision it is of.
    pub revision: i64,
    /// The compacted revision.
    pub compacted: i64,
}

// === impl SnapshotFile ===

impl SnapshotFile {
    /// Reads it all, and counts.
    pub fn status(&self) -> Result<FileStatus, BackupError> {
        let mut status = FileStatus {
            hash: 0,
            revision: 0,
            total_key: 0,
            total_size: self.bytes(),
            version: String::new(),
        };
        let mut keys: BTreeSet<Box<[u8]>> = BTreeSet::new();
        let buckets: Vec<Bucket> = self.buckets().collect();
        for bucket in buckets {
            status.hash = crc32c::crc32c_append(status.hash, bucket.name().as_bytes());
            self.try_scan(bucket, &mut |key, value| -> Result<(), ExchangeError> {
                status.hash = crc32c::crc32c_append(status.hash, key);
                status.hash = crc32c::crc32c_append(status.hash, value);
                if bucket == Bucket::Meta && key == b"storageVersion" {
                    status.version = String::from_utf8_lossy(value).into_owned();
                }
                if bucket != Bucket::Key {
                    return Ok(());
                }
                // What cannot be taken over is said now, not at the restore.
                Taking::default().row(bucket, key, value, &mut StateBatch::default())?;
                let Some(row) = Row::parse(key) else { return Ok(()) };
                status.revision = row.main;
                let name = KeyValue::decode(value).map(|record| record.key).unwrap_or_default();
                if row.tombstone {
                    keys.remove(&name[..]);
                } else if !name.is_empty() {
                    keys.insert(name[..].into());
                }
                Ok(())
            })?;
        }
        status.total_key = keys.len();
        Ok(status)
    }

    /// The hash of the key space at `revision`; 0 is the last one.
    pub fn hash_kv(self, revision: i64) -> Result<FileHash, BackupError> {
        let path = self.path().to_owned();
        let mut taking = Taking::default();
        let mut batch = StateBatch::default();
        for bucket in [Bucket::Key, Bucket::Meta] {
            self.try_scan(bucket, &mut |key, value| {
                let taken = taking.row(bucket, key, value, &mut batch);
                batch.ops.clear();
                taken
            })?;
        }
        taking.finish(&mut batch);
        let meta = MemoryState::default();
        meta.write(&batch);
        let state = Arc::new(FileState { file: self, meta });
        let machine = Machine::open(Arc::clone(&state) as _, Settings::default())?;
        let hashed = hash_kv(&RwLock::new(machine), &*state, revision)
            .map_err(|error| BackupError::Settings(format!("{}: {error}", path.display())))?;
        Ok(FileHash { hash: hashed.hash, revision: hashed.upto, compacted: hashed.compacted })
    }
}

/// The key space of a file, as a state that can be read.
struct FileState {
    file: SnapshotFile,
    meta: MemoryState,
}

impl StateView for FileState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.meta.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        if table != Table::Key {
            return self.meta.scan(table, from, to, visit);
        }
        let scanned = self.file.scan(Bucket::Key, &mut |key, value| {
            if to.is_some_and(|to| key >= to) {
                return ControlFlow::Break(());
            }
            // A row without content only tells a revision.
            if key < from || value.is_empty() {
                ControlFlow::Continue(())
            } else {
                visit(key, value)
            }
        });
        scanned.map_err(|error| StateError(error.to_string()))
    }
}

/// Nobody writes to the file.
impl StateReader for FileState {
    fn with_view(&self, read: &mut dyn FnMut(&dyn StateView)) {
        read(self);
    }
}

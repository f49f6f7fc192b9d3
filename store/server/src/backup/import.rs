//! Data of etcd's: a snapshot file, or a stopped member's data folder with its log.
//!
//! Owns: finding it, and bringing it into an empty state. Must not know: what the new member is. A
//! newcomer's trap: a member's database lags behind its log, so the entries it does not hold yet
//! are applied here, all of them: which of the last ones were committed only a majority could
//! tell, and a write that its client was told of may be among them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kijabi_base::limits::IMPORT_BATCH_BYTES;
use kijabi_disk::etcd_wal::EtcdWal;
use kijabi_disk::state::State;
use kijabi_machine::exchange::{Bucket, ExchangeError, Taking};
use kijabi_machine::state::{StateBatch, StateOp};
use rustix::fs::{FlockOperation, flock};

use super::snapshot_file::ScanError;
use super::{BackupError, HashCheck, SnapshotFile, replay};

/// Where data of etcd's comes from.
#[derive(Debug)]
pub struct Source {
    file: SnapshotFile,
    /// The log of a member's data folder.
    wal: Option<PathBuf>,
    /// Keeps the member whose folder it is from starting.
    _lock: Option<std::fs::File>,
}

/// How to find it.
#[derive(Clone, Debug)]
pub struct Import {
    /// A snapshot file or a data folder.
    pub path: PathBuf,
    /// The folder of the log, if it is not in the data folder.
    pub wal_dir: Option<PathBuf>,
    /// What is asked of a snapshot file's hash.
    pub check: HashCheck,
}

/// What came into the state.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) taking: Taking,
    pub(super) replayed: u64,
    pub(super) torn: Option<String>,
}

// === impl Import ===

impl Import {
    /// Opens and checks it. A folder stays locked until the source is dropped.
    pub fn open(&self) -> Result<Source, BackupError> {
        if !self.path.is_dir() {
            let file = SnapshotFile::open(&self.path, self.check)?;
            return Ok(Source { file, wal: None, _lock: None });
        }
        let member = self.path.join("member");
        if member.join("identity").exists() {
            let what = format!("{} is a Kijabi member's folder already", self.path.display());
            return Err(BackupError::Settings(what));
        }
        let database = member.join("snap").join("db");
        if !database.is_file() {
            return Err(BackupError::NoMember(self.path.clone()));
        }
        let lock = lock(&database)?;
        let file = SnapshotFile::open(&database, HashCheck::Skipped)?;
        let wal = self.wal_dir.clone().unwrap_or_else(|| member.join("wal"));
        Ok(Source { file, wal: Some(wal), _lock: Some(lock) })
    }
}

/// Takes the lock that etcd holds on its database as long as it runs.
fn lock(database: &Path) -> Result<std::fs::File, BackupError> {
    let file = std::fs::File::open(database).map_err(BackupError::io(database))?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(BackupError::Settings(format!(
            "{} is in use: stop the member first, or import a snapshot of it",
            database.display()
        ))),
        Err(error) => Err(BackupError::io(database)(error.into())),
    }
}

// === impl Source ===

impl Source {
    /// The database.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Brings it into an empty state.
pub(super) fn fill(state: &Arc<State>, source: &Source) -> Result<Filled, BackupError> {
    let mut taking = Taking::default();
    let mut batch = StateBatch::default();
    let mut bytes = 0;
    let buckets: Vec<Bucket> = source.file.buckets().collect();
    for bucket in buckets {
        source.file.try_scan(bucket, &mut |key, value| -> Result<(), ScanError> {
            taking.row(bucket, key, value, &mut batch)?;
            bytes += key.len() + value.len() + size_of::<StateOp>();
            if bytes >= IMPORT_BATCH_BYTES {
                state.write(&batch).map_err(BackupError::from)?;
                batch.ops.clear();
                bytes = 0;
            }
            Ok(())
        })?;
    }
    taking.finish(&mut batch);
    state.write(&batch)?;
    let Some(wal) = &source.wal else {
        return Ok(Filled { taking, replayed: 0, torn: None });
    };
    if taking.consistent_index == 0 && taking.rows > 0 {
        let what = "it does not say which entry of the log it is at".to_owned();
        return Err(BackupError::rows(source.path())(ExchangeError::Unknown(what)));
    }
    let wal = EtcdWal::open(wal, taking.consistent_index)?;
    let torn = wal.torn().map(|(path, offset)| format!("{} at {offset}", path.display()));
    let replayed = replay::replay(&wal, state)?;
    Ok(Filled { taking, replayed, torn })
}

//! From the state to a bbolt file of etcd's tables.
//!
//! Owns: the order in which tables become buckets. Must not know: who gets the file. A newcomer's
//! trap: everything is read from one view of the state, so the file is the state at one revision,
//! whatever is written meanwhile; and the file must not be what fills the disk the store lives on.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;

use kijabi_base::limits::SNAPSHOT_DISK_RESERVE_BYTES;
use kijabi_disk::bbolt::{BboltError, Writer};
use kijabi_disk::state::State;
use kijabi_machine::Row;
use kijabi_machine::exchange::{Bucket, ExchangeError, Giving, lease_row};
use kijabi_machine::state::{StateError, StateView, Table};

/// A written database.
#[derive(Debug)]
pub(crate) struct Database {
    /// The file, to be read from its beginning.
    pub(crate) file: File,
    /// Its length.
    pub(crate) bytes: u64,
    /// The revision it is at.
    pub(crate) revision: i64,
}

/// Why a database was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Rows(#[from] ExchangeError),
    #[error(transparent)]
    File(#[from] BboltError),
    #[error("only {0} bytes are left on the disk, which the store itself needs")]
    DiskFull(u64),
}

/// Bytes between two looks at how much room is left.
const BYTES_BETWEEN_LOOKS: u64 = 16 << 20;

/// Writes the state as it is now into an empty file. Reads and writes of the state go on.
pub(crate) fn write_database(state: &State, file: File) -> Result<Database, WriteError> {
    let view = state.view();
    let mut giving = Giving::default();
    for table in [Table::Meta, Table::Cluster] {
        let mut failed = None;
        view.scan(table, &[], None, &mut |key, value| match giving.row(table, key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)?;
    }
    let mut room = Room { file: file.try_clone().map_err(BboltError::from)?, unseen: 0 };
    room.look()?;
    let mut out = Writer::new(file)?;
    let mut newest = 0;
    out.bucket(Bucket::Key.name())?;
    copy(&view, Table::Key, &mut |key, value| {
        newest = Row::parse(key).map_or(newest, |row| row.main);
        out.put(key, value)?;
        room.written(key.len() + value.len())
    })?;
    if let Some(key) = giving.closing_row(newest) {
        out.put(&key, &[])?;
    }
    out.bucket(Bucket::Lease.name())?;
    copy(&view, Table::Lease, &mut |key, value| {
        out.put(key, &lease_row(value)?)?;
        room.written(key.len() + value.len())
    })?;
    for bucket in Bucket::ALL {
        if matches!(bucket, Bucket::Key | Bucket::Lease) {
            continue;
        }
        out.bucket(bucket.name())?;
        for (key, value) in giving.rows(bucket) {
            out.put(&key, &value)?;
        }
    }
    let (file, bytes) = out.finish()?;
    Ok(Database { file, bytes, revision: giving.revision() })
}

/// What takes each pair of a table.
type Put<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), WriteError> + 'a;

fn copy(view: &dyn StateView, table: Table, put: &mut Put<'_>) -> Result<(), WriteError> {
    let mut failed = None;
    view.scan(table, &[], None, &mut |key, value| match put(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// How much room the disk has left.
struct Room {
    file: File,
    unseen: u64,
}

impl Room {
    fn written(&mut self, bytes: usize) -> Result<(), WriteError> {
        self.unseen += bytes as u64;
        if self.unseen < BYTES_BETWEEN_LOOKS {
            return Ok(());
        }
        self.unseen = 0;
        self.look()
    }

    fn look(&self) -> Result<(), WriteError> {
        let disk = rustix::fs::fstatvfs(&self.file).map_err(io::Error::from);
        let disk = disk.map_err(BboltError::from)?;
        let left = disk.f_bavail.saturating_mul(disk.f_frsize);
        if left < SNAPSHOT_DISK_RESERVE_BYTES { Err(WriteError::DiskFull(left)) } else { Ok(()) }
    }
}

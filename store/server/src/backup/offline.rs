//! A snapshot file from a stopped member's data folder.
//!
//! Owns: bringing the state up to the end of the log first. Must not know: the format. A newcomer's
//! trap: the member's own state is not touched: what is missing in it is applied to a copy of
//! links, which goes away again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kijabi_base::clock;
use kijabi_disk::lock::DataDir;
use kijabi_disk::snapshot::StateHome;
use kijabi_disk::vfs::RealVfs;
use kijabi_disk::wal::{Wal, WalOptions};
use kijabi_machine::{Machine, Settings};
use parking_lot::RwLock;

use super::client::{Saved, finish};
use super::{BackupError, write_database};
use crate::apply_hooks::ApplyHooks;
use crate::config::{Config, ETCD_VERSION};
use crate::consensus::Applier;
use crate::metrics::Metrics;
use crate::outcomes::Outcomes;
use crate::watch::Hub;

/// Writes a snapshot of the stopped member in `data_dir` to the file `to`.
pub fn export(data_dir: &Path, wal_dir: Option<PathBuf>, to: &Path) -> Result<Saved, BackupError> {
    let member = data_dir.join("member");
    if !member.join("identity").is_file() {
        return Err(BackupError::NoMember(data_dir.to_owned()));
    }
    let _locked = DataDir::open(data_dir)?;
    let (home, state) = StateHome::open(&member.join("snap"))?;
    let checkpoint = home.checkpoint(&state, "export")?;
    drop(state);
    let copy = Arc::new(checkpoint.open()?);
    let wal_dir = wal_dir.unwrap_or_else(|| member.join("wal"));
    catch_up(&copy, home, &wal_dir)?;
    let part = super::client::part_of(to);
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).create(true).truncate(true).open(&part);
    let file = file.map_err(BackupError::io(&part))?;
    let written = write_database(&copy, file).map_err(|error| BackupError::Io {
        path: part.clone(),
        source: std::io::Error::other(error.to_string()),
    });
    let database = match written {
        Ok(database) => database,
        Err(error) => {
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
    };
    finish(database.file, database.bytes, &part, to)
}

/// Applies what the log holds beyond the state.
fn catch_up(
    state: &Arc<kijabi_disk::state::State>,
    home: StateHome,
    wal_dir: &Path,
) -> Result<(), BackupError> {
    let settings = Settings::default();
    let machine = Machine::open(Arc::clone(state) as _, settings)?;
    let hub = Hub::new(machine.revision());
    let machine = Arc::new(RwLock::new(machine));
    let metrics = Arc::new(Metrics::of(0, ETCD_VERSION, &Config::default(), &[]));
    let hooks = ApplyHooks::new(clock::now(), hub, 0, Outcomes::new(0, 0), metrics);
    let applier = Applier::new(machine, Arc::clone(state), home, settings, hooks);
    let wal = Wal::open(Arc::new(RealVfs), wal_dir, WalOptions::default())?;
    let caught_up = applier.catch_up(&wal);
    wal.close();
    caught_up.map_err(BackupError::io(wal_dir))
}

//! openraft's own suite for storages, on ours.

use std::sync::Arc;

use kijabi_base::clock;
use kijabi_disk::snapshot::StateHome;
use kijabi_disk::vfs::RealVfs;
use kijabi_disk::wal::{Wal, WalOptions};
use kijabi_machine::{Machine, Settings};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use parking_lot::RwLock;

use super::*;
use crate::apply_hooks::ApplyHooks;
use crate::metrics::Metrics;
use crate::outcomes::Outcomes;
use crate::watch::Hub;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Applier, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, Applier), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        // Small files and no cache, so that the suite crosses segments and reads from disk.
        let options =
            WalOptions { segment_bytes: 4096, cache_bytes_max: 0, ..WalOptions::default() };
        let wal = Wal::open(Arc::new(RealVfs), &dir.path().join("wal"), options).unwrap();
        let (home, state) = StateHome::open(&dir.path().join("snap")).unwrap();
        let state = Arc::new(state);
        let machine = Machine::open(Arc::clone(&state) as _, Settings::default()).unwrap();
        let hub = Hub::new(machine.revision());
        let metrics = Arc::new(Metrics::new(1, "test", 0));
        let hooks = ApplyHooks::new(clock::now(), hub, 0, Outcomes::new(1, 0), metrics);
        let machine = Arc::new(RwLock::new(machine));
        let applier = Applier::new(machine, state, home, Settings::default(), hooks);
        Ok((dir, LogStore::new(wal), applier))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_passes_openrafts_suite() {
    Suite::test_all(Builder).await.unwrap();
}

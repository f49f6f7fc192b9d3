//! The durable state in RocksDB: one column family for each table, and one for large records.
//!
//! Owns: how tables are kept, read and written. Must not know: what the values mean. A newcomer's
//! trap: a written batch is visible at once but durable only after a flush, all tables together,
//! so what a crash leaves is the state at some earlier applied index, whole (APPLY-1).

mod large;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use kijabi_base::limits;
use kijabi_machine::state::{
    StateBatch, StateError, StateOp, StateReader, StateView as _, Table, VisitPair, Wanted,
};
use large::{Again, Scan};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, Env, Options, ReadOptions, WriteBatch, WriteOptions,
};

/// Bytes of a file that have not begun their way to the disk.
const SYNC_BYTES: u64 = 1 << 20;

/// The state of one member. Readers and the one writer share it.
pub struct State {
    db: DB,
    path: PathBuf,
    cache: Cache,
    /// Whether there are, or may be, large records apart from their heads.
    has_large: AtomicBool,
}

/// What [`State::scan_all`] calls with each table, key and value.
pub type VisitRow<'a> = dyn FnMut(Table, &[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A consistent view of the state.
pub struct StateView<'a> {
    state: &'a State,
    snapshot: rocksdb::Snapshot<'a>,
}

// === impl StateView ===

impl StateView<'_> {
    /// Whoever needs a view reads much, and once.
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options.fill_cache(false);
        options
    }

    fn scanning(&self) -> Scan<'_> {
        Scan { snapshot: Some(&self.snapshot), again: Again::Rarely }
    }
}

impl std::fmt::Debug for StateView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateView").field("path", &self.state.path).finish_non_exhaustive()
    }
}

// === impl State ===

impl State {
    /// Opens the state in `path`, or begins an empty one.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let cache = Cache::new_lru_cache(limits::STATE_BLOCK_CACHE_BYTES);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // RocksDB's own log is off, so all tables must reach the disk together (APPLY-1).
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(limits::STATE_WRITE_BUFFER_BYTES);
        options.set_max_background_jobs(2);
        // A large file does not wait for the disk as a whole, and the log with it.
        options.set_bytes_per_sync(SYNC_BYTES);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_max_open_files(512);
        options.set_paranoid_checks(true);
        // Compactions, which wait for nobody, leave the processor to those for whom somebody waits.
        let mut env = Env::new().map_err(failed)?;
        env.lower_thread_pool_cpu_priority();
        options.set_env(&env);
        let families = FAMILIES
            .into_iter()
            .map(|name| ColumnFamilyDescriptor::new(name, family_options(&cache)));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(failed)?;
        let has_large = AtomicBool::new(false);
        let mut state = Self { db, path: path.to_owned(), cache, has_large };
        state.has_large = state.has_any(large::LARGE)?.into();
        Ok(state)
    }

    /// Writes a batch, whole.
    pub fn write(&self, batch: &StateBatch) -> Result<(), StateError> {
        let mut writes = WriteBatch::default();
        for op in &batch.ops {
            match op {
                StateOp::Put { table: Table::Key, key, value } => {
                    self.put_record(&mut writes, key, value);
                }
                StateOp::Put { table, key, value } => {
                    writes.put_cf(self.family(*table), key, value);
                }
                StateOp::Delete { table: Table::Key, key } => self.delete_record(&mut writes, key),
                StateOp::Delete { table, key } => writes.delete_cf(self.family(*table), key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(writes, &options).map_err(failed)
    }

    /// Makes everything written so far durable.
    pub fn flush(&self) -> Result<(), StateError> {
        let families: Vec<&ColumnFamily> = self.families().collect();
        let mut options = rocksdb::FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(failed)
    }

    /// Bytes that the files and the memory not yet in files take.
    pub fn size(&self) -> Result<u64, StateError> {
        let mut size = 0;
        for family in self.families() {
            for property in ["rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables"] {
                let number = self.db.property_int_value_cf(family, property).map_err(failed)?;
                size += number.unwrap_or_default();
            }
        }
        Ok(size)
    }

    /// Bytes of blocks in the cache.
    pub fn cached_bytes(&self) -> usize {
        self.cache.get_usage()
    }

    /// Rewrites the files without what was deleted. Reads and writes go on meanwhile.
    pub fn compact_files(&self) {
        let mut options = CompactOptions::default();
        // Else the usual compactions would wait for this one, files would pile up meanwhile, and
        // writes would have to wait for both.
        options.set_exclusive_manual_compaction(false);
        let everything = None::<&[u8]>;
        for family in self.families() {
            self.db.compact_range_cf_opt(family, everything, everything, &options);
        }
    }

    /// Links the state as it is now into the new folder `to`, durable.
    pub fn checkpoint(&self, to: &Path) -> Result<(), StateError> {
        let checkpoint = rocksdb::checkpoint::Checkpoint::new(&self.db).map_err(failed)?;
        checkpoint.create_checkpoint(to).map_err(failed)
    }

    /// Visits all pairs of all tables on one consistent view, until `visit` breaks.
    pub fn scan_all(&self, visit: &mut VisitRow<'_>) -> Result<(), StateError> {
        let view = self.view();
        for table in Table::ALL {
            let mut end = ControlFlow::Continue(());
            view.scan(table, &[], None, &mut |key, value| {
                end = visit(table, key, value);
                end
            })?;
            if end.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The state as it is now, for as long as it is read; writes go on meanwhile.
    pub fn view(&self) -> StateView<'_> {
        StateView { state: self, snapshot: self.db.snapshot() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn families(&self) -> impl Iterator<Item = &ColumnFamily> {
        FAMILIES.into_iter().map(|name| self.named(name))
    }

    fn family(&self, table: Table) -> &ColumnFamily {
        self.named(table.name())
    }

    fn named(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("all families are opened with the database")
    }

    fn has_any(&self, name: &str) -> Result<bool, StateError> {
        let mut pairs = self.db.raw_iterator_cf(self.named(name));
        pairs.seek_to_first();
        pairs.status().map_err(failed)?;
        Ok(pairs.valid())
    }

    fn get_with(
        &self,
        table: Table,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Option<Bytes>, StateError> {
        if table == Table::Key {
            return self.get_record_with(key, false, options);
        }
        self.get_from(self.family(table), key, options)
    }

    fn get_from(
        &self,
        family: &ColumnFamily,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Option<Bytes>, StateError> {
        let found = self.db.get_pinned_cf_opt(family, key, options).map_err(failed)?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan_with(
        &self,
        table: Table,
        (from, to): (&[u8], Option<&[u8]>),
        scan: Scan<'_>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        if table == Table::Key {
            return self.scan_records((from, to), scan, visit);
        }
        self.scan_family(self.family(table), (from, to), scan, visit)
    }

    /// Visits what a family has.
    fn scan_family(
        &self,
        family: &ColumnFamily,
        (from, to): (&[u8], Option<&[u8]>),
        scan: Scan<'_>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        let mut pairs = self.db.raw_iterator_cf_opt(family, scan.options(to));
        pairs.seek(from);
        while let Some((key, value)) = pairs.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            pairs.next();
        }
        // It is not valid at the end, and not after a failure.
        pairs.status().map_err(failed)
    }
}

/// The column families: the tables, and what is kept apart from one.
const FAMILIES: [&str; 5] = [
    Table::Key.name(),
    large::LARGE,
    Table::Meta.name(),
    Table::Lease.name(),
    Table::Cluster.name(),
];

fn family_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(limits::STATE_WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(3);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

fn failed(error: rocksdb::Error) -> StateError {
    StateError(error.into_string())
}

// === impl StateReader ===

impl kijabi_machine::state::StateView for StateView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.state.get_with(table, key, &self.options())
    }

    fn get_record(&self, key: &[u8], large: bool) -> Result<Option<Bytes>, StateError> {
        self.state.get_record_with(key, large, &self.options())
    }

    fn visit_records(
        &self,
        keys: &[(Vec<u8>, bool)],
        visit: &mut dyn FnMut(Option<&[u8]>),
    ) -> Result<(), StateError> {
        self.state.visit_records_with(keys, &self.options(), visit)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        self.state.scan_with(table, (from, to), self.scanning(), visit)
    }

    fn scan_rows(
        &self,
        wanted: Wanted,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        self.state.scan_family(self.state.with(wanted), (from, to), self.scanning(), visit)
    }
}

impl kijabi_machine::state::StateView for State {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.get_with(table, key, &ReadOptions::default())
    }

    fn get_record(&self, key: &[u8], large: bool) -> Result<Option<Bytes>, StateError> {
        self.get_record_with(key, large, &ReadOptions::default())
    }

    fn visit_records(
        &self,
        keys: &[(Vec<u8>, bool)],
        visit: &mut dyn FnMut(Option<&[u8]>),
    ) -> Result<(), StateError> {
        self.visit_records_with(keys, &ReadOptions::default(), visit)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        // Two families are read then.
        let snapshot = (table == Table::Key && self.has_large()).then(|| self.db.snapshot());
        let scan = Scan { snapshot: snapshot.as_ref(), again: Again::Often };
        self.scan_with(table, (from, to), scan, visit)
    }

    fn scan_rows(
        &self,
        wanted: Wanted,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        let scan = Scan { snapshot: None, again: Again::Often };
        self.scan_family(self.with(wanted), (from, to), scan, visit)
    }
}

impl StateReader for State {
    fn with_view(&self, read: &mut dyn FnMut(&dyn kijabi_machine::state::StateView)) {
        read(&self.view());
    }

    fn scan_through(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        let scan = Scan { snapshot: None, again: Again::Never };
        self.scan_family(self.family(Table::Key), (from, to), scan, visit)
    }

    fn estimated_bytes(&self, from: &[u8], to: &[u8]) -> u64 {
        let (family, range) = (self.family(Table::Key), rocksdb::Range::new(from, to));
        self.db.get_approximate_sizes_cf(family, &[range]).first().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(pairs: &[(&str, &str)]) -> StateBatch {
        let mut batch = StateBatch::default();
        for (key, value) in pairs {
            batch.put(Table::Key, key.as_bytes(), Bytes::copy_from_slice(value.as_bytes()));
        }
        batch
    }

    fn scanned(state: &State, from: &str, to: Option<&str>) -> Vec<String> {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            keys.push(format!(
                "{}={}",
                String::from_utf8_lossy(key),
                String::from_utf8_lossy(value)
            ));
            ControlFlow::Continue(())
        };
        state.scan(Table::Key, from.as_bytes(), to.map(str::as_bytes), &mut visit).unwrap();
        keys
    }

    #[test]
    fn a_batch_is_visible_at_once_and_durable_after_a_flush() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.write(&batch(&[("a", "1"), ("b", "2"), ("c", "3")])).unwrap();
        assert_eq!(scanned(&state, "a", Some("c")), ["a=1", "b=2"]);
        assert_eq!(state.get(Table::Key, b"c").unwrap().as_deref(), Some(&b"3"[..]));
        assert_eq!(state.get(Table::Meta, b"c").unwrap(), None);
        let keys = ["c", "x", "a"].map(|key| (key.into(), false));
        let mut found = Vec::new();
        state.visit_records(&keys, &mut |record| found.push(record.is_some())).unwrap();
        assert_eq!(found, [true, false, true]);
        state.flush().unwrap();
        let mut deletion = StateBatch::default();
        deletion.delete(Table::Key, b"a".to_vec());
        state.write(&deletion).unwrap();
        assert_eq!(scanned(&state, "", None), ["b=2", "c=3"]);
        assert!(state.size().unwrap() > 0);
    }

    #[test]
    fn a_view_still_has_what_is_removed_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.write(&batch(&[("a", "1"), ("b", "2")])).unwrap();
        state.with_view(&mut |view| {
            let mut deletion = StateBatch::default();
            deletion.delete(Table::Key, b"a".to_vec());
            state.write(&deletion).unwrap();
            state.write(&batch(&[("b", "3")])).unwrap();
            state.compact_files();
            let found = ["a", "b"].map(|key| view.get(Table::Key, key.as_bytes()).unwrap());
            assert_eq!(found, [Some("1".into()), Some("2".into())]);
        });
        assert_eq!(scanned(&state, "", None), ["b=3"]);
    }

    #[test]
    fn a_checkpoint_keeps_the_state_of_its_moment() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state")).unwrap();
        state.write(&batch(&[("a", "1")])).unwrap();
        let to = dir.path().join("checkpoint");
        state.checkpoint(&to).unwrap();
        state.write(&batch(&[("a", "2")])).unwrap();
        let then = State::open(&to).unwrap();
        assert_eq!(scanned(&then, "", None), ["a=1"]);
        assert_eq!(scanned(&state, "", None), ["a=2"]);
    }
}

//! Large records of keys, kept apart from their heads.
//!
//! Owns: where a record is, and putting both together again. Must not know: what is in a record. A
//! newcomer's trap: the table of keys has the head of a large record, so that a start, which reads
//! every row, need not read the values; whoever wants a record goes through here.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kijabi_machine::state::{StateError, Table, VisitPair, Wanted, is_large};
use kijabi_machine::{is_record_head, record_head};
use rocksdb::{ColumnFamily, DBRawIterator, ReadOptions, Snapshot, WriteBatch};

use super::{State, failed};

/// The column family's name.
pub(super) const LARGE: &str = "large";

/// How a scan reads. A snapshot that is gone must not be read from: RocksDB's options would not
/// notice.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    /// What is read; as it is now if `None`.
    pub(super) snapshot: Option<&'a Snapshot<'a>>,
    pub(super) again: Again,
}

/// Whether what a scan reads is going to be read again soon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Often,
    Rarely,
    /// And it is very much.
    Never,
}

/// Bytes that a scan of very many rows reads at once.
const READAHEAD_BYTES: usize = 1 << 20;

impl Scan<'_> {
    pub(super) fn options(self, to: Option<&[u8]>) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = self.snapshot {
            options.set_snapshot(snapshot);
        }
        options.fill_cache(self.again == Again::Often);
        if self.again == Again::Never {
            options.set_readahead_size(READAHEAD_BYTES);
        }
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        options
    }
}

impl State {
    fn large(&self) -> &ColumnFamily {
        self.named(LARGE)
    }

    /// The family that has what is wanted.
    pub(super) fn with(&self, wanted: Wanted) -> &ColumnFamily {
        match wanted {
            Wanted::Heads => self.family(Table::Key),
            Wanted::Large => self.large(),
        }
    }

    pub(super) fn has_large(&self) -> bool {
        self.has_large.load(Ordering::Relaxed)
    }

    /// Puts a record of a key, which is never put again with another one.
    pub(super) fn put_record(&self, writes: &mut WriteBatch, key: &[u8], record: &[u8]) {
        let keys = self.family(Table::Key);
        match is_large(record.len() as u64).then(|| record_head(record)).flatten() {
            Some(head) => {
                // Before anybody can see it, and so before it can be deleted.
                self.has_large.store(true, Ordering::Relaxed);
                writes.put_cf(keys, key, head);
                writes.put_cf(self.large(), key, record);
            }
            None => writes.put_cf(keys, key, record),
        }
    }

    /// Deletes a record, wherever it is.
    pub(super) fn delete_record(&self, writes: &mut WriteBatch, key: &[u8]) {
        writes.delete_cf(self.family(Table::Key), key);
        if self.has_large() {
            writes.delete_cf(self.large(), key);
        }
    }

    /// Gets the record of a row, which is believed to be large or not.
    pub(super) fn get_record_with(
        &self,
        key: &[u8],
        large: bool,
        options: &ReadOptions,
    ) -> Result<Option<Bytes>, StateError> {
        if large && let Some(record) = self.get_from(self.large(), key, options)? {
            return Ok(Some(record));
        }
        match self.get_from(self.family(Table::Key), key, options)? {
            // Without a snapshot it may have been deleted meanwhile.
            Some(head) if is_record_head(&head) => self.get_from(self.large(), key, options),
            found => Ok(found),
        }
    }

    /// Visits the records of several rows, each of which is believed to be large or not, in their
    /// order.
    pub(super) fn visit_records_with(
        &self,
        keys: &[(Vec<u8>, bool)],
        options: &ReadOptions,
        visit: &mut dyn FnMut(Option<&[u8]>),
    ) -> Result<(), StateError> {
        let get = |family, large: bool| {
            let keys = keys.iter().filter(|key| key.1 == large).map(|(key, _)| key);
            self.db.batched_multi_get_cf_opt(family, keys, false, options).into_iter()
        };
        let mut small = get(self.family(Table::Key), false);
        let mut large = get(self.large(), true);
        for (key, is_large) in keys {
            let found = if *is_large { large.next() } else { small.next() };
            match found.transpose().map_err(failed)?.flatten() {
                Some(record) if !is_record_head(&record) => visit(Some(&record)),
                // It is not where it was believed to be.
                None if !is_large => visit(None),
                _ => visit(self.get_record_with(key, !is_large, options)?.as_deref()),
            }
        }
        Ok(())
    }

    /// Visits the records of a range. Unless there is a snapshot, no large one may be deleted
    /// meanwhile.
    pub(super) fn scan_records(
        &self,
        (from, to): (&[u8], Option<&[u8]>),
        scan: Scan<'_>,
        visit: &mut VisitPair<'_>,
    ) -> Result<(), StateError> {
        let mut large: Option<DBRawIterator<'_>> = None;
        let mut broken = None;
        self.scan_family(self.family(Table::Key), (from, to), scan, &mut |key, value| {
            if !is_record_head(value) {
                return visit(key, value);
            }
            let records = large
                .get_or_insert_with(|| self.db.raw_iterator_cf_opt(self.large(), scan.options(to)));
            match record_at(records, key) {
                Ok(record) => visit(key, record),
                Err(error) => {
                    broken = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        broken.map_or(Ok(()), Err)
    }
}

/// Moves on to the record of a key, which is the next one or a later one.
fn record_at<'a>(records: &'a mut DBRawIterator<'_>, key: &[u8]) -> Result<&'a [u8], StateError> {
    if records.valid() {
        records.next();
    }
    if records.key() != Some(key) {
        records.seek(key);
    }
    records.status().map_err(failed)?;
    match records.item() {
        Some((found, record)) if found == key => Ok(record),
        _ => Err(StateError(format!("the record of the row {key:?} is missing"))),
    }
}

#[cfg(test)]
mod tests {
    use kijabi_base::limits;
    use kijabi_machine::state::{MemoryState, StateBatch, StateReader as _, StateView};
    use kijabi_machine::{HistoryLimit, Row, read_history};
    use kijabi_proto::mvccpb::KeyValue;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn scanned(view: &dyn StateView, from: &[u8], to: Option<&[u8]>) -> Pairs {
        let mut pairs = Vec::new();
        view.scan(Table::Key, from, to, &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        pairs
    }

    fn row(main: i64) -> Vec<u8> {
        Row::first_key_of(main)
    }

    fn record(main: i64, value_bytes: usize) -> Bytes {
        let kv = KeyValue {
            key: format!("key {main}").into(),
            mod_revision: main,
            value: vec![main as u8; value_bytes].into(),
            ..KeyValue::default()
        };
        kv.encode_to_vec().into()
    }

    fn agree(state: &State, model: &MemoryState, from: i64, to: i64) {
        let (from, to) = (row(from), row(to));
        let ends: [(&[u8], Option<&[u8]>); 3] = [(b"", None), (&from, None), (&from, Some(&to))];
        for (from, to) in ends {
            let expected = scanned(model, from, to);
            assert_eq!(scanned(state, from, to), expected);
            assert_eq!(scanned(&state.view(), from, to), expected);
        }
        // Whatever is believed of them.
        for believed in [|_| false, |_| true, |main| main % 3 == 0] {
            let keys: Vec<(Vec<u8>, bool)> =
                (0..40).rev().map(|main| (row(main), believed(main))).collect();
            let expected = visited(model, &keys);
            assert_eq!(visited(state, &keys), expected);
            assert_eq!(visited(&state.view(), &keys), expected);
            for ((key, large), expected) in keys.iter().zip(expected) {
                let record = state.get_record(key, *large).unwrap();
                assert_eq!(record.map(Vec::from), expected);
                assert_eq!(state.get(Table::Key, key).unwrap().map(Vec::from), expected);
            }
        }
    }

    fn visited(view: &dyn StateView, keys: &[(Vec<u8>, bool)]) -> Vec<Option<Vec<u8>>> {
        let mut records = Vec::new();
        view.visit_records(keys, &mut |record| records.push(record.map(<[u8]>::to_vec))).unwrap();
        records
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is put and deleted, records are what they are in a state that keeps them whole.
        #[test]
        fn large_records_are_read_like_all_others(
            changes in proptest::collection::vec((any::<bool>(), 0..12_usize, any::<bool>(), 0..30_i64), 1..30),
            ends in (0..30_i64, 0..30_i64),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut state = State::open(dir.path()).unwrap();
            let model = MemoryState::default();
            for (main, (deletes, kilobytes, reopens, deleted)) in (1_i64..).zip(changes) {
                let mut batch = StateBatch::default();
                batch.put(Table::Key, row(main), record(main, kilobytes << 10));
                if deletes {
                    batch.delete(Table::Key, row(deleted));
                }
                state.write(&batch).unwrap();
                model.write(&batch);
                if reopens && main % 7 == 0 {
                    state.flush().unwrap();
                    drop(state);
                    state = State::open(dir.path()).unwrap();
                }
            }
            agree(&state, &model, ends.0, ends.1);
            let mut heads = 0;
            state.scan_rows(Wanted::Heads, b"", None, &mut |_, head| {
                heads += 1;
                assert!(head.len() < limits::STATE_LARGE_RECORD_BYTES);
                ControlFlow::Continue(())
            }).unwrap();
            prop_assert_eq!(heads, scanned(&model, b"", None).len());
        }
    }

    #[test]
    fn history_has_the_large_records_that_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let (state, model) = (State::open(dir.path()).unwrap(), MemoryState::default());
        let mut batch = StateBatch::default();
        (1..=20).for_each(|main| {
            batch.put(Table::Key, row(main), record(main, 5000 * (main as usize % 2)));
        });
        state.write(&batch).unwrap();
        model.write(&batch);
        for bytes_max in [1, 20_000, usize::MAX] {
            let limit = HistoryLimit { revisions_max: 15, bytes_max };
            let read = |view: &dyn StateView| {
                let wanted = |key: &[u8]| key != b"key 3" && key != b"key 4";
                let history = read_history(view, 2, 19, limit, &wanted).unwrap();
                format!("{history:?}")
            };
            assert_eq!(read(&state), read(&model));
        }
    }

    #[test]
    fn a_deleted_record_leaves_nothing_but_a_view_still_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let mut batch = StateBatch::default();
        (1..=3).for_each(|main| batch.put(Table::Key, row(main), record(main, 10_000)));
        state.write(&batch).unwrap();
        state.with_view(&mut |view| {
            let mut deletion = StateBatch::default();
            (1..=3).for_each(|main| deletion.delete(Table::Key, row(main)));
            state.write(&deletion).unwrap();
            let records: Vec<_> = scanned(view, b"", None).into_iter().map(|pair| pair.1).collect();
            assert_eq!(records, [1, 2, 3].map(|main| record(main, 10_000)));
        });
        assert_eq!(scanned(&state, b"", None), []);
        assert!(!state.has_any(LARGE).unwrap());
    }

    /// As a folder has them that was written before large records were kept apart.
    #[test]
    fn large_records_beside_the_others_are_read_too() {
        let dir = tempfile::tempdir().unwrap();
        let (state, model) = (State::open(dir.path()).unwrap(), MemoryState::default());
        for main in 1..=20 {
            let mut batch = StateBatch::default();
            batch.put(Table::Key, row(main), record(main, 10_000));
            model.write(&batch);
            if main % 2 == 0 {
                state.write(&batch).unwrap();
            } else {
                let keys = state.family(Table::Key);
                state.db.put_cf(keys, row(main), record(main, 10_000)).unwrap();
            }
        }
        agree(&state, &model, 3, 17);
        let mut deletion = StateBatch::default();
        (1..=20).for_each(|main| deletion.delete(Table::Key, row(main)));
        state.write(&deletion).unwrap();
        assert_eq!(scanned(&state, b"", None), []);
    }

    #[test]
    fn a_head_without_its_record_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let mut batch = StateBatch::default();
        batch.put(Table::Key, row(1), record(1, 10_000));
        state.write(&batch).unwrap();
        state.db.delete_cf(state.large(), row(1)).unwrap();
        let scan = state.scan(Table::Key, b"", None, &mut |_, _| ControlFlow::Continue(()));
        assert!(scan.unwrap_err().to_string().ends_with("is missing"));
        assert_eq!(state.get(Table::Key, &row(1)).unwrap(), None);
        let limit = HistoryLimit { revisions_max: 10, bytes_max: 1 << 20 };
        let history = || read_history(&state, 1, 1, limit, &|_| true);
        assert!(history().unwrap_err().to_string().ends_with("which has a head"));
        // Unless a compaction may have removed it while it was read.
        let mut compaction = StateBatch::default();
        compaction.put(Table::Meta, b"compact_scheduled".to_vec(), 1_i64.to_be_bytes().to_vec());
        state.write(&compaction).unwrap();
        assert!(history().unwrap().revisions.is_empty());
    }
}

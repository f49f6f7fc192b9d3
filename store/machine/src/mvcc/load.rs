//! Building the index from the rows of the state, when a member starts.
//!
//! Owns: gathering the changes of each key, which come in the order of their revisions. Must not
//! know: where the rows come from. A newcomer's trap: looking for a key in a tree of a million is
//! many misses of the cache; so keys are found by a hash here, and sorted once at the end.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};

use super::entry::{Entry, Stored};
use super::index::Index;
use super::row::Row;
use super::tree::Tree;

/// An index that is being built.
#[derive(Default)]
pub(super) struct Loading {
    entries: Vec<Entry>,
    hasher: RandomState,
    /// Where a key is, by its hash.
    places: HashMap<u64, usize>,
    /// Keys whose hash is another key's, too.
    others: BTreeMap<Box<[u8]>, usize>,
    bytes: u64,
}

// === impl Loading ===

impl Loading {
    /// Records a change, in the order of the rows, as [`Index::record`] does.
    pub(super) fn record(
        &mut self,
        key: &[u8],
        row: Row,
        record_bytes: usize,
        created: i64,
        version: i64,
    ) {
        let stored = Stored::new(row, record_bytes);
        self.bytes += stored.bytes();
        match self.place(key).and_then(|place| self.entries.get_mut(place)) {
            Some(entry) => entry.push(stored, created, version),
            None => {
                self.remember(key, self.entries.len());
                self.entries.push(Entry::new(key, stored, created, version));
            }
        }
    }

    fn place(&self, key: &[u8]) -> Option<usize> {
        let place = *self.places.get(&self.hasher.hash_one(key))?;
        let same = self.entries.get(place).is_some_and(|entry| *entry.key == *key);
        if same { Some(place) } else { self.others.get(key).copied() }
    }

    fn remember(&mut self, key: &[u8], place: usize) {
        match self.places.entry(self.hasher.hash_one(key)) {
            Slot::Vacant(slot) => _ = slot.insert(place),
            Slot::Occupied(_) => _ = self.others.insert(key.into(), place),
        }
    }

    /// The index of everything recorded.
    pub(super) fn finish(self) -> Index {
        let Self { entries, places, bytes, .. } = self;
        drop(places);
        Index::of(Tree::build(sorted(entries)), bytes)
    }
}

/// Puts entries into the order of their keys.
fn sorted(entries: Vec<Entry>) -> Vec<Entry> {
    let common = common_prefix(&entries);
    // What tells most keys apart stands beside each other, so that sorting rarely looks at a key.
    let mut order: Vec<(u128, usize)> =
        entries.iter().enumerate().map(|(at, entry)| (head(&entry.key[common..]), at)).collect();
    order.sort_unstable_by(|(a, a_at), (b, b_at)| {
        a.cmp(b).then_with(|| entries[*a_at].key.cmp(&entries[*b_at].key))
    });
    let mut entries: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    order.into_iter().filter_map(|(_, at)| entries[at].take()).collect()
}

/// The length of what all keys begin with.
fn common_prefix(entries: &[Entry]) -> usize {
    let Some((first, rest)) = entries.split_first() else { return 0 };
    rest.iter().fold(first.key.len(), |common, entry| {
        let pairs = first.key[..common].iter().zip(&*entry.key);
        pairs.take_while(|(a, b)| a == b).count()
    })
}

/// The first bytes of a key as a number: it sorts as they do.
fn head(key: &[u8]) -> u128 {
    let mut head = [0; 16];
    let length = key.len().min(head.len());
    head[..length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key_range::KeyRange;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What is loaded is what was recorded, at every revision and for every key.
        #[test]
        fn a_loaded_index_is_the_recorded_one(
            changes in proptest::collection::vec((proptest::collection::vec(0..3_u8, 0..20), any::<bool>()), 0..200),
        ) {
            let (mut recorded, mut loading) = (Index::default(), Loading::default());
            for (at, (key, tombstone)) in changes.iter().enumerate() {
                let row = Row { main: at as i64 + 2, sub: 0, tombstone: *tombstone };
                recorded.record(key, row, at, row.main, 1);
                loading.record(key, row, at, row.main, 1);
            }
            let loaded = loading.finish();
            prop_assert_eq!((loaded.len(), loaded.bytes()), (recorded.len(), recorded.bytes()));
            for revision in 1..changes.len() as i64 + 3 {
                let all = || KeyRange::of(b"", &[0]);
                prop_assert_eq!(loaded.count_at(all(), revision), recorded.count_at(all(), revision));
                for (key, _) in &changes {
                    prop_assert_eq!(loaded.row_at(key, revision), recorded.row_at(key, revision));
                }
            }
            let keys = |index: &Index| {
                let mut keys = Vec::new();
                index.visit_current(KeyRange::of(b"", &[0]), |key, current| keys.push((key.to_vec(), current.row)));
                keys
            };
            prop_assert_eq!(keys(&loaded), keys(&recorded));
        }
    }
}

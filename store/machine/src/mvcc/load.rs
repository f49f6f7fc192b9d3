//! Building the index from the rows of the state, when a member starts.
//!
//! Owns: gathering the changes of each key, which come in the order of their revisions. Must not
//! know: where the rows come from. A newcomer's trap: looking for a key in a tree of a million is
//! many misses of the cache; so keys are found by a hash here, and sorted once at the end.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};

use super::entry::{Entry, Stored};
use super::index::Index;
use super::row::Row;
use super::tree::Tree;

/// There may be many revisions of few keys.
const ROOM_KEYS_MAX: usize = 1 << 20;

/// What is known of a row.
pub(super) struct Change<'a> {
    pub(super) key: &'a [u8],
    pub(super) row: Row,
    pub(super) record_bytes: usize,
    pub(super) created: i64,
    pub(super) version: i64,
    /// The lease that the key holds from then on; 0 for none.
    pub(super) lease: i64,
}

/// Some rows, gathered by their keys.
#[derive(Default)]
pub(super) struct Loading {
    entries: Vec<Entry>,
    hasher: RandomState,
    /// Where a key is, by its hash.
    places: HashMap<u64, usize, BuildHasherDefault<Hashed>>,
    /// Keys whose hash is another key's, too.
    others: BTreeMap<Box<[u8]>, usize>,
    /// Leases by the places of the keys that hold them now.
    leases: HashMap<usize, i64>,
    bytes: u64,
}

/// The same in the order of the keys.
#[derive(Default)]
pub(super) struct Loaded {
    /// The rows of each list come after those of the lists before it.
    lists: Vec<Vec<Entry>>,
    leases: BTreeMap<Box<[u8]>, i64>,
    bytes: u64,
}

/// A hash is not hashed again.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only numbers are written.
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

// === impl Loading ===

impl Loading {
    /// With room for so many keys, if they are not too many to be sure of.
    pub(super) fn with_room(keys: usize) -> Self {
        let keys = keys.min(ROOM_KEYS_MAX);
        Self {
            entries: Vec::with_capacity(keys),
            places: HashMap::with_capacity_and_hasher(keys, BuildHasherDefault::default()),
            ..Self::default()
        }
    }

    /// Records a change, in the order of the rows, as [`Index::record`] does.
    pub(super) fn record(&mut self, change: &Change<'_>) {
        let Change { key, row, record_bytes, created, version, lease } = *change;
        let stored = Stored::new(row, record_bytes);
        self.bytes += stored.bytes();
        let hash = self.hasher.hash_one(key);
        let place = match self.place(key, hash) {
            Some(place) => {
                self.entries[place].push(stored, created, version);
                place
            }
            None => {
                let place = self.entries.len();
                self.remember(key, hash, place);
                self.entries.push(Entry::new(key, stored, created, version));
                place
            }
        };
        if lease != 0 {
            self.leases.insert(place, lease);
        } else if !self.leases.is_empty() {
            self.leases.remove(&place);
        }
    }

    fn place(&self, key: &[u8], hash: u64) -> Option<usize> {
        let place = *self.places.get(&hash)?;
        let same = self.entries.get(place).is_some_and(|entry| *entry.key == *key);
        if same { Some(place) } else { self.others.get(key).copied() }
    }

    fn remember(&mut self, key: &[u8], hash: u64, place: usize) {
        match self.places.entry(hash) {
            Slot::Vacant(slot) => _ = slot.insert(place),
            Slot::Occupied(_) => _ = self.others.insert(key.into(), place),
        }
    }

    /// Everything recorded, sorted.
    pub(super) fn finish(self) -> Loaded {
        let Self { entries, places, leases, bytes, .. } = self;
        drop(places);
        let key = |(place, lease): (usize, i64)| (entries[place].key.clone(), lease);
        let leases = leases.into_iter().map(key).collect();
        Loaded { lists: vec![sorted(entries)], leases, bytes }
    }
}

// === impl Loaded ===

impl Loaded {
    /// Adds what was loaded of the rows after these.
    pub(super) fn append(mut self, later: Self) -> Self {
        if !self.leases.is_empty() {
            let is_in = |list: &Vec<Entry>, key: &[u8]| {
                list.binary_search_by(|entry| entry.key[..].cmp(key)).is_ok()
            };
            self.leases.retain(|key, _| !later.lists.iter().any(|list| is_in(list, key)));
        }
        self.leases.extend(later.leases);
        self.lists.extend(later.lists);
        self.bytes += later.bytes;
        self
    }

    /// The index, and which keys hold a lease now.
    pub(super) fn finish(self) -> (Index, impl Iterator<Item = (Box<[u8]>, i64)>) {
        (Index::of(Tree::build(merged(self.lists)), self.bytes), self.leases.into_iter())
    }
}

/// Joins sorted lists; what a list has of a key happened after what those before it have of it.
/// One by one: the whole would be as large as the index itself.
fn merged(lists: Vec<Vec<Entry>>) -> impl Iterator<Item = Entry> {
    let mut lists: Vec<_> = lists.into_iter().map(|list| list.into_iter().peekable()).collect();
    std::iter::from_fn(move || {
        let heads = lists.iter_mut().enumerate();
        let heads = heads.filter_map(|(at, list)| Some((&*list.peek()?.key, at)));
        // Of equal ones the first.
        let (_, first) = heads.min()?;
        let (begun, later) = lists.split_at_mut(first + 1);
        let mut entry = begun.last_mut()?.next()?;
        for list in later {
            if let Some(more) = list.next_if(|more| more.key == entry.key) {
                entry.append(more);
            }
        }
        Some(entry)
    })
}

/// Puts entries into the order of their keys.
fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    let common = common_prefix(&entries);
    // What tells most keys apart stands beside each other, so that sorting rarely looks at a key.
    let mut order: Vec<(u128, u32)> =
        (0_u32..).zip(&entries).map(|(at, entry)| (head(&entry.key[common..]), at)).collect();
    order.sort_unstable_by(|(a, a_at), (b, b_at)| {
        let key = |at: u32| &entries[at as usize].key;
        a.cmp(b).then_with(|| key(*a_at).cmp(key(*b_at)))
    });
    // In place, one cycle of the permutation after the other.
    for begin in 0..order.len() {
        let mut at = begin;
        loop {
            let from = std::mem::replace(&mut order[at].1, at as u32) as usize;
            if from == begin || from == at {
                break;
            }
            entries.swap(at, from);
            at = from;
        }
    }
    entries
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
            let mut recorded = Index::default();
            let mut parts = [Loading::default(), Loading::default(), Loading::default()];
            let mut leases = BTreeMap::new();
            for (at, (key, tombstone)) in changes.iter().enumerate() {
                let row = Row { main: at as i64 + 2, sub: 0, tombstone: *tombstone };
                let lease = if *tombstone { 0 } else { at as i64 % 3 };
                recorded.record(key, row, at, row.main, 1);
                let change =
                    Change { key, row, record_bytes: at, created: row.main, version: 1, lease };
                parts[at * 3 / changes.len()].record(&change);
                leases.insert(key.clone().into_boxed_slice(), lease);
            }
            let all = parts.into_iter().map(Loading::finish).reduce(Loaded::append).unwrap();
            let (loaded, attached) = all.finish();
            leases.retain(|_, lease| *lease != 0);
            prop_assert_eq!(attached.collect::<BTreeMap<_, _>>(), leases);
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
                index.visit_current(KeyRange::of(b"", &[0]), |key, current| keys.push((key.to_vec(), current)));
                keys
            };
            prop_assert_eq!(keys(&loaded), keys(&recorded));
        }
    }
}

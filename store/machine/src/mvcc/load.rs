//! Building the index from the rows of the state, when a member starts.
//!
//! Owns: gathering the changes of each key, which come in the order of their revisions. Must not
//! know: where the rows come from. A newcomer's trap: looking for a key in a tree of a million is
//! many misses of the cache; so keys are found by a hash here, and sorted once at the end.

use std::cmp::Ordering;
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
    entries: Vec<Entry>,
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
        Loaded { entries: sorted(entries), leases, bytes }
    }
}

// === impl Loaded ===

impl Loaded {
    /// Adds what was loaded of the rows after these.
    pub(super) fn append(self, later: Self) -> Self {
        if self.entries.is_empty() {
            return later;
        }
        let mut leases = self.leases;
        if !leases.is_empty() {
            let known = |key: &[u8]| later.entries.binary_search_by(|e| e.key[..].cmp(key));
            leases.retain(|key, _| known(key).is_err());
        }
        leases.extend(later.leases);
        let entries = merged(self.entries, later.entries);
        Self { entries, leases, bytes: self.bytes + later.bytes }
    }

    /// The index, and which keys hold a lease now.
    pub(super) fn finish(self) -> (Index, impl Iterator<Item = (Box<[u8]>, i64)>) {
        (Index::of(Tree::build(self.entries), self.bytes), self.leases.into_iter())
    }
}

/// Joins two sorted lists; what the second has of a key happened after what the first has of it.
fn merged(first: Vec<Entry>, second: Vec<Entry>) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(first.len().max(second.len()));
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    loop {
        let order = match (first.peek(), second.peek()) {
            (None, None) => return entries,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.key.cmp(&b.key),
        };
        let mut entry = if order == Ordering::Greater { None } else { first.next() };
        if order != Ordering::Less
            && let Some(later) = second.next()
        {
            match &mut entry {
                Some(entry) => entry.append(later),
                None => entry = Some(later),
            }
        }
        entries.extend(entry);
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

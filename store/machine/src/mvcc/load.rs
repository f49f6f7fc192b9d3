//! Building the index from the rows of the state, when a member starts.
//!
//! Owns: gathering the changes of each key, which come in the order of their revisions. Must not
//! know: where the rows come from. A newcomer's trap: looking for a key among a million is many
//! misses of the cache; so nothing is looked for here. A few rows at a time are sorted by their
//! keys, and those lists are joined once, at the end.

use std::collections::HashMap;
use std::vec;

use super::entry::{Entry, Stored};
use super::index::Index;
use super::row::Row;
use super::tree::Tree;

/// Rows that are sorted at once: what they take fits into the cache of a processor. In unit tests
/// few, so that there are many lists.
const LIST_ROWS_MAX: usize = if cfg!(test) { 7 } else { 1 << 16 };
/// Bytes of keys after which a list ends, too.
const LIST_KEY_BYTES_MAX: usize = 16 << 20;
/// Of so many keys in a list, one is looked at to cut the whole in ranges.
const SAMPLED_KEYS: usize = if cfg!(test) { 2 } else { 1 << 10 };
/// Fewer of those are not worth a range of their own.
const SAMPLE_MIN: usize = if cfg!(test) { 4 } else { 16 };

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

/// Rows on their way into lists.
#[derive(Default)]
pub(super) struct Loading {
    rows: Vec<Gathered>,
    /// The keys of these rows, one after the other.
    keys: Vec<u8>,
    /// The leases that rows attach, by their places.
    leases: HashMap<u32, i64>,
    /// Room for sorting.
    order: Vec<(u128, u32)>,
    loaded: Loaded,
}

/// A row that is not in a list yet.
struct Gathered {
    key_at: u32,
    key_bytes: u32,
    stored: Stored,
    created: i64,
    version: i64,
}

/// The same in the order of the keys.
#[derive(Default)]
pub(super) struct Loaded {
    /// The rows of each list come after those of the lists before it.
    lists: Vec<List>,
    bytes: u64,
}

/// Some keys in their order, with some of their rows.
struct List {
    entries: Vec<Entry>,
    /// The leases that keys hold after the last of these rows, by their places.
    leases: HashMap<u32, i64>,
}

// === impl Loading ===

impl Loading {
    /// Records a change, in the order of the rows, as [`Index::record`] does.
    pub(super) fn record(&mut self, change: &Change<'_>) {
        let Change { key, row, record_bytes, created, version, lease } = *change;
        let stored = Stored::new(row, record_bytes);
        self.loaded.bytes += stored.bytes();
        if lease != 0 {
            self.leases.insert(self.rows.len() as u32, lease);
        }
        let (key_at, key_bytes) = (self.keys.len() as u32, key.len() as u32);
        self.rows.push(Gathered { key_at, key_bytes, stored, created, version });
        self.keys.extend_from_slice(key);
        if self.rows.len() >= LIST_ROWS_MAX || self.keys.len() >= LIST_KEY_BYTES_MAX {
            self.end_list();
        }
    }

    /// Everything recorded since the last time, sorted.
    pub(super) fn finish(&mut self) -> Loaded {
        self.end_list();
        std::mem::take(&mut self.loaded)
    }

    fn end_list(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let (rows, keys) = (&self.rows, &self.keys);
        let key = |row: &Gathered| &keys[row.key_at as usize..][..row.key_bytes as usize];
        let common = common_prefix(rows.iter().map(key));
        // What tells most keys apart stands beside each other, so that sorting rarely looks at a
        // key.
        let heads = (0_u32..).zip(rows).map(|(at, row)| (head(&key(row)[common..]), at));
        self.order.clear();
        self.order.extend(heads);
        self.order.sort_unstable_by(|(a, a_at), (b, b_at)| {
            let key = |at: &u32| (key(&rows[*at as usize]), *at);
            a.cmp(b).then_with(|| key(a_at).cmp(&key(b_at)))
        });
        let mut list = List { entries: Vec::new(), leases: HashMap::new() };
        for (_, at) in &self.order {
            let row = &rows[*at as usize];
            let (key, &Gathered { stored, created, version, .. }) = (key(row), row);
            match list.entries.last_mut() {
                Some(entry) if *entry.key == *key => entry.push(stored, created, version),
                _ => list.entries.push(Entry::new(key, stored, created, version)),
            }
            if !self.leases.is_empty() {
                list.set_lease(self.leases.get(at).copied());
            }
        }
        list.entries.shrink_to_fit();
        self.loaded.lists.push(list);
        self.rows.clear();
        self.keys.clear();
        self.leases.clear();
    }
}

// === impl List ===

impl List {
    /// Notes the lease of the last key.
    fn set_lease(&mut self, lease: Option<i64>) {
        let at = (self.entries.len() - 1) as u32;
        match lease {
            Some(lease) => self.leases.insert(at, lease),
            None => self.leases.remove(&at),
        };
    }

    /// Takes the keys from `first` on away.
    fn split_off(&mut self, first: &[u8]) -> Self {
        let at = self.entries.partition_point(|entry| *entry.key < *first);
        let entries = self.entries.split_off(at);
        let later = self.leases.extract_if(|place, _| *place as usize >= at);
        let leases = later.map(|(place, lease)| (place - at as u32, lease)).collect();
        Self { entries, leases }
    }

    fn ends(&self) -> impl Iterator<Item = &[u8]> {
        [self.entries.first(), self.entries.last()].into_iter().flatten().map(|entry| &*entry.key)
    }
}

// === impl Loaded ===

impl Loaded {
    /// Adds what was loaded of the rows after these.
    pub(super) fn append(&mut self, later: Self) {
        self.lists.extend(later.lists);
        self.bytes += later.bytes;
    }

    /// The same in ranges of keys, in their order, of about as many keys as each other: no more
    /// than `ranges_max`, and only one if there are few.
    pub(super) fn by_ranges(mut self, ranges_max: usize) -> Vec<Self> {
        // A few keys of each list tell about how all of them lie.
        let sampled = |list: &List| {
            list.entries.iter().step_by(SAMPLED_KEYS).map(|entry| entry.key.clone()).collect()
        };
        let mut sample: Vec<Box<[u8]>> = self.lists.iter().flat_map::<Vec<_>, _>(sampled).collect();
        sample.sort_unstable();
        let ranges_max = ranges_max.min(sample.len() / SAMPLE_MIN);
        let mut ranges = Vec::new();
        for range in (1..ranges_max).rev() {
            let first = &sample[sample.len() * range / ranges_max];
            let lists = self.lists.iter_mut().map(|list| list.split_off(first)).collect();
            ranges.push(Self { lists, bytes: 0 });
        }
        ranges.push(self);
        ranges.reverse();
        ranges
    }

    /// The keys in their order, each with all of its rows, and which of them hold a lease now.
    pub(super) fn join(self) -> Piece {
        let mut joined = Joined::of(self.lists);
        let tree = Tree::build(&mut joined);
        Piece { tree, leases: joined.leases, bytes: self.bytes }
    }
}

/// The keys of one range.
pub(super) struct Piece {
    tree: Tree,
    leases: Leases,
    bytes: u64,
}

/// Which keys hold which leases.
pub(super) type Leases = Vec<(Box<[u8]>, i64)>;

impl Piece {
    /// Puts ranges together, which must come in their order.
    pub(super) fn index(pieces: Vec<Self>) -> (Index, Leases) {
        let bytes = pieces.iter().map(|piece| piece.bytes).sum();
        let (trees, leases): (Vec<Tree>, Vec<Leases>) =
            pieces.into_iter().map(|piece| (piece.tree, piece.leases)).unzip();
        (Index::of(Tree::of(trees), bytes), leases.concat())
    }
}

/// The keys of all lists in their order, one by one: the whole would be as large as the index.
struct Joined {
    /// For each key of each list, in the order of the keys and then of the lists: its head, the
    /// list that has it, and its place there.
    order: vec::IntoIter<(u128, u32, u32)>,
    lists: Vec<(vec::IntoIter<Entry>, HashMap<u32, i64>)>,
    /// The keys so far that hold a lease.
    leases: Leases,
}

// === impl Joined ===

impl Joined {
    fn of(lists: Vec<List>) -> Self {
        // The keys of a sorted list begin with what its first and its last one begin with.
        let common = common_prefix(lists.iter().flat_map(List::ends));
        let keys = lists.iter().map(|list| list.entries.len()).sum();
        let mut order: Vec<(u128, u32, u32)> = Vec::with_capacity(keys);
        for (from, list) in (0_u32..).zip(&lists) {
            let entries = (0_u32..).zip(&list.entries);
            order.extend(entries.map(|(at, entry)| (head(&entry.key[common..]), from, at)));
        }
        // It is a few sorted runs, which this sort joins.
        order.sort_by(|(a, a_from, a_at), (b, b_from, b_at)| {
            let key = |from: u32, at: u32| &lists[from as usize].entries[at as usize].key;
            let keys = || key(*a_from, *a_at).cmp(key(*b_from, *b_at));
            a.cmp(b).then_with(keys).then(a_from.cmp(b_from))
        });
        let lists = lists.into_iter().map(|list| (list.entries.into_iter(), list.leases));
        Self { order: order.into_iter(), lists: lists.collect(), leases: Vec::new() }
    }
}

impl Iterator for Joined {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (head, mut from, mut at) = self.order.next()?;
        let mut entry = self.lists[from as usize].0.next()?;
        while let Some((next_head, next, next_at)) = self.order.as_slice().first().copied()
            && next_head == head
            && let Some(more) = self.lists[next as usize].0.as_slice().first()
            && more.key == entry.key
        {
            (from, at) = (next, next_at);
            entry.append(self.lists[from as usize].0.next()?);
            self.order.next();
        }
        if let Some(lease) = self.lists[from as usize].1.get(&at) {
            self.leases.push((entry.key.clone(), *lease));
        }
        Some(entry)
    }
}

/// The length of what all keys begin with.
fn common_prefix<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> usize {
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |common, key| {
        let pairs = first[..common].iter().zip(key);
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
    use std::collections::BTreeMap;

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
            let mut loading = Loading::default();
            let mut loaded = Loaded::default();
            let mut leases = BTreeMap::new();
            for (at, (key, tombstone)) in changes.iter().enumerate() {
                let row = Row::new(at as i64 + 2, 0, *tombstone);
                let lease = if *tombstone { 0 } else { at as i64 % 3 };
                recorded.record(key, row, at, row.main, 1);
                let change =
                    Change { key, row, record_bytes: at, created: row.main, version: 1, lease };
                loading.record(&change);
                if (at * 3 / changes.len()) != (at + 1) * 3 / changes.len() {
                    // The end of a part.
                    loaded.append(loading.finish());
                }
                leases.insert(key.clone().into_boxed_slice(), lease);
            }
            let pieces = loaded.by_ranges(3).into_iter().map(Loaded::join).collect();
            let (loaded, attached) = Piece::index(pieces);
            leases.retain(|_, lease| *lease != 0);
            prop_assert_eq!(attached.into_iter().collect::<BTreeMap<_, _>>(), leases);
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

//! The ordered set of keys: a tree of three levels that can count.
//!
//! Owns: the order, and how many keys are there in any range at any revision. Must not know: what a
//! change means. A newcomer's trap: each part of the tree knows how many of its keys are alive now
//! and since which revision that has not changed; so a count at an older revision looks only into
//! the parts where a key was created or deleted since, and updates do not matter at all.

use std::ops::ControlFlow;

use super::entry::{Entry, Stored};
use super::key_range::KeyRange;

/// Keys in a leaf. In unit tests few, so that small trees have all shapes.
const LEAF_KEYS: usize = if cfg!(test) { 4 } else { 128 };
/// Leaves in a branch.
const BRANCH_LEAVES: usize = if cfg!(test) { 4 } else { 256 };

/// The tree. No leaf and no branch is ever empty.
#[derive(Debug, Default)]
pub(super) struct Tree {
    branches: Vec<Branch>,
    keys: usize,
}

#[derive(Debug)]
struct Branch {
    leaves: Vec<Leaf>,
    tally: Tally,
}

#[derive(Debug)]
struct Leaf {
    entries: Vec<Entry>,
    tally: Tally,
}

/// What a part of the tree knows of its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// How many exist now.
    live: usize,
    /// The last revision at which one of them was created or deleted, or a later one.
    turned: i64,
}

/// Where a key is, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    branch: usize,
    leaf: usize,
    entry: usize,
}

// === impl Tally ===

impl Tally {
    fn turn(&mut self, live: bool, revision: i64) {
        self.live = if live { self.live + 1 } else { self.live.saturating_sub(1) };
        self.turned = self.turned.max(revision);
    }
}

// === impl Leaf ===

impl Leaf {
    fn of(entries: Vec<Entry>) -> Self {
        let tally = Tally {
            live: entries.iter().filter(|entry| entry.is_live()).count(),
            turned: entries.iter().map(Entry::last_revision).max().unwrap_or(0),
        };
        Self { entries, tally }
    }

    fn first_key(&self) -> &[u8] {
        self.entries.first().map_or(&[], |entry| &entry.key)
    }

    /// Takes over part of a leaf's entries.
    fn split_from(old: &mut Self, at: usize) -> Self {
        let entries = old.entries.split_off(at);
        let live = entries.iter().filter(|entry| entry.is_live()).count();
        old.tally.live -= live;
        Self { entries, tally: Tally { live, turned: old.tally.turned } }
    }
}

// === impl Branch ===

impl Branch {
    fn of(leaves: Vec<Leaf>) -> Self {
        let tally = Tally {
            live: leaves.iter().map(|leaf| leaf.tally.live).sum(),
            turned: leaves.iter().map(|leaf| leaf.tally.turned).max().unwrap_or(0),
        };
        Self { leaves, tally }
    }

    fn first_key(&self) -> &[u8] {
        self.leaves.first().map_or(&[], Leaf::first_key)
    }
}

// === impl Tree ===

impl Tree {
    /// A tree of entries that are in the order of their keys.
    pub(super) fn build(entries: impl Iterator<Item = Entry>) -> Self {
        let mut keys = 0;
        let counted = entries.inspect(|_| keys += 1);
        // Not full, so that the first keys that are added do not split every leaf.
        let leaves = in_chunks(counted, LEAF_KEYS / 4 * 3).map(Leaf::of);
        let branches = in_chunks(leaves, BRANCH_LEAVES / 4 * 3).map(Branch::of).collect();
        Self { branches, keys }
    }

    /// One tree of several, whose keys come one after the other.
    pub(super) fn of(trees: Vec<Self>) -> Self {
        let keys = trees.iter().map(Self::len).sum();
        Self { branches: trees.into_iter().flat_map(|tree| tree.branches).collect(), keys }
    }

    /// How many keys there are, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.keys
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let place = self.locate(key).ok()?;
        self.branches[place.branch].leaves[place.leaf].entries.get(place.entry)
    }

    /// Records a change of a key, which may be new.
    pub(super) fn record(&mut self, key: &[u8], stored: Stored, created: i64, version: i64) {
        let place = match self.locate(key) {
            Ok(place) => {
                let entry =
                    &mut self.branches[place.branch].leaves[place.leaf].entries[place.entry];
                let was_live = entry.is_live();
                entry.push(stored, created, version);
                if was_live == entry.is_live() {
                    return;
                }
                place
            }
            Err(place) => {
                let place = self.insert(place, Entry::new(key, stored, created, version));
                if stored.is_tombstone() {
                    return;
                }
                place
            }
        };
        let branch = &mut self.branches[place.branch];
        branch.tally.turn(!stored.is_tombstone(), stored.main);
        branch.leaves[place.leaf].tally.turn(!stored.is_tombstone(), stored.main);
    }

    /// Visits the entries of `range` in key order until `visit` breaks.
    pub(super) fn visit(
        &self,
        range: KeyRange<'_>,
        mut visit: impl FnMut(&Entry) -> ControlFlow<()>,
    ) {
        let (from, to) = match range {
            KeyRange::One(key) => {
                // One key is looked up once, not as a range.
                let _ = self.get(key).map(visit);
                return;
            }
            KeyRange::Between { .. } if range.is_empty() => return,
            KeyRange::Between { from, to } => (from, to),
        };
        for part in self.parts(from, to) {
            if part.entries().iter().try_for_each(&mut visit).is_break() {
                return;
            }
        }
    }

    /// How many keys of `range` existed at `revision`.
    pub(super) fn count(&self, range: KeyRange<'_>, revision: i64) -> usize {
        let (from, to) = match range {
            KeyRange::One(key) => {
                return self.get(key).is_some_and(|e| e.row_at(revision).is_some()).into();
            }
            KeyRange::Between { .. } if range.is_empty() => return 0,
            KeyRange::Between { from, to } => (from, to),
        };
        let (start, end) = self.span(from, to);
        // Whole branches in the middle are counted without a look at their leaves.
        let middle = start.branch + 1..end.branch;
        let still = |branch: &Branch| branch.tally.turned <= revision;
        let inner: usize = self
            .branches
            .get(middle.clone())
            .unwrap_or_default()
            .iter()
            .filter(|branch| still(branch))
            .map(|branch| branch.tally.live)
            .sum();
        let counted = |at: usize| middle.contains(&at) && still(&self.branches[at]);
        let outer: usize = self
            .parts_between(start, end)
            .filter(|part| !counted(part.branch))
            .map(|part| part.count(revision))
            .sum();
        inner + outer
    }

    /// The entries from `from` on, to be changed. They must stay as alive as they are.
    pub(super) fn entries_from(&mut self, from: &[u8]) -> impl Iterator<Item = &mut Entry> {
        let start = self.lower(from);
        let branches = self.branches.iter_mut().enumerate().skip(start.branch);
        branches.flat_map(move |(at, branch)| {
            let first = if at == start.branch { start.leaf } else { 0 };
            let leaves = branch.leaves.iter_mut().enumerate().skip(first);
            leaves.flat_map(move |(leaf_at, leaf)| {
                let is_start = (at, leaf_at) == (start.branch, start.leaf);
                leaf.entries.iter_mut().skip(if is_start { start.entry } else { 0 })
            })
        })
    }

    /// Forgets a key that is not alive.
    pub(super) fn remove(&mut self, key: &[u8]) {
        let Ok(place) = self.locate(key) else { return };
        let branch = &mut self.branches[place.branch];
        let leaf = &mut branch.leaves[place.leaf];
        let entry = leaf.entries.remove(place.entry);
        debug_assert!(!entry.is_live(), "only a dead key is forgotten");
        self.keys -= 1;
        let small = leaf.entries.len() < LEAF_KEYS / 4;
        if small {
            Self::merge(branch, place.leaf);
        }
        if branch.leaves.is_empty() {
            self.branches.remove(place.branch);
        }
    }

    /// Joins a small leaf with the next one, or removes it if it is empty.
    fn merge(branch: &mut Branch, at: usize) {
        let small = branch.leaves[at].entries.len();
        if small == 0 {
            branch.leaves.remove(at);
            return;
        }
        let fits = |next: &Leaf| small + next.entries.len() <= LEAF_KEYS / 4 * 3;
        if branch.leaves.get(at + 1).is_some_and(fits) {
            let next = branch.leaves.remove(at + 1);
            let leaf = &mut branch.leaves[at];
            leaf.entries.extend(next.entries);
            leaf.tally.live += next.tally.live;
            leaf.tally.turned = leaf.tally.turned.max(next.tally.turned);
        }
    }

    /// The place of `key`; as an error the one it would be inserted at.
    fn locate(&self, key: &[u8]) -> Result<Place, Place> {
        let before = |first: &[u8]| first <= key;
        let at = self.branches.partition_point(|branch| before(branch.first_key()));
        let branch = at.saturating_sub(1);
        let Some(found) = self.branches.get(branch) else {
            return Err(Place { branch: 0, leaf: 0, entry: 0 });
        };
        let at = found.leaves.partition_point(|leaf| before(leaf.first_key()));
        let leaf = at.saturating_sub(1);
        let entries = &found.leaves[leaf].entries;
        match entries.binary_search_by(|entry| entry.key[..].cmp(key)) {
            Ok(entry) => Ok(Place { branch, leaf, entry }),
            Err(entry) => Err(Place { branch, leaf, entry }),
        }
    }

    /// The place of the first key that is not before `key`; it may be the end of a leaf.
    fn lower(&self, key: &[u8]) -> Place {
        self.locate(key).unwrap_or_else(|place| place)
    }

    fn span(&self, from: &[u8], to: Option<&[u8]>) -> (Place, Place) {
        let end = Place { branch: self.branches.len(), leaf: 0, entry: 0 };
        (self.lower(from), to.map_or(end, |to| self.lower(to)))
    }

    fn parts<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> impl Iterator<Item = Part<'a>> {
        let (start, end) = self.span(from, to);
        self.parts_between(start, end)
    }

    /// The leaves, or what lies of them, between two places.
    fn parts_between(&self, start: Place, end: Place) -> impl Iterator<Item = Part<'_>> {
        let branches = self.branches.iter().enumerate().skip(start.branch);
        branches.take_while(move |(at, _)| *at <= end.branch).flat_map(move |(at, branch)| {
            let first = if at == start.branch { start.leaf } else { 0 };
            let leaves = branch.leaves.iter().enumerate().skip(first);
            let last = if at == end.branch { end.leaf } else { usize::MAX };
            leaves.take_while(move |(leaf_at, _)| *leaf_at <= last).map(move |(leaf_at, leaf)| {
                let is = |place: Place| (at, leaf_at) == (place.branch, place.leaf);
                let from = if is(start) { start.entry } else { 0 };
                let to = if is(end) { end.entry } else { leaf.entries.len() };
                Part { branch: at, leaf, from, to }
            })
        })
    }

    fn insert(&mut self, mut place: Place, entry: Entry) -> Place {
        self.keys += 1;
        if self.branches.is_empty() {
            let leaf = Leaf { entries: vec![entry], tally: Tally::default() };
            self.branches.push(Branch::of(vec![leaf]));
            return place;
        }
        let leaves = &mut self.branches[place.branch].leaves;
        if leaves[place.leaf].entries.len() < LEAF_KEYS {
            leaves[place.leaf].entries.insert(place.entry, entry);
            return place;
        }
        // Keys that come in order leave full leaves behind, others half full ones.
        let at = if place.entry == LEAF_KEYS { LEAF_KEYS } else { LEAF_KEYS / 2 };
        let mut right = Leaf::split_from(&mut leaves[place.leaf], at);
        if place.entry >= at {
            right.entries.insert(place.entry - at, entry);
            leaves.insert(place.leaf + 1, right);
            place = Place { leaf: place.leaf + 1, entry: place.entry - at, ..place };
        } else {
            leaves.insert(place.leaf + 1, right);
            leaves[place.leaf].entries.insert(place.entry, entry);
        }
        self.split_branch(place)
    }

    /// Splits a branch that has become too large; gives the new place of what is at `place`.
    fn split_branch(&mut self, place: Place) -> Place {
        let branch = &mut self.branches[place.branch];
        let count = branch.leaves.len();
        if count <= BRANCH_LEAVES {
            return place;
        }
        let at = if place.leaf + 1 == count { count - 1 } else { count / 2 };
        let right = Branch::of(branch.leaves.split_off(at));
        branch.tally.live -= right.tally.live;
        self.branches.insert(place.branch + 1, right);
        match place.leaf.checked_sub(at) {
            Some(leaf) => Place { branch: place.branch + 1, leaf, ..place },
            None => place,
        }
    }
}

/// Cuts a list into lists of `length`, but for the last one.
fn in_chunks<T>(mut rest: impl Iterator<Item = T>, length: usize) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let mut chunk = Vec::with_capacity(length);
        chunk.extend(rest.by_ref().take(length));
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// A leaf, or what lies of it in a range.
struct Part<'a> {
    branch: usize,
    leaf: &'a Leaf,
    from: usize,
    to: usize,
}

impl Part<'_> {
    fn entries(&self) -> &[Entry] {
        self.leaf.entries.get(self.from..self.to).unwrap_or_default()
    }

    fn count(&self, revision: i64) -> usize {
        let entries = self.entries();
        if entries.len() == self.leaf.entries.len() && self.leaf.tally.turned <= revision {
            return self.leaf.tally.live;
        }
        entries.iter().filter(|entry| entry.row_at(revision).is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::row::Row;
    use super::*;

    /// One change: a key, and whether it is deleted.
    fn changes() -> impl Strategy<Value = Vec<(u8, bool)>> {
        proptest::collection::vec((0..120_u8, prop::bool::weighted(0.35)), 1..400)
    }

    fn apply(tree: &mut Tree, key: u8, revision: i64, tombstone: bool) {
        let row = Row::new(revision, 0, tombstone);
        tree.record(&[key], Stored::new(row, 1), revision, 1);
    }

    impl Tree {
        fn check(&self) {
            let mut keys: Vec<&[u8]> = Vec::new();
            for branch in &self.branches {
                assert!((1..=BRANCH_LEAVES).contains(&branch.leaves.len()));
                let of = |leaf: &Leaf| leaf.entries.iter().filter(|entry| entry.is_live()).count();
                assert_eq!(branch.tally.live, branch.leaves.iter().map(of).sum::<usize>());
                for leaf in &branch.leaves {
                    assert!((1..=LEAF_KEYS).contains(&leaf.entries.len()));
                    assert_eq!(leaf.tally.live, of(leaf));
                    assert!(leaf.tally.turned <= branch.tally.turned);
                    keys.extend(leaf.entries.iter().map(|entry| &*entry.key));
                }
            }
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
            assert_eq!(keys.len(), self.keys);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Every count at every revision is what counting one by one gives, whatever was removed.
        #[test]
        fn counts_agree_with_a_plain_map(changes in changes(), from in 0..120_u8, to in 0..130_u8) {
            let mut tree = Tree::default();
            let mut states: Vec<BTreeMap<u8, bool>> = vec![BTreeMap::new()];
            for (key, deleted) in changes {
                let revision = states.len() as i64;
                let mut state = states.last().unwrap().clone();
                let live = state.get(&key).copied();
                if deleted && live != Some(true) {
                    // A dead key may be forgotten; later counts do not see it either way.
                    if live == Some(false) {
                        tree.remove(&[key]);
                        for state in &mut states {
                            state.remove(&key);
                        }
                        tree.check();
                    }
                    continue;
                }
                apply(&mut tree, key, revision, deleted);
                tree.check();
                state.insert(key, !deleted);
                states.push(state);
            }
            for (revision, state) in states.iter().enumerate() {
                let ranges = [
                    (KeyRange::Between { from: &[from], to: Some(&[to]) }, from..to),
                    (KeyRange::Between { from: &[from], to: None }, from..255),
                ];
                for (range, keys) in ranges {
                    let expected =
                        state.iter().filter(|(key, live)| **live && keys.contains(key)).count();
                    prop_assert_eq!(tree.count(range, revision as i64), expected);
                    let mut visited = Vec::new();
                    tree.visit(range, |entry| {
                        if entry.row_at(revision as i64).is_some() {
                            visited.push(entry.key[0]);
                        }
                        ControlFlow::Continue(())
                    });
                    prop_assert_eq!(visited.len(), expected);
                }
                let one = tree.count(KeyRange::One(&[from]), revision as i64);
                prop_assert_eq!(one == 1, state.get(&from) == Some(&true));
            }
        }
    }

    #[test]
    fn keys_in_order_fill_their_leaves() {
        let mut tree = Tree::default();
        for key in 0..=200 {
            apply(&mut tree, key, i64::from(key) + 1, false);
        }
        tree.check();
        let leaves: usize = tree.branches.iter().map(|branch| branch.leaves.len()).sum();
        assert!(leaves <= 201_usize.div_ceil(LEAF_KEYS), "{leaves}");
        for key in 0..=200 {
            apply(&mut tree, key, 300 + i64::from(key), true);
        }
        for key in 0..=200 {
            tree.remove(&[key]);
            tree.check();
        }
        assert!(tree.branches.is_empty());
    }
}

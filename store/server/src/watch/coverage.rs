//! A set of keys, given as ranges: is a key in it?
//!
//! Owns: the disjoint ranges. Must not know: who is interested in them. A newcomer's trap: ranges
//! are only ever added; who removes some starts a new set.

use std::collections::BTreeMap;
use std::ops::Bound;

use kijabi_machine::KeyRange;

/// The union of key ranges: `from` to the end, where no end is "every key from there on".
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    /// Disjoint and not touching.
    ranges: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Coverage {
    /// Adds the keys of `range`.
    pub(crate) fn add(&mut self, range: KeyRange<'_>) {
        if range.is_empty() {
            return;
        }
        match range {
            KeyRange::One(key) => self.add_between(key.to_vec(), Some(successor(key))),
            KeyRange::Between { from, to } => {
                self.add_between(from.to_vec(), to.map(<[u8]>::to_vec));
            }
        }
    }

    fn add_between(&mut self, mut from: Vec<u8>, mut to: Option<Vec<u8>>) {
        // Swallow every range that overlaps or touches the new one.
        loop {
            let touching = match &to {
                Some(to) => self.ranges.range::<Vec<u8>, _>(..=to).next_back(),
                None => self.ranges.iter().next_back(),
            };
            let Some((old_from, old_to)) = touching else { break };
            if old_to.as_ref().is_some_and(|old_to| *old_to < from) {
                break;
            }
            let old_from = old_from.clone();
            let old_to = self.ranges.remove(&old_from).flatten();
            to = match (to, old_to) {
                (Some(a), Some(b)) => Some(a.max(b)),
                _ => None,
            };
            from = from.min(old_from);
        }
        self.ranges.insert(from, to);
    }

    /// Adds everything of `other`, in time of the smaller of both.
    pub(crate) fn merge(&mut self, mut other: Self) {
        if other.ranges.len() > self.ranges.len() {
            std::mem::swap(self, &mut other);
        }
        for (from, to) in other.ranges {
            self.add_between(from, to);
        }
    }

    /// Whether `key` is in the set.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let below = self.ranges.range::<[u8], _>(upto).next_back();
        below.is_some_and(|(_, to)| to.as_ref().is_none_or(|to| key < &to[..]))
    }
}

/// The first key after `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_keys_are_found() {
        let mut set = Coverage::default();
        assert!(!set.contains(b""));
        for (key, end) in [("m", "p"), ("a", ""), ("c", "e"), ("o", "r"), ("e", "f"), ("z", "b")] {
            set.add(KeyRange::of(key.as_bytes(), end.as_bytes()));
        }
        assert_eq!(set.ranges.len(), 3, "{set:?}");
        for (key, within) in
            [("a", true), ("a\0", false), ("b", false), ("c", true), ("ee", true), ("f", false)]
        {
            assert_eq!(set.contains(key.as_bytes()), within, "{key}");
        }
        set.add(KeyRange::of(b"b", b"\0"));
        assert_eq!(set.ranges.len(), 2, "{set:?}");
        assert!(set.contains(b"zzz"));
    }
}

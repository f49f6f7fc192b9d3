//! The keys that grants add up to.
//!
//! Owns: a set of keys as disjoint ranges. Must not know: roles. A newcomer's trap: what is asked
//! for must be covered as a whole and as it was sent: a grant on one key does not cover "from that
//! key on" (GHSA-xg4h), and two grants that touch cover what spans them both.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::mvcc::KeyRange;

/// A range of keys; no end if `to` is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

/// A set of keys, as ranges that neither overlap nor touch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Span>);

impl Ranges {
    /// The union of ranges.
    pub(super) fn union<'a>(ranges: impl IntoIterator<Item = KeyRange<'a>>) -> Self {
        let mut spans: Vec<Span> = ranges.into_iter().map(Span::of).collect();
        spans.sort_by(|a, b| a.from.cmp(&b.from));
        let mut merged: Vec<Span> = Vec::new();
        for span in spans {
            match merged.last_mut() {
                Some(last) if last.reaches(&span.from) => last.extend(span.to),
                _ => merged.push(span),
            }
        }
        Self(merged)
    }

    /// Whether every key of `range` is in the set. A range whose end is not beyond its start
    /// counts as its start.
    pub(super) fn covers(&self, range: KeyRange<'_>) -> bool {
        let (from, to) = match range {
            KeyRange::One(key) => (key, Some(key)),
            KeyRange::Between { from, to } => (from, to),
        };
        let after = self.0.partition_point(|span| &span.from[..] <= from);
        let Some(span) = after.checked_sub(1).and_then(|at| self.0.get(at)) else { return false };
        match (&span.to, to) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(end), Some(to)) => from < &end[..] && to <= &end[..],
        }
    }

    /// Whether all of `keys` are in the set. Looks at the gaps between the ranges rather than at
    /// the keys, of which a lease may have very many.
    pub(super) fn covers_all(&self, keys: &BTreeSet<Arc<[u8]>>) -> bool {
        self.gaps().all(|gap| keys.range::<[u8], _>(gap).next().is_none())
    }

    /// The ranges of keys that are not in the set.
    fn gaps(&self) -> impl Iterator<Item = (Bound<&[u8]>, Bound<&[u8]>)> {
        let ends = self.0.iter().map(|span| span.to.as_deref().map(Bound::Included));
        let starts = self.0.iter().map(|span| Some(Bound::Excluded(&span.from[..])));
        let from = std::iter::once(Some(Bound::Unbounded)).chain(ends);
        let to = starts.chain(std::iter::once(Some(Bound::Unbounded)));
        from.zip(to).filter_map(|(from, to)| Some((from?, to?)))
    }
}

impl Span {
    fn of(range: KeyRange<'_>) -> Self {
        match range {
            KeyRange::One(key) => Self { from: key.to_vec(), to: Some([key, &[0]].concat()) },
            KeyRange::Between { from, to } => {
                Self { from: from.to_vec(), to: to.map(<[u8]>::to_vec) }
            }
        }
    }

    fn reaches(&self, key: &[u8]) -> bool {
        self.to.as_deref().is_none_or(|end| key <= end)
    }

    fn extend(&mut self, to: Option<Vec<u8>>) {
        self.to = match (self.to.take(), to) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(of: &[(&str, &str)]) -> Ranges {
        Ranges::union(of.iter().map(|(key, end)| KeyRange::of(key.as_bytes(), end.as_bytes())))
    }

    #[test]
    fn a_request_is_covered_as_a_whole_or_not_at_all() {
        type Range = (&'static str, &'static str);
        let cases: &[(&[Range], Range, bool)] = &[
            (&[], ("a", ""), false),
            (&[("a", "")], ("a", ""), true),
            (&[("a", "")], ("a\0", ""), false),
            // GHSA-xg4h: one key is not "from that key on", nor a range that begins with it.
            (&[("a", "")], ("a", "\0"), false),
            (&[("a", "")], ("a", "b"), false),
            (&[("a", "")], ("a", "a\0"), true),
            (&[("a", "c")], ("b", ""), true),
            (&[("a", "c")], ("c", ""), false),
            (&[("a", "c")], ("a", "d"), false),
            (&[("a", "c")], ("a", "\0"), false),
            (&[("a", "c"), ("c", "e")], ("b", "d"), true),
            (&[("a", "c"), ("b", "e")], ("a", "e"), true),
            (&[("a", "c"), ("d", "e")], ("a", "e"), false),
            (&[("a", "\0")], ("zzz", "\0"), true),
            (&[("b", "\0")], ("a", "\0"), false),
            (&[("b", "\0"), ("a", "b")], ("a", "\0"), true),
            (&[("\0", "\0")], ("\0", "\0"), true),
            (&[("a", ""), ("a\0", "")], ("a", "a\0\0"), true),
            // No key at all is meant; etcd asks for a grant on the start.
            (&[("a", "c")], ("b", "a"), true),
            (&[("a", "c")], ("z", "a"), false),
        ];
        for (grants, (key, end), covered) in cases {
            let range = KeyRange::of(key.as_bytes(), end.as_bytes());
            assert_eq!(ranges(grants).covers(range), *covered, "{grants:?} {key:?} {end:?}");
        }
    }

    #[test]
    fn keys_outside_are_found_in_the_gaps() {
        let keys = |keys: &[&str]| -> BTreeSet<Arc<[u8]>> {
            keys.iter().map(|key| Arc::from(key.as_bytes())).collect()
        };
        let set = ranges(&[("b", "c"), ("e", ""), ("x", "\0")]);
        assert!(set.covers_all(&keys(&[])));
        assert!(set.covers_all(&keys(&["b", "ba", "e", "x", "zz"])));
        for outside in ["a", "c", "d", "e\0", "w"] {
            assert!(!set.covers_all(&keys(&["b", outside])), "{outside}");
        }
        assert!(!ranges(&[]).covers_all(&keys(&["a"])));
        assert!(ranges(&[]).covers_all(&keys(&[])));
    }
}

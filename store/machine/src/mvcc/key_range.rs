//! Which keys a request means.
//!
//! Owns: etcd's rules for `key` and `range_end`. Must not know: what is done with the keys. A
//! newcomer's trap: no `range_end` is one key, while a `range_end` of one zero byte is every key
//! from `key` on.

/// The keys a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// Just this key.
    One(&'a [u8]),
    /// From `from` up to but without `to`; without end if `to` is `None`.
    Between {
        /// The first key.
        from: &'a [u8],
        /// The first key that is not meant any more.
        to: Option<&'a [u8]>,
    },
}

impl<'a> KeyRange<'a> {
    /// Reads a request's `key` and `range_end`.
    pub fn of(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::One(key),
            [0] => Self::Between { from: key, to: None },
            to => Self::Between { from: key, to: Some(to) },
        }
    }

    /// Whether `key` is meant.
    pub fn contains(&self, key: &[u8]) -> bool {
        match *self {
            Self::One(one) => one == key,
            Self::Between { from, to } => from <= key && to.is_none_or(|to| key < to),
        }
    }

    /// Whether no key can be meant: the end is not beyond the start.
    pub fn is_empty(&self) -> bool {
        matches!(*self, Self::Between { from, to: Some(to) } if from >= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_end_decides_which_keys_are_meant() {
        let cases = [
            ("a", "", "a", true),
            ("a", "", "aa", false),
            ("a", "\0", "zzz", true),
            ("b", "\0", "a", false),
            ("a", "c", "b", true),
            ("a", "c", "c", false),
            ("c", "a", "b", false),
            ("\0", "\0", "\0", true),
            ("a", "a", "a", false),
        ];
        for (key, end, probe, meant) in cases {
            assert_eq!(
                KeyRange::of(key.as_bytes(), end.as_bytes()).contains(probe.as_bytes()),
                meant,
                "{key:?} {end:?} {probe:?}"
            );
        }
    }
}

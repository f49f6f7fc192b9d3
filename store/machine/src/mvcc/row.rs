//! One change of one key: a revision, as a row of the durable table and as an entry of the index.
//!
//! Owns: the 17 or 18 bytes of a row's key, which are etcd's own. Must not know: what the row
//! holds. A newcomer's trap: `main` is what clients call the revision; `sub` only orders the
//! changes inside one transaction.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// One change: the transaction's revision, its place in the transaction, and whether it deleted.
/// They are ordered as their keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The revision clients see.
    pub main: i64,
    /// The place inside the revision.
    pub sub: u32,
    /// Whether the change deleted the key.
    pub tombstone: bool,
    /// Whether its record is large, as far as is known: where to look first.
    pub(crate) large: Hint,
}

/// What may or may not be known of a row. It is no part of what the row is: all hints are equal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hint(pub(crate) bool);

impl PartialEq for Hint {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Hint {}

impl PartialOrd for Hint {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Hint {
    fn cmp(&self, _other: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl Hash for Hint {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

/// Bytes of a row's key without the tombstone's mark.
const ROW_KEY_BYTES: usize = 17;

impl Row {
    /// A row of whose record nothing is known.
    pub fn new(main: i64, sub: u32, tombstone: bool) -> Self {
        Self { main, sub, tombstone, large: Hint::default() }
    }

    /// The row's key in the table: 8 bytes of revision, `_`, 8 bytes of sub revision, and `t` for
    /// a tombstone.
    pub fn key(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(ROW_KEY_BYTES + 1);
        key.extend_from_slice(&self.main.to_be_bytes());
        key.push(b'_');
        key.extend_from_slice(&u64::from(self.sub).to_be_bytes());
        if self.tombstone {
            key.push(b't');
        }
        key
    }

    /// The length of the row's key.
    pub(crate) fn key_bytes(self) -> usize {
        ROW_KEY_BYTES + usize::from(self.tombstone)
    }

    /// Reads a row's key; `None` if it is none.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let (main, rest) = key.split_first_chunk::<8>()?;
        let (sub, mark) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
        let tombstone = match mark {
            b"" => false,
            b"t" => true,
            _ => return None,
        };
        let sub = u32::try_from(u64::from_be_bytes(*sub)).ok()?;
        Some(Self::new(i64::from_be_bytes(*main), sub, tombstone))
    }

    /// The smallest row key of `revision`.
    pub fn first_key_of(revision: i64) -> Vec<u8> {
        Self::new(revision, 0, false).key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_key_reads_back_and_sorts_by_revision() {
        let rows = [(1, 0, false), (1, 1, true), (2, 0, false), (300, 7, true)]
            .map(|(main, sub, tombstone)| Row::new(main, sub, tombstone));
        for row in rows {
            assert_eq!(Row::parse(&row.key()), Some(row));
        }
        assert!(rows.windows(2).all(|pair| pair[0].key() < pair[1].key()));
        assert!(rows.is_sorted());
    }

    #[test]
    fn anything_else_is_no_row() {
        for key in [&b""[..], b"short", b"12345678-12345678", b"12345678_12345678x"] {
            assert_eq!(Row::parse(key), None);
        }
    }
}

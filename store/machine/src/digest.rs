//! A digest of everything the log has done to the state: members that have applied the same entries
//! must have the same one.
//!
//! Owns: how the digest goes on from entry to entry, and the last ones by index. Must not know: who
//! compares them. A newcomer's trap: it is of what was written, so it differs from the first entry
//! on that two members answered differently, and never agrees again; what only one member does by
//! itself, such as removing compacted rows, is not in it.

use std::collections::VecDeque;

use kijabi_base::limits::DIGESTS_KEPT;

use crate::meta;
use crate::state::{StateBatch, StateError, StateOp, StateReader, Table};

/// The digest after each of the last entries.
#[derive(Debug)]
pub(crate) struct Digests {
    value: u64,
    /// The index of the last one.
    index: u64,
    recent: VecDeque<u64>,
}

// === impl Digests ===

impl Digests {
    pub(crate) fn open(state: &dyn StateReader, index: u64) -> Result<Self, StateError> {
        // Where nothing was applied yet there is nothing to compare: the first entry is at index 0.
        let stored = meta::read_i64(state, meta::DIGEST)?.map(i64::cast_unsigned);
        Ok(Self { value: stored.unwrap_or(0), index, recent: stored.into_iter().collect() })
    }

    /// Goes on with the entry at `index` and stores the digest in its own batch (APPLY-1).
    pub(crate) fn extend(&mut self, index: u64, batch: &mut StateBatch) {
        self.value = mixed(self.value ^ mixed(index ^ (u64::from(checksum(batch)) << 32)));
        if index != self.index + 1 {
            // A machine that is not fed every index, as in tests: what was there is not connected.
            self.recent.clear();
        }
        self.index = index;
        self.recent.push_back(self.value);
        while self.recent.len() > DIGESTS_KEPT {
            self.recent.pop_front();
        }
        meta::put_i64(batch, meta::DIGEST, self.value.cast_signed());
    }

    /// The digest after the entry at `index`, if it is one of the last ones.
    pub(crate) fn at(&self, index: u64) -> Option<u64> {
        let back = usize::try_from(self.index.checked_sub(index)?).ok()?;
        self.recent.len().checked_sub(back + 1).and_then(|at| self.recent.get(at)).copied()
    }
}

/// The checksum of a batch's operations.
fn checksum(batch: &StateBatch) -> u32 {
    let mut crc = 0;
    let mut add = |bytes: &[u8]| crc = crc32c::crc32c_append(crc, bytes);
    for op in &batch.ops {
        let (mark, table, key, value) = match op {
            StateOp::Put { table, key, value } => (1, table, key, &value[..]),
            StateOp::Delete { table, key } => (2, table, key, &[][..]),
        };
        add(&[mark, number_of(*table)]);
        add(&(key.len() as u64).to_le_bytes());
        add(key);
        add(&(value.len() as u64).to_le_bytes());
        add(value);
    }
    crc
}

/// Fixed for good: members of different versions compare digests.
fn number_of(table: Table) -> u8 {
    match table {
        Table::Key => 1,
        Table::Meta => 2,
        Table::Lease => 3,
        Table::Cluster => 4,
    }
}

/// SplitMix64's finish: every bit of the input changes half of those of the output.
fn mixed(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemoryState;

    fn batch(value: &'static str) -> StateBatch {
        let mut batch = StateBatch::default();
        batch.put(Table::Key, b"k".to_vec(), value.as_bytes());
        batch
    }

    #[test]
    fn digests_agree_until_the_first_difference_and_never_again() {
        let state = MemoryState::default();
        let (mut a, mut b) = (Digests::open(&state, 0).unwrap(), Digests::open(&state, 0).unwrap());
        // One that has applied nothing has nothing to say of the first entry.
        a.extend(0, &mut batch("same"));
        assert_eq!((a.at(0).is_some(), b.at(0)), (true, None));
        b.extend(0, &mut batch("same"));
        for index in 1..=20 {
            a.extend(index, &mut batch("same"));
            b.extend(index, &mut batch(if index == 10 { "other" } else { "same" }));
        }
        for index in 0..=20 {
            assert_eq!(a.at(index) == b.at(index), index < 10, "{index}");
        }
        assert_eq!((a.at(21), a.at(u64::MAX)), (None, None));
    }

    #[test]
    fn it_goes_on_after_a_restart_and_only_the_last_ones_are_kept() {
        let state = MemoryState::default();
        let mut digests = Digests::open(&state, 0).unwrap();
        let last = DIGESTS_KEPT as u64 + 7;
        for index in 1..=last {
            let mut batch = batch("v");
            digests.extend(index, &mut batch);
            state.write(&batch);
        }
        assert_eq!((digests.at(7), digests.at(8).is_some()), (None, true));
        let mut reopened = Digests::open(&state, last).unwrap();
        assert_eq!((reopened.at(last), reopened.at(last - 1)), (digests.at(last), None));
        digests.extend(last + 1, &mut batch("w"));
        reopened.extend(last + 1, &mut batch("w"));
        assert_eq!(reopened.at(last + 1), digests.at(last + 1));
    }
}

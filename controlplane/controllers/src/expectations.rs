//! What a controller has done and not yet seen in its cache.
//!
//! Owns: counting. Must not know: kinds. A newcomer's trap: without this a controller that looks at a
//! cache that is behind creates the same pods again; with it, it waits until it sees its own work.

use std::collections::{BTreeMap, BTreeSet};

use kijabi_base::clock::{self, Instant};
use kijabi_client::Key;
use parking_lot::Mutex;

use crate::limits;

#[derive(Debug)]
struct Expected {
    creations: usize,
    deletions: BTreeSet<String>,
    since: Instant,
}

/// Expectations by the key of the owner.
#[derive(Debug, Default)]
pub(crate) struct Expectations(Mutex<BTreeMap<Key, Expected>>);

// === impl Expectations ===

impl Expectations {
    /// So many pods are about to be created.
    pub(crate) fn expect_creations(&self, owner: &Key, count: usize) {
        self.with(owner, |expected| expected.creations += count);
    }

    /// The pods of these uids are about to be deleted.
    pub(crate) fn expect_deletions(&self, owner: &Key, uids: impl IntoIterator<Item = String>) {
        self.with(owner, |expected| expected.deletions.extend(uids));
    }

    /// A creation was seen, or failed.
    pub(crate) fn created(&self, owner: &Key) {
        if let Some(expected) = self.0.lock().get_mut(owner) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or failed.
    pub(crate) fn deleted(&self, owner: &Key, uid: &str) {
        if let Some(expected) = self.0.lock().get_mut(owner) {
            expected.deletions.remove(uid);
        }
    }

    /// Whether all was seen, or it is too long ago.
    pub(crate) fn are_met(&self, owner: &Key) -> bool {
        let mut all = self.0.lock();
        let met = all.get(owner).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty())
                || clock::now().duration_since(expected.since) > limits::EXPECTATION
        });
        if met {
            all.remove(owner);
        }
        met
    }

    /// Forgets an owner that is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.0.lock().remove(owner);
    }

    fn with(&self, owner: &Key, change: impl FnOnce(&mut Expected)) {
        let mut all = self.0.lock();
        let expected = all.entry(owner.clone()).or_insert_with(|| Expected {
            creations: 0,
            deletions: BTreeSet::new(),
            since: clock::now(),
        });
        expected.since = clock::now();
        change(expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_expected_must_be_seen() {
        let expectations = Expectations::default();
        let owner = Key::new("default", "web");
        assert!(expectations.are_met(&owner));
        expectations.expect_creations(&owner, 2);
        expectations.expect_deletions(&owner, ["u".to_owned()]);
        expectations.created(&owner);
        expectations.created(&owner);
        assert!(!expectations.are_met(&owner));
        expectations.deleted(&owner, "other");
        assert!(!expectations.are_met(&owner));
        expectations.deleted(&owner, "u");
        assert!(expectations.are_met(&owner));
    }
}

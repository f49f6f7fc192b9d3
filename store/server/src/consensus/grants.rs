//! How far the log of each voter goes that has granted this member its vote.
//!
//! Owns: what they said with it, and which of it a new leader may rely on. Must not know: how Raft
//! looks for the place where two logs part. A newcomer's trap: from the grant on, a voter takes
//! entries from this member only, in this term; so what it said stays true for the term, and is
//! false in any other.
//!
//! Raft knows nothing of a follower's log when a term begins. It halves the range again and again,
//! one round trip each time: eleven of them for ten thousand entries, before anything new is
//! committed. What the vote has told saves all of them but the last.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::log_store::LogStore;
use super::types::{LogId, Vote};

/// What the voters said. Cloning shares.
#[derive(Clone)]
pub(crate) struct Grants {
    log: LogStore,
    /// By voter: the term, and the last entry it has of those before that term. No more voters
    /// than have been asked.
    reached: Arc<Mutex<BTreeMap<u64, (u64, LogId)>>>,
}

// === impl Grants ===

impl Grants {
    pub(crate) fn new(log: LogStore) -> Self {
        Self { log, reached: Arc::default() }
    }

    /// A voter has granted `vote`, and says that its log ends with `last`, but for entries of this
    /// term. If that is an entry of this member's log, all before it are the same, too (Raft's log
    /// matching, section 5.3 of the paper).
    pub(super) fn note(&self, voter: u64, vote: &Vote, last: Option<LogId>) {
        let term = vote.leader_id.term;
        if let Some(last) = last
            && last.leader_id.term < term
            && self.log.has(&last)
        {
            self.reached.lock().insert(voter, (term, last));
        }
    }

    /// Up to where the log of `voter` is this member's, as far as its vote for this term tells.
    pub(super) fn reached(&self, voter: u64, vote: &Vote) -> Option<LogId> {
        let reached = self.reached.lock().get(&voter).copied();
        reached.and_then(|(term, last)| (term == vote.leader_id.term).then_some(last))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use kijabi_disk::vfs::RealVfs;
    use kijabi_disk::wal::{LogEntry, LogId as DiskId, Wal, WalOptions};

    use super::super::types::from_disk_id;
    use super::*;

    /// A log with entries of these terms, from index 0 on.
    fn log(dir: &Path, terms: &[u64]) -> LogStore {
        let wal = Wal::open(Arc::new(RealVfs), dir, WalOptions::default()).unwrap();
        let entry = |(index, term): (usize, &u64)| LogEntry {
            id: DiskId { term: *term, index: index as u64 },
            kind: 0,
            data: Bytes::new(),
        };
        wal.append(terms.iter().enumerate().map(entry).collect(), Box::new(|_| {})).unwrap();
        LogStore::new(wal)
    }

    fn id(term: u64, index: u64) -> LogId {
        from_disk_id(DiskId { term, index })
    }

    #[test]
    fn a_vote_tells_how_far_logs_are_the_same_for_its_term_only() {
        let dir = tempfile::tempdir().unwrap();
        let grants = Grants::new(log(dir.path(), &[1, 1, 2, 2, 4]));
        let vote = Vote::new_committed(5, 7);
        grants.note(1, &vote, Some(id(2, 3)));
        // It ends with an entry that this member does not have, or said nothing.
        grants.note(2, &vote, Some(id(3, 3)));
        grants.note(3, &vote, Some(id(2, 5)));
        grants.note(4, &vote, None);
        let reached = [1, 2, 3, 4].map(|voter| grants.reached(voter, &vote));
        assert_eq!(reached, [Some(id(2, 3)), None, None, None]);
        assert_eq!(grants.reached(1, &Vote::new_committed(6, 7)), None);
    }

    /// Entries of the term itself may not be durable there yet when the vote is.
    #[test]
    fn what_a_voter_says_ends_before_the_term() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), &[1, 1, 2, 5, 5]);
        let last = [1, 2, 5, 6].map(|term| log.last_before(term));
        assert_eq!(last, [None, Some(id(1, 1)), Some(id(2, 2)), Some(id(5, 4))]);
        let grants = Grants::new(log);
        let vote = Vote::new_committed(5, 7);
        grants.note(1, &vote, Some(id(5, 3)));
        assert_eq!(grants.reached(1, &vote), None);
    }
}

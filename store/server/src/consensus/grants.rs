//! How far the log of each voter goes that has granted this member its vote.
//!
//! Owns: what they said with it, and which of it a new leader may rely on. Must not know: how Raft
//! looks for the place where two logs part. A newcomer's trap: from the grant on, a voter takes
//! entries from this member only, in this term; so what it said stays true for the term, and is
//! false in any other.
//!
//! Raft knows nothing of a follower's log when a term begins. It halves the range again and again,
//! one round trip each time: eleven of them for ten thousand entries, before anything new is
//! committed. What the vote has told leaves two or three.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;

use super::log_store::LogStore;
use super::types::{LogId, TypeConfig, Vote};

/// What the voters said. Cloning shares.
#[derive(Clone)]
pub(crate) struct Grants {
    log: LogStore,
    /// By voter: the term, and the last entry it has of those before that term. No more voters
    /// than have been asked.
    reached: Arc<Mutex<BTreeMap<u64, (u64, LogId)>>>,
}

/// Raft's search for the end of what a member's log and this one's have in common, as far as it can
/// be answered without asking the member.
pub(super) struct Search {
    grants: Grants,
    target: u64,
    /// The last entry that Raft was told the member has.
    told: Option<LogId>,
    /// The member was asked itself: its own answers tell more from then on.
    asked: bool,
}

// === impl Search ===

impl Search {
    /// What to answer to a request without sending it: the entry before its first one, which is
    /// there. `None` if it has to be sent.
    ///
    /// Raft is not told that the others are there, too, since that would count as a sign of life at
    /// this moment, which reads rest on.
    pub(super) fn answer(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> Option<LogId> {
        let known = self.known(request);
        self.told = known.or(self.told);
        self.asked |= known.is_none();
        known
    }

    fn known(&self, request: &AppendEntriesRequest<TypeConfig>) -> Option<LogId> {
        let (previous, last) = (request.prev_log_id?, request.entries.last()?.log_id);
        let reached = self.grants.reached(self.target, &request.vote)?;
        // If it is no news, Raft would only ask again.
        let is_news = self.told.is_none_or(|told| previous > told);
        (!self.asked && is_news && last <= reached).then_some(previous)
    }
}

// === impl Grants ===

impl Grants {
    pub(crate) fn new(log: LogStore) -> Self {
        Self { log, reached: Arc::default() }
    }

    /// Begins to look for the end of what the log of `target` has in common with this one.
    pub(super) fn search(&self, target: u64) -> Search {
        Search { grants: self.clone(), target, told: None, asked: false }
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

    use openraft::EntryPayload;

    use super::super::types::{Entry, from_disk_id};
    use super::*;

    /// A log with entries of these terms, from index 0 on.
    fn log(dir: &Path, terms: &[u64]) -> LogStore {
        let wal = Wal::open(Arc::new(RealVfs), dir, WalOptions::default()).unwrap();
        let entry = |(index, term): (usize, &u64)| LogEntry {
            id: DiskId { term: *term, index: index as u64 },
            kind: 0,
            data: Bytes::new(),
        };
        let _writes =
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

    #[test]
    fn a_search_is_answered_up_to_what_the_vote_told_and_then_sent() {
        let dir = tempfile::tempdir().unwrap();
        let grants = Grants::new(log(dir.path(), &[1; 64]));
        let vote = Vote::new_committed(5, 7);
        grants.note(1, &vote, Some(id(1, 40)));
        let request = |previous: u64| {
            let entry = |index| Entry { log_id: id(1, index), payload: EntryPayload::Blank };
            AppendEntriesRequest {
                vote,
                prev_log_id: Some(id(1, previous)),
                entries: (previous + 1..=previous + 8).map(entry).collect(),
                leader_commit: None,
            }
        };
        let mut search = grants.search(1);
        let asked = [15, 31, 31, 32].map(|previous| search.answer(&request(previous)));
        // The same again is sent, and so is all that follows.
        assert_eq!(asked, [Some(id(1, 15)), Some(id(1, 31)), None, None]);
        // It ends where what is known ends; of another member nothing is known.
        assert_eq!(grants.search(1).answer(&request(33)), None);
        assert_eq!(grants.search(2).answer(&request(15)), None);
        let mut without_entries = request(15);
        without_entries.entries.clear();
        assert_eq!(grants.search(1).answer(&without_entries), None);
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

//! Who waits for the outcome of a batch, and what became of it.
//!
//! Owns: the fate of each batch this member proposed. Must not know: how it got into the log. A
//! newcomer's trap: a batch is put into the log in one named term or not at all; so once an entry
//! of a later term is applied here without the batch having come by, it never will, and may be
//! proposed again. Before that nobody knows, and it must not be.

use std::collections::HashMap;
use std::sync::Arc;

use kijabi_machine::{Error, Outcome};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It was applied here: one outcome for each command.
    Applied(Vec<Result<Outcome, Error>>),
    /// It is certain that it is in no log that counts.
    Lost,
    /// A snapshot took the place of the entries it may have been in.
    Unknown,
}

/// The batches whose fate is not known yet. Cloning shares.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    member_id: u64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The term of the last applied entry.
    term: u64,
    batches: HashMap<u64, (u64, oneshot::Sender<Fate>)>,
}

// === impl Outcomes ===

impl Outcomes {
    /// `term` is that of the last applied entry.
    pub(crate) fn new(member_id: u64, term: u64) -> Self {
        let waiting = Mutex::new(Waiting { term, batches: HashMap::new() });
        Self(Arc::new(Inner { member_id, waiting }))
    }

    /// Waits for a batch that is about to be proposed in `term`. Registering it again takes the
    /// place of the wait before.
    pub(crate) fn register(&self, id: u64, term: u64) -> oneshot::Receiver<Fate> {
        let (answer, fate) = oneshot::channel();
        let mut waiting = self.0.waiting.lock();
        if term < waiting.term {
            let _ = answer.send(Fate::Lost);
        } else {
            waiting.batches.insert(id, (term, answer));
        }
        fate
    }

    pub(crate) fn is_anybody_waiting(&self) -> bool {
        !self.0.waiting.lock().batches.is_empty()
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&self, id: u64) {
        self.0.waiting.lock().batches.remove(&id);
    }

    /// An entry was applied, with the batch it held, if any.
    pub(crate) fn applied(
        &self,
        term: u64,
        (origin, id): (u64, u64),
        outcomes: Vec<Result<Outcome, Error>>,
    ) {
        let mut waiting = self.0.waiting.lock();
        if origin == self.0.member_id
            && let Some((_, answer)) = waiting.batches.remove(&id)
        {
            // Whoever asked may have gone; the outcomes stand.
            let _ = answer.send(Fate::Applied(outcomes));
        }
        if term > waiting.term {
            waiting.term = term;
            for (_, (_, answer)) in waiting.batches.extract_if(|_, (proposed, _)| *proposed < term)
            {
                let _ = answer.send(Fate::Lost);
            }
        }
    }

    /// The whole state was replaced; its last entry is of `term`.
    pub(crate) fn replaced(&self, term: u64) {
        let mut waiting = self.0.waiting.lock();
        waiting.term = waiting.term.max(term);
        for (_, (_, answer)) in waiting.batches.drain() {
            let _ = answer.send(Fate::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 7;

    #[test]
    fn a_batch_is_answered_by_its_own_entry_only() {
        let outcomes = Outcomes::new(OWN, 1);
        let mut fate = outcomes.register(1, 2);
        outcomes.applied(2, (8, 1), Vec::new());
        outcomes.applied(2, (OWN, 2), Vec::new());
        assert!(fate.try_recv().is_err());
        outcomes.applied(2, (OWN, 1), vec![Ok(Outcome::LeaseRevokeMany(3))]);
        assert!(matches!(fate.try_recv().unwrap(), Fate::Applied(all) if all.len() == 1));
    }

    #[test]
    fn a_batch_is_lost_once_a_later_term_is_applied_and_not_before() {
        let outcomes = Outcomes::new(OWN, 2);
        let (mut old, mut new) = (outcomes.register(1, 2), outcomes.register(2, 3));
        outcomes.applied(2, (0, 0), Vec::new());
        assert!(old.try_recv().is_err());
        outcomes.applied(3, (0, 0), Vec::new());
        assert!(matches!(old.try_recv().unwrap(), Fate::Lost));
        assert!(new.try_recv().is_err());
        assert!(matches!(outcomes.register(3, 2).try_recv().unwrap(), Fate::Lost));
    }

    #[test]
    fn a_batch_that_may_be_in_a_snapshot_has_an_unknown_fate() {
        let outcomes = Outcomes::new(OWN, 2);
        let mut fate = outcomes.register(1, 2);
        outcomes.replaced(3);
        assert!(matches!(fate.try_recv().unwrap(), Fate::Unknown));
    }
}

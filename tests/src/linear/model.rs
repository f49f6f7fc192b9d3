//! The store as it should be: one state, one request at a time.
//!
//! Owns: what a request does to the state and which answers fit. Must not know: time; the search
//! does. A newcomer's trap: a request of unknown fate that would change nothing is refused here, as
//! leaving it out says the same.

use std::collections::BTreeMap;
use std::hash::Hash;

use super::evidence::Evidence;
use super::history::{
    Answer, Condition, Entry, Field, Key, Kv, Op, OpAnswer, Range, Refusal, Request,
};

/// Everything the store holds now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The current revision; an empty store has 1.
    pub revision: i64,
    /// The revision of the last compaction, -1 before the first.
    pub compacted: i64,
    /// The keys that are there.
    pub keys: BTreeMap<Key, Kv>,
}

impl Default for State {
    fn default() -> Self {
        Self { revision: 1, compacted: -1, keys: BTreeMap::new() }
    }
}

/// A request done.
#[derive(Debug)]
pub struct Step {
    /// The state after it; `None` if it is the same.
    pub state: Option<State>,
    /// No other order has to be tried if this one fails later.
    pub settled: bool,
}

/// Decides which request may come next.
#[derive(Debug, Default)]
pub struct Model {
    /// What is known of single revisions. `None` = no short cuts.
    evidence: Option<Evidence>,
}

impl Model {
    /// Without short cuts.
    pub fn plain() -> Self {
        Self::default()
    }

    /// With three: a write whose answer came is placed by its revision, a write of unknown fate is
    /// only tried for a revision that nobody else wrote and where it does what was seen there, and
    /// nothing is left behind that can only be at a revision that is over.
    pub(super) fn placed(evidence: Evidence) -> Self {
        Self { evidence: Some(evidence) }
    }

    /// The last revision at which `entry` can have its place, if its answer tells.
    pub(super) fn due(&self, entry: &Entry) -> Option<i64> {
        self.evidence.as_ref()?;
        match entry.answer()? {
            Answer::Range(revision, _) | Answer::Compact(revision) => Some(*revision),
            Answer::Txn(revision, ..) => (!entry.changed()).then_some(*revision),
            Answer::Refused(_) => None,
        }
    }

    /// Whether requests of unknown fate that ask for the same need only be tried in the order in
    /// which they were sent.
    pub(super) fn alike(&self) -> bool {
        self.evidence.is_some()
    }

    /// Does `entry` if it fits, with its answer if one is known.
    pub fn step(&self, state: &State, entry: &Entry) -> Option<Step> {
        match (&entry.request, entry.answer()) {
            (Request::Range { range, revision, .. }, Some(answer)) => {
                fits_read(state, range, *revision, answer).then(|| self.same())
            }
            // A read nobody saw the answer of.
            (Request::Range { .. }, None) => None,
            (Request::Compact(revision), answer) => compact(state, *revision, answer, self),
            (Request::Txn(conditions, then, otherwise), answer) => {
                self.txn(state, conditions, then, otherwise, answer)
            }
        }
    }

    fn same(&self) -> Step {
        // Whatever fits without a change may as well be done at once: that only lifts constraints.
        Step { state: None, settled: self.evidence.is_some() }
    }

    fn txn(
        &self,
        state: &State,
        conditions: &[Condition],
        then: &[Op],
        otherwise: &[Op],
        answer: Option<&Answer>,
    ) -> Option<Step> {
        let expected = match answer {
            None => None,
            Some(Answer::Txn(revision, holds, answers)) => Some((*revision, *holds, answers)),
            Some(_) => return None,
        };
        let next = state.revision + 1;
        let gap = self.evidence.as_ref().is_none_or(|evidence| !evidence.is_owned(next));
        if expected.is_none() && !gap {
            return None;
        }
        if let Some((revision, ..)) = expected
            && revision != state.revision
            && revision != next
        {
            return None;
        }
        let holds = conditions.iter().all(|condition| holds(state, condition));
        let mut after = state.clone();
        let ops = if holds { then } else { otherwise };
        let answers: Vec<OpAnswer> = ops.iter().map(|op| apply(&mut after, op)).collect();
        let changed = answers.iter().any(OpAnswer::changed);
        if changed {
            after.revision = next;
        }
        match expected {
            Some((revision, told, told_answers)) => {
                let fits = revision == after.revision && told == holds && *told_answers == answers;
                fits.then(|| {
                    let changing = Step { state: Some(after), settled: false };
                    if changed { changing } else { self.same() }
                })
            }
            None if changed && self.agrees(state, &after) => {
                Some(Step { state: Some(after), settled: false })
            }
            None => None,
        }
    }

    fn agrees(&self, before: &State, after: &State) -> bool {
        self.evidence.as_ref().is_none_or(|evidence| evidence.agrees(before, after))
    }
}

fn fits_read(state: &State, range: &Range, revision: i64, answer: &Answer) -> bool {
    match answer {
        Answer::Refused(Refusal::Future) => revision > state.revision,
        Answer::Refused(Refusal::Compacted) => revision > 0 && revision < state.compacted,
        Answer::Range(current, kvs) if *current == state.revision => {
            if revision <= 0 {
                return found(state, range) == *kvs;
            }
            // What was there then is compared once the whole order is known.
            revision >= state.compacted && revision <= state.revision
        }
        _ => false,
    }
}

fn compact(state: &State, at: i64, answer: Option<&Answer>, model: &Model) -> Option<Step> {
    let possible = at > state.compacted && at <= state.revision;
    match answer {
        Some(Answer::Compact(revision)) if possible && *revision >= state.revision => {}
        None if possible => {}
        Some(Answer::Refused(Refusal::Compacted)) => {
            return (at <= state.compacted).then(|| model.same());
        }
        Some(Answer::Refused(Refusal::Future)) => {
            return (at > state.revision).then(|| model.same());
        }
        _ => return None,
    }
    Some(Step { state: Some(State { compacted: at, ..state.clone() }), settled: false })
}

fn holds(state: &State, condition: &Condition) -> bool {
    let number = state.keys.get(&condition.key).map_or(0, |kv| match condition.field {
        Field::Modified => kv.modified,
        Field::Create => kv.create,
        Field::Version => kv.version,
    });
    number == condition.number
}

fn found(state: &State, range: &Range) -> Vec<Kv> {
    match &range.end {
        None => state.keys.get(&range.key).cloned().into_iter().collect(),
        Some(end) if range.key < *end => {
            state.keys.range(range.key.clone()..end.clone()).map(|(_, kv)| kv.clone()).collect()
        }
        Some(_) => Vec::new(),
    }
}

/// Does one operation at the revision after the state's.
fn apply(state: &mut State, op: &Op) -> OpAnswer {
    let revision = state.revision + 1;
    match op {
        Op::Get(range) => OpAnswer::Get(found(state, range)),
        Op::Put(key, value) => {
            let before = state.keys.get(key).cloned();
            let (create, version) =
                before.as_ref().map_or((revision, 1), |kv| (kv.create, kv.version + 1));
            let kv =
                Kv { key: key.clone(), value: value.clone(), create, modified: revision, version };
            state.keys.insert(key.clone(), kv);
            OpAnswer::Put(before)
        }
        Op::Delete(range) => {
            let gone = found(state, range);
            for kv in &gone {
                state.keys.remove(&kv.key);
            }
            OpAnswer::Delete(gone)
        }
    }
}

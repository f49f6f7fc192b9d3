//! The checker is checked: right histories pass, broken ones do not.
//!
//! Owns: a small language for histories. Must not know: the store. A newcomer's trap: a history
//! that is broken by hand must be right but for the one thing that is broken.

mod broken;
mod broken_evidence;
mod broken_watches;
mod legal;

use std::time::Duration;

use super::history::{Answer, Condition, Entry, Field, Kv, Op, OpAnswer, Range, Refusal, Request};
use super::timeline::Event;
use super::watch::{Seen, Watch, WatchKind};
use super::{History, Mode, check};

const LIMIT: Duration = Duration::from_secs(20);

/// Writes a history down, one line a request.
#[derive(Default)]
struct Story(History);

impl Story {
    /// A request of `client` from one time to another.
    fn ask(
        mut self,
        client: u32,
        (called, returned): (u64, u64),
        request: Request,
        answer: Answer,
    ) -> Self {
        let returned = Some((returned, answer));
        let session = u64::from(client);
        self.0.entries.push(Entry { client, session, called, request, returned });
        self
    }

    /// A request whose answer never came.
    fn lost(mut self, client: u32, called: u64, request: Request) -> Self {
        let session = u64::from(client);
        self.0.entries.push(Entry { client, session, called, request, returned: None });
        self
    }

    fn watch(mut self, watch: Watch) -> Self {
        self.0.watches.push(watch);
        self
    }

    fn rules(&self, mode: Mode) -> Vec<&'static str> {
        check(&self.0, mode, LIMIT).iter().map(|violation| violation.rule).collect()
    }

    /// Both ways of looking for an order find one, and nothing else is wrong.
    fn is_right(&self) {
        for mode in [Mode::Placed, Mode::Plain] {
            let violations = check(&self.0, mode, LIMIT);
            assert!(violations.is_empty(), "{mode:?}: {violations:#?}");
        }
    }

    /// Both ways call it broken, by `rule`.
    fn breaks(&self, rule: &str) {
        for mode in [Mode::Placed, Mode::Plain] {
            let rules = self.rules(mode);
            assert!(rules.contains(&rule), "{mode:?}: {rule} is not in {rules:?}");
        }
    }

    /// Both ways call it broken, though by different rules: one takes what was seen for granted, the
    /// other compares it later.
    fn is_broken(&self) {
        for mode in [Mode::Placed, Mode::Plain] {
            assert!(!self.rules(mode).is_empty(), "{mode:?}: {:#?}", self.0);
        }
    }

    /// By that rule and no other.
    fn breaks_only(&self, rule: &str) {
        for mode in [Mode::Placed, Mode::Plain] {
            let violations = check(&self.0, mode, LIMIT);
            let others = violations.iter().filter(|violation| violation.rule != rule).count();
            assert!(!violations.is_empty() && others == 0, "{mode:?}, {rule}: {violations:#?}");
        }
    }
}

// === requests ===

fn put(key: &str, value: &str) -> Request {
    Request::Txn(vec![], vec![Op::Put(key.into(), value.into())], vec![])
}

fn delete(key: &str) -> Request {
    Request::Txn(vec![], vec![Op::Delete(Range::one(key))], vec![])
}

/// Writes if the key was last written at `revision`, else reads it.
fn swap(key: &str, revision: i64, value: &str) -> Request {
    let condition = Condition { key: key.into(), field: Field::Modified, number: revision };
    let write = Op::Put(key.into(), value.into());
    Request::Txn(vec![condition], vec![write], vec![Op::Get(Range::one(key))])
}

fn get(key: &str) -> Request {
    Request::Range { range: Range::one(key), revision: 0, serializable: false }
}

fn get_at(key: &str, revision: i64) -> Request {
    Request::Range { range: Range::one(key), revision, serializable: false }
}

fn all() -> Request {
    Request::Range { range: Range::span("a", "z"), revision: 0, serializable: false }
}

fn old(key: &str) -> Request {
    Request::Range { range: Range::one(key), revision: 0, serializable: true }
}

// === answers ===

fn kv(key: &str, value: &str, create: i64, modified: i64, version: i64) -> Kv {
    Kv { key: key.into(), value: value.into(), create, modified, version }
}

/// A key's first value.
fn fresh(key: &str, value: &str, revision: i64) -> Kv {
    kv(key, value, revision, revision, 1)
}

fn wrote(revision: i64) -> Answer {
    Answer::Txn(revision, true, vec![OpAnswer::Put(None)])
}

fn wrote_over(revision: i64, prev: Kv) -> Answer {
    Answer::Txn(revision, true, vec![OpAnswer::Put(Some(prev))])
}

fn deleted(revision: i64, prev: Kv) -> Answer {
    Answer::Txn(revision, true, vec![OpAnswer::Delete(vec![prev])])
}

fn deleted_nothing(revision: i64) -> Answer {
    Answer::Txn(revision, true, vec![OpAnswer::Delete(vec![])])
}

fn lost_the_race(revision: i64, found: Vec<Kv>) -> Answer {
    Answer::Txn(revision, false, vec![OpAnswer::Get(found)])
}

fn found(revision: i64, kvs: &[Kv]) -> Answer {
    Answer::Range(revision, kvs.to_vec())
}

fn refused() -> Answer {
    Answer::Refused(Refusal::Compacted)
}

// === watches ===

/// The event of a key's first value.
fn made(key: &str, value: &str, revision: i64) -> Event {
    let kv = Some(fresh(key, value, revision));
    Event { key: key.into(), revision, kv, prev: None }
}

fn gone(prev: Kv, revision: i64) -> Event {
    Event { key: prev.key.clone(), revision, kv: None, prev: Some(prev) }
}

fn changed(kv: Kv, prev: Kv) -> Event {
    let (key, revision) = (kv.key.clone(), kv.modified);
    Event { key, revision, kv: Some(kv), prev: Some(prev) }
}

fn everything(start: i64) -> Watch {
    Watch::new(0, Range::span("a", "z"), start, 100)
}

/// `watch` with these responses, the first of which is that it was created at `created`.
fn saw(mut watch: Watch, created: i64, kinds: Vec<(i64, WatchKind)>) -> Watch {
    watch.seen.push(Seen { at: 101, revision: created, kind: WatchKind::Created });
    for (at, (revision, kind)) in (102..).zip(kinds) {
        watch.seen.push(Seen { at, revision, kind });
    }
    watch
}

/// A response with events.
fn events(events: Vec<Event>) -> (i64, WatchKind) {
    let revision = events.last().map_or(0, |event| event.revision);
    (revision, WatchKind::Events(events, false))
}

fn fragment(events: Vec<Event>) -> (i64, WatchKind) {
    let revision = events.last().map_or(0, |event| event.revision);
    (revision, WatchKind::Events(events, true))
}

fn progress(revision: i64) -> (i64, WatchKind) {
    (revision, WatchKind::Progress)
}

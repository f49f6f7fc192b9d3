//! Whether what clients saw can be explained by one store that does one thing at a time.
//!
//! Owns: histories, the model of the store, the search for an order, and the rules of reads and
//! watches. Must not know: how a history came about. A newcomer's trap: a request without an answer
//! may have taken effect at any later time or never; it must stay in the history.

mod evidence;
mod history;
mod model;
mod search;
mod stale;
mod timeline;
mod watch;

#[cfg(test)]
mod tests;

pub use history::{
    Answer, Condition, Entry, Field, Key, Kv, Op, OpAnswer, Range, Refusal, Request,
};
pub use model::{Model, State};
pub use search::{Blocked, Verdict, search};
pub use timeline::{Event, Timeline};
pub use watch::{Seen, Watch, WatchKind};

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use evidence::Evidence;

/// A history and every watch on it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Requests, in any order.
    pub entries: Vec<Entry>,
    /// Watches; those of one watcher in the order they were opened.
    pub watches: Vec<Watch>,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule: `LINEAR`, `STALE-1` to `STALE-4`, `W1` to `W14`, or `OUT-OF-TIME`.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl Violation {
    fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// How the order is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Answers carry revisions and watches tell what each revision did: only requests of unknown
    /// fate are left to place.
    Placed,
    /// The plain algorithm, which knows none of that; for short histories, so that an error in the
    /// short cuts shows.
    Plain,
}

/// Checks everything; an empty list means that nothing is wrong. Taking longer than `limit` is a
/// violation: nobody has then shown that the history is right.
pub fn check(history: &History, mode: Mode, limit: Duration) -> Vec<Violation> {
    let model = match mode {
        Mode::Placed => Model::placed(Evidence::of(history)),
        Mode::Plain => Model::plain(),
    };
    let order = match search(&model, &history.entries, limit) {
        Verdict::Legal(order) => order,
        Verdict::Illegal(blocked) => {
            return vec![Violation::new("LINEAR", blocked.explain(&history.entries))];
        }
        Verdict::OutOfTime(blocked) => {
            let far = blocked.map(|blocked| blocked.explain(&history.entries)).unwrap_or_default();
            let what = format!("no verdict within {limit:?}; {far}");
            return vec![Violation::new("OUT-OF-TIME", what)];
        }
    };
    let timeline = Timeline::new(&history.entries, &order);
    let mut violations = stale::check(&history.entries, &timeline);
    violations.extend(watch::check(&history.watches, &timeline));
    violations
}

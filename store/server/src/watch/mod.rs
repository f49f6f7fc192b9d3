//! Watching: from applied revisions to the streams of clients.
//!
//! Owns: who gets which event, in what order, and what happens to those who are late. Must not
//! know: how commands are applied. A newcomer's trap: a stream keeps no queue of events, only the
//! first revision it may have missed; events are read from the shared ring, or from history.

mod asker;
mod catch_up;
mod coverage;
mod encoded;
mod hub;
mod interest;
mod outbox;
mod respond;
mod session;
mod stream;
mod tally;
#[cfg(test)]
mod tests;
mod watcher;

pub(crate) use asker::Asker;
pub(crate) use coverage::Coverage;
pub(crate) use hub::{Hub, Registration};
pub(crate) use session::Source;
pub(crate) use stream::{Terms, open};
pub(crate) use tally::Tally;

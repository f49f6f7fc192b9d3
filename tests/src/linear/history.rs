//! What clients asked and what they were told.
//!
//! Owns: the vocabulary of a history. Must not know: protocol buffers; `faults::traffic` translates.
//! A newcomer's trap: puts and deletes are transactions of one operation here.

use std::sync::Arc;

/// A key or a value.
pub type Key = Arc<str>;

/// A key with its value, as the store returns it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kv {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Key,
    /// The revision that made the key.
    pub create: i64,
    /// The revision that wrote this value.
    pub modified: i64,
    /// How many writes the key has had since it was made.
    pub version: i64,
}

/// Some keys: one, or from `key` up to but not including `end`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// The first key.
    pub key: Key,
    /// The key after the last; `None` means `key` alone.
    pub end: Option<Key>,
}

impl Range {
    /// One key.
    pub fn one(key: &str) -> Self {
        Self { key: key.into(), end: None }
    }

    /// The keys from `key` up to `end`.
    pub fn span(key: &str, end: &str) -> Self {
        Self { key: key.into(), end: Some(end.into()) }
    }

    /// Whether `key` is among them.
    pub fn has(&self, key: &str) -> bool {
        match &self.end {
            None => *self.key == *key,
            Some(end) => *self.key <= *key && key < &**end,
        }
    }
}

/// What a condition looks at. A key that is not there has 0 in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The revision of its last write.
    Modified,
    /// The revision that made it.
    Create,
    /// Its version.
    Version,
}

/// `field` of `key` equals `number`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Whose.
    pub key: Key,
    /// What of it.
    pub field: Field,
    /// The number it must have.
    pub number: i64,
}

/// An operation in a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Writes a value; the answer has the one before.
    Put(Key, Key),
    /// Deletes; the answer has what was there.
    Delete(Range),
    /// Reads.
    Get(Range),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A read on its own.
    Range {
        /// Of what.
        range: Range,
        /// At which revision; 0 = now.
        revision: i64,
        /// Whether the member may answer from what it has.
        serializable: bool,
    },
    /// If all conditions hold the first list, else the second.
    Txn(Vec<Condition>, Vec<Op>, Vec<Op>),
    /// Forgets what was before this revision.
    Compact(i64),
}

/// The answer of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpAnswer {
    /// Written; what was there before.
    Put(Option<Kv>),
    /// Deleted: these.
    Delete(Vec<Kv>),
    /// Found: these.
    Get(Vec<Kv>),
}

impl OpAnswer {
    /// Whether it says that something was changed.
    pub fn changed(&self) -> bool {
        match self {
            Self::Put(_) => true,
            Self::Delete(gone) => !gone.is_empty(),
            Self::Get(_) => false,
        }
    }
}

/// A definite error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The revision has been compacted.
    Compacted,
    /// The revision is in the future.
    Future,
}

/// An answer, with the revision in its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of a read.
    Range(i64, Vec<Kv>),
    /// Of a transaction: whether its conditions held, and each operation's.
    Txn(i64, bool, Vec<OpAnswer>),
    /// Of a compaction. The revision is that of the moment the answer was written.
    Compact(i64),
    /// Refused; nothing was done.
    Refused(Refusal),
}

/// One request of one client.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose.
    pub client: u32,
    /// One life of one member, as this client saw it: two requests with the same number went to the
    /// same process.
    pub session: u64,
    /// When it was sent, in microseconds.
    pub called: u64,
    /// What was asked.
    pub request: Request,
    /// When the answer came, and what it was; `None` = nobody knows whether it was done.
    pub returned: Option<(u64, Answer)>,
}

impl Entry {
    /// The answer, if there is one.
    pub fn answer(&self) -> Option<&Answer> {
        self.returned.as_ref().map(|(_, answer)| answer)
    }

    /// Whether its answer says that it changed the store. A compaction changes what can be read.
    pub fn changed(&self) -> bool {
        match self.answer() {
            Some(Answer::Txn(_, _, answers)) => answers.iter().any(OpAnswer::changed),
            Some(Answer::Compact(_)) => true,
            Some(Answer::Range(..) | Answer::Refused(_)) | None => false,
        }
    }

    /// Whether it asks for a compaction.
    pub fn compacts(&self) -> bool {
        matches!(self.request, Request::Compact(_))
    }

    /// A read that any member may answer from what it has: it has no place in the order, only a
    /// revision.
    pub fn serializable(&self) -> bool {
        matches!(self.request, Request::Range { serializable: true, .. })
    }
}

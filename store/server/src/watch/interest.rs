//! Which streams are to be told of a change of a key.
//!
//! Owns: the look-up from a key to the streams that watch it. Must not know: revisions' events. A
//! newcomer's trap: nearly everybody watches one key or one prefix, and both are found by a look
//! into a table, however many watch; only ranges of any other form are compared one by one.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use kijabi_machine::KeyRange;

/// What wakes a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The first revision with something for this stream that it has not picked up; 0 for none.
    missed_from: AtomicI64,
    waker: AtomicWaker,
}

/// Those of ranges with one first key, by the range's end.
type ByEnd = HashMap<Option<Box<[u8]>>, Watching>;

/// The streams that watch each key.
#[derive(Debug, Default)]
pub(super) struct Interest {
    keys: HashMap<Box<[u8]>, Watching>,
    /// By the length of the prefix.
    prefixes: BTreeMap<usize, HashMap<Box<[u8]>, Watching>>,
    /// By the first key, then by the end.
    ranges: BTreeMap<Box<[u8]>, ByEnd>,
    pass: u64,
    /// Those who were told and are still to be woken.
    pub(super) asleep: Vec<Arc<Stream>>,
}

/// A range of keys as it is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    Key(Box<[u8]>),
    Prefix(Box<[u8]>),
    Range(Box<[u8]>, Option<Box<[u8]>>),
}

/// A stream, in the order of connections: those of one connection are woken one after the other, so
/// that the connection has to run once for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId {
    pub(super) connection: u64,
    pub(super) number: u64,
}

/// Those who watch the same.
#[derive(Debug, Default)]
struct Watching {
    /// The last pass in which they were told.
    told: u64,
    streams: BTreeMap<StreamId, Arc<Stream>>,
}

// === impl Stream ===

impl Stream {
    /// There is something for it at `revision`, unless it was told of an earlier one. Returns
    /// whether it is to be woken.
    pub(super) fn tell(&self, revision: i64) -> bool {
        // Only whoever holds the hub's lock changes it.
        let news = self.missed_from.load(Ordering::Relaxed) == 0;
        if news {
            self.missed_from.store(revision, Ordering::Release);
        }
        news
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Takes what it was told.
    pub(super) fn take_missed(&self) -> Option<i64> {
        let missed = self.missed_from.swap(0, Ordering::Relaxed);
        (missed != 0).then_some(missed)
    }

    /// Ready while there is something it was told and has not taken.
    pub(super) fn poll_told(&self, context: &Context<'_>) -> Poll<()> {
        let told = || self.missed_from.load(Ordering::Acquire) != 0;
        if !told() {
            self.waker.register(context.waker());
            if !told() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

// === impl Wanted ===

impl Wanted {
    /// `None` for no keys at all.
    pub(super) fn of(range: KeyRange<'_>) -> Option<Self> {
        if range.is_empty() {
            return None;
        }
        Some(match range {
            KeyRange::One(key) => Self::Key(key.into()),
            KeyRange::Between { from, to: Some(to) } if is_successor(from, to) => {
                Self::Prefix(from.into())
            }
            KeyRange::Between { from, to } => Self::Range(from.into(), to.map(Into::into)),
        })
    }
}

/// Whether the keys from `prefix` up to `end` are those that begin with `prefix`.
fn is_successor(prefix: &[u8], end: &[u8]) -> bool {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff);
    kept.is_some_and(|last| {
        end.len() == last + 1 && end[..last] == prefix[..last] && end[last] == prefix[last] + 1
    })
}

// === impl Interest ===

impl Interest {
    /// A stream wants to be told of changes of these keys, too.
    pub(super) fn add(&mut self, wanted: Wanted, id: StreamId, stream: &Arc<Stream>) {
        let watching = match wanted {
            Wanted::Key(key) => self.keys.entry(key).or_default(),
            Wanted::Prefix(prefix) => {
                self.prefixes.entry(prefix.len()).or_default().entry(prefix).or_default()
            }
            Wanted::Range(from, to) => self.ranges.entry(from).or_default().entry(to).or_default(),
        };
        watching.streams.insert(id, Arc::clone(stream));
    }

    /// A stream does not want to be told of them any more.
    pub(super) fn remove(&mut self, wanted: &Wanted, id: StreamId) {
        match wanted {
            Wanted::Key(key) => remove(&mut self.keys, key, id),
            Wanted::Prefix(prefix) => {
                if let Some(prefixes) = self.prefixes.get_mut(&prefix.len()) {
                    remove(prefixes, prefix, id);
                    if prefixes.is_empty() {
                        self.prefixes.remove(&prefix.len());
                    }
                }
            }
            Wanted::Range(from, to) => {
                if let Some(ends) = self.ranges.get_mut(from) {
                    remove(ends, to, id);
                    if ends.is_empty() {
                        self.ranges.remove(from);
                    }
                }
            }
        }
    }

    /// Changes told from here on come after those told before.
    pub(super) fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// Tells those who watch `key` of its change at `revision`. Whoever was told of one in this
    /// pass will see this one, too.
    pub(super) fn tell(&mut self, key: &[u8], revision: i64) {
        let (pass, asleep) = (self.pass, &mut self.asleep);
        if let Some(watching) = self.keys.get_mut(key) {
            watching.tell(pass, revision, asleep);
        }
        for (length, prefixes) in &mut self.prefixes {
            let Some(prefix) = key.get(..*length) else { break };
            if let Some(watching) = prefixes.get_mut(prefix) {
                watching.tell(pass, revision, asleep);
            }
        }
        let begun = (Bound::Unbounded, Bound::Included(key));
        for (_, ends) in self.ranges.range_mut::<[u8], _>(begun) {
            for (_, watching) in ends.iter_mut().filter(|(end, watching)| {
                watching.told != pass && end.as_ref().is_none_or(|end| key < &end[..])
            }) {
                watching.tell(pass, revision, asleep);
            }
        }
    }

    /// Those who were told and are to be woken, which is up to the caller from here on.
    pub(super) fn take_asleep(&mut self) -> Vec<Arc<Stream>> {
        std::mem::take(&mut self.asleep)
    }
}

fn remove<K: std::hash::Hash + Eq>(all: &mut HashMap<K, Watching>, key: &K, id: StreamId) {
    if let Some(watching) = all.get_mut(key) {
        watching.streams.remove(&id);
        if watching.streams.is_empty() {
            all.remove(key);
        }
    }
}

impl Watching {
    fn tell(&mut self, pass: u64, revision: i64, asleep: &mut Vec<Arc<Stream>>) {
        if self.told != pass {
            self.told = pass;
            asleep.extend(self.streams.values().filter(|stream| stream.tell(revision)).cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_are_recognised() {
        for (from, to, prefix) in [
            (&b"a"[..], &b"b"[..], true),
            (b"a/", b"a0", true),
            (b"a\xff", b"b", true),
            (b"a\xff\xff", b"b", true),
            (b"a", b"c", false),
            (b"a", b"b0", false),
            (b"ab", b"b", false),
            (b"\xff", b"\0", false),
        ] {
            let wanted = Wanted::of(KeyRange::Between { from, to: Some(to) });
            assert_eq!(matches!(wanted, Some(Wanted::Prefix(_))), prefix, "{from:?} {to:?}");
        }
        assert_eq!(Wanted::of(KeyRange::of(b"b", b"a")), None);
    }

    fn stream_id(number: usize) -> StreamId {
        StreamId { connection: number as u64 % 3, number: number as u64 }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(255)], 1..4)
    }

    fn range() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let prefix = key().prop_map(|from| {
            let mut to = from.clone();
            while to.last() == Some(&255) {
                to.pop();
            }
            match to.last_mut() {
                Some(last) => *last += 1,
                None => to.push(0),
            }
            (from, to)
        });
        let one = key().prop_map(|key| (key, Vec::new()));
        let rest = key().prop_map(|from| (from, vec![0]));
        prop_oneof![one, prefix, (key(), key()), rest]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whoever watches a key, in whatever form, is told of it, and nobody else.
        #[test]
        fn who_watches_is_told(
            ranges in proptest::collection::vec((range(), any::<bool>()), 1..12),
            keys in proptest::collection::vec(key(), 1..8),
        ) {
            let mut interest = Interest::default();
            let streams: Vec<Arc<Stream>> = ranges.iter().map(|_| Arc::default()).collect();
            for (id, ((from, to), _)) in ranges.iter().enumerate() {
                if let Some(wanted) = Wanted::of(KeyRange::of(from, to)) {
                    interest.add(wanted, stream_id(id), &streams[id]);
                }
            }
            for (id, ((from, to), stays)) in ranges.iter().enumerate() {
                if let Some(wanted) = Wanted::of(KeyRange::of(from, to)).filter(|_| !stays) {
                    interest.remove(&wanted, stream_id(id));
                }
            }
            interest.begin_pass();
            for (at, key) in keys.iter().enumerate() {
                interest.tell(key, at as i64 + 1);
            }
            for (id, ((from, to), stays)) in ranges.iter().enumerate() {
                let range = KeyRange::of(from, to);
                let first = keys.iter().position(|key| *stays && range.contains(key));
                prop_assert_eq!(streams[id].take_missed(), first.map(|at| at as i64 + 1));
            }
            for (id, ((from, to), _)) in ranges.iter().enumerate() {
                if let Some(wanted) = Wanted::of(KeyRange::of(from, to)) {
                    interest.remove(&wanted, stream_id(id));
                }
            }
            prop_assert!(interest.keys.is_empty() && interest.prefixes.is_empty());
            prop_assert!(interest.ranges.is_empty());
        }
    }
}

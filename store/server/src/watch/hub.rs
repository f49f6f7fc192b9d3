//! Where applied revisions are published once, and every stream picks up what it watches.
//!
//! Owns: the ring of recent revisions and which stream watches which keys. Must not know: sockets,
//! watch ids. A newcomer's trap: a stream is told only of the first revision it may have missed;
//! everything before that and after its last visit holds nothing for it, so it never looks at it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kijabi_base::check;
use kijabi_base::limits::{
    EVENT_RING_BYTES_MAX, EVENT_RING_REVISIONS_MAX, WATCH_HISTORY_READS_MAX,
};
use kijabi_machine::RevisionEvents;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::coverage::Coverage;
use super::tally::Tally;
use crate::store::EventSink;

/// The hub. The apply loop publishes into it and never waits for a stream.
#[derive(Debug)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// Taken by each reading of history.
    readings: Arc<Semaphore>,
    /// How many watch.
    tally: Arc<Tally>,
}

#[derive(Debug)]
struct Inner {
    /// The last revision that was published.
    published: i64,
    ring: VecDeque<Arc<RevisionEvents>>,
    ring_bytes: usize,
    streams: BTreeMap<u64, Registered>,
    next_stream: u64,
}

#[derive(Debug)]
struct Registered {
    coverage: Coverage,
    /// The first revision with something for this stream that it has not picked up.
    missed_from: Option<i64>,
    wake: Arc<Notify>,
}

/// A stream's place in the hub; leaving it ends the registration.
#[derive(Debug)]
pub(crate) struct Registration {
    hub: Arc<Hub>,
    id: u64,
    wake: Arc<Notify>,
}

/// What a stream finds when it looks.
#[derive(Debug)]
pub(crate) struct Pickup {
    /// The revisions that may hold something, in order.
    pub(crate) revisions: Vec<Arc<RevisionEvents>>,
    /// If set, the ring no longer holds what was missed from this revision on: read history.
    pub(crate) lost_from: Option<i64>,
    /// Everything up to here has been picked up, or is lost from the ring.
    pub(crate) upto: i64,
    /// Whether there is more to pick up.
    pub(crate) more: bool,
}

impl Hub {
    /// A hub of a store that stands at `revision`.
    pub(crate) fn new(revision: i64) -> Arc<Self> {
        let inner = Mutex::new(Inner {
            published: revision,
            ring: VecDeque::new(),
            ring_bytes: 0,
            streams: BTreeMap::new(),
            next_stream: 0,
        });
        let readings = Arc::new(Semaphore::new(WATCH_HISTORY_READS_MAX));
        Arc::new(Self { inner, readings, tally: Arc::default() })
    }

    /// The machine was replaced by one that stands at `revision` (an installed snapshot): what
    /// happened in between was never published, so every stream reads it from history.
    pub(crate) fn reset(&self, revision: i64) {
        let mut inner = self.inner.lock();
        inner.ring.clear();
        inner.ring_bytes = 0;
        let missed = inner.published + 1;
        inner.published = inner.published.max(revision);
        for stream in inner.streams.values_mut() {
            stream.missed_from.get_or_insert(missed);
            stream.wake.notify_one();
        }
    }

    /// How many watch.
    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// How many readings of history may begin.
    pub(crate) fn readings(&self) -> &Arc<Semaphore> {
        &self.readings
    }

    /// The last revision that was published.
    pub(crate) fn published(&self) -> i64 {
        self.inner.lock().published
    }

    /// Registers a stream that watches nothing yet.
    pub(crate) fn register(self: &Arc<Self>) -> Registration {
        let mut inner = self.inner.lock();
        let id = inner.next_stream;
        inner.next_stream += 1;
        let wake = Arc::new(Notify::new());
        let registered = Registered {
            coverage: Coverage::default(),
            missed_from: None,
            wake: Arc::clone(&wake),
        };
        inner.streams.insert(id, registered);
        Registration { hub: Arc::clone(self), id, wake }
    }
}

impl EventSink for Hub {
    fn publish(&self, events: &[Arc<RevisionEvents>]) {
        let mut inner = self.inner.lock();
        for revision in events {
            inner.push(revision);
        }
        inner.trim();
    }
}

impl Inner {
    fn push(&mut self, revision: &Arc<RevisionEvents>) {
        check!(
            Watch1,
            revision.revision == self.published + 1,
            "published {} after {}",
            revision.revision,
            self.published
        );
        self.published = revision.revision;
        self.ring_bytes += bytes(revision);
        self.ring.push_back(Arc::clone(revision));
        for stream in self.streams.values_mut() {
            if stream.missed_from.is_some() {
                continue; // It has been woken and will see this one too.
            }
            let touched = revision
                .events
                .iter()
                .filter_map(|event| event.kv.as_ref())
                .any(|kv| stream.coverage.contains(&kv.key));
            if touched {
                stream.missed_from = Some(revision.revision);
                stream.wake.notify_one();
            }
        }
    }

    /// Keeps the ring within its bounds; a single revision may exceed them while it is the last.
    fn trim(&mut self) {
        while self.ring.len() > EVENT_RING_REVISIONS_MAX
            || (self.ring_bytes > EVENT_RING_BYTES_MAX && self.ring.len() > 1)
        {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= bytes(&oldest);
        }
    }

    /// At most `max` revisions of the ring from `from` on; `None` if the ring begins later.
    fn recent(&self, from: i64, max: usize) -> Option<Vec<Arc<RevisionEvents>>> {
        if from > self.published {
            return Some(Vec::new());
        }
        let first = self.ring.front()?.revision;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        Some(self.ring.iter().skip(skip).take(max).cloned().collect())
    }
}

/// Bytes that a revision's events hold, about.
fn bytes(revision: &RevisionEvents) -> usize {
    const EVENT_OVERHEAD_BYTES: usize = 256;
    let of = |kv: &Option<kijabi_proto::mvccpb::KeyValue>| {
        kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len())
    };
    revision
        .events
        .iter()
        .map(|event| EVENT_OVERHEAD_BYTES + of(&event.kv) + of(&event.prev_kv))
        .sum()
}

// === impl Registration ===

impl Registration {
    /// Adds keys to what wakes this stream. Every revision after the one returned does so; that
    /// one and those before it do not.
    pub(crate) fn cover(&self, range: kijabi_machine::KeyRange<'_>) -> i64 {
        let mut inner = self.hub.inner.lock();
        if let Some(stream) = inner.streams.get_mut(&self.id) {
            stream.coverage.add(range);
        }
        inner.published
    }

    /// Replaces what wakes this stream, after watchers have left.
    pub(crate) fn replace_coverage(&self, coverage: Coverage) {
        if let Some(stream) = self.hub.inner.lock().streams.get_mut(&self.id) {
            stream.coverage = coverage;
        }
    }

    /// Resolves when there may be something to pick up.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes at most `max` revisions, from the first one that was missed.
    pub(crate) fn pick_up(&self, max: usize) -> Pickup {
        let mut inner = self.hub.inner.lock();
        let upto = inner.published;
        let missed = inner.streams.get_mut(&self.id).and_then(|stream| stream.missed_from.take());
        let Some(from) = missed else {
            return Pickup { revisions: Vec::new(), lost_from: None, upto, more: false };
        };
        let Some(revisions) = inner.recent(from, max) else {
            return Pickup { revisions: Vec::new(), lost_from: Some(from), upto, more: false };
        };
        let last = revisions.last().map_or(upto, |revision| revision.revision);
        let more = last < upto;
        if let (true, Some(stream)) = (more, inner.streams.get_mut(&self.id)) {
            stream.missed_from = Some(last + 1);
            self.wake.notify_one();
        }
        Pickup { revisions, lost_from: None, upto: last, more }
    }

    /// At most `max` revisions from `from` on out of the ring, and the last revision published;
    /// `None` if the ring begins later.
    pub(crate) fn recent(&self, from: i64, max: usize) -> (Option<Vec<Arc<RevisionEvents>>>, i64) {
        let inner = self.hub.inner.lock();
        (inner.recent(from, max), inner.published)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.inner.lock().streams.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use kijabi_machine::KeyRange;
    use kijabi_proto::mvccpb::{Event, KeyValue};

    use super::*;

    fn revision(revision: i64, key: &str) -> Arc<RevisionEvents> {
        let kv =
            KeyValue { key: key.to_owned().into(), mod_revision: revision, ..Default::default() };
        let event = Event { kv: Some(kv), ..Default::default() };
        Arc::new(RevisionEvents { revision, events: vec![event], previous_left_out: false })
    }

    fn numbers(pickup: &Pickup) -> Vec<i64> {
        pickup.revisions.iter().map(|r| r.revision).collect()
    }

    #[test]
    fn a_stream_is_told_of_the_first_revision_it_missed() {
        let hub = Hub::new(1);
        let stream = hub.register();
        assert_eq!(stream.cover(KeyRange::of(b"b", b"c")), 1);
        hub.publish(&[revision(2, "a"), revision(3, "bb"), revision(4, "a")]);
        let pickup = stream.pick_up(10);
        assert_eq!(numbers(&pickup), [3, 4]);
        assert_eq!((pickup.upto, pickup.more), (4, false));
        assert!(stream.pick_up(10).revisions.is_empty());
    }

    #[test]
    fn a_bounded_pickup_goes_on_where_it_ended() {
        let hub = Hub::new(1);
        let stream = hub.register();
        stream.cover(KeyRange::of(b"a", b"\0"));
        hub.publish(&(2..=6).map(|r| revision(r, "a")).collect::<Vec<_>>());
        let first = stream.pick_up(2);
        assert_eq!((numbers(&first), first.upto, first.more), (vec![2, 3], 3, true));
        assert_eq!(numbers(&stream.pick_up(10)), [4, 5, 6]);
    }

    #[test]
    fn what_the_ring_lost_is_to_be_read_from_history() {
        let hub = Hub::new(1);
        let stream = hub.register();
        stream.cover(KeyRange::of(b"a", b"\0"));
        hub.publish(&[revision(2, "a")]);
        hub.reset(9);
        let pickup = stream.pick_up(10);
        assert_eq!((pickup.lost_from, pickup.upto), (Some(2), 9));
        hub.publish(&[revision(10, "a")]);
        assert_eq!(numbers(&stream.pick_up(10)), [10]);
        assert!(stream.recent(9, 5).0.is_none());
    }

    #[test]
    fn the_ring_stays_within_its_bounds() {
        let hub = Hub::new(1);
        let last = EVENT_RING_REVISIONS_MAX as i64 + 10;
        for r in 2..=last {
            hub.publish(&[revision(r, "k")]);
        }
        let stream = hub.register();
        assert!(stream.recent(2, 1).0.is_none());
        assert_eq!(stream.recent(last, 5).0.unwrap().len(), 1);
        assert!(hub.inner.lock().ring.len() <= EVENT_RING_REVISIONS_MAX);
    }
}

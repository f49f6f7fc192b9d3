//! Where applied revisions are published once, and every stream picks up what it watches.
//!
//! Owns: the ring of recent revisions, and telling each stream of what it watches. Must not know:
//! sockets, watch ids. A newcomer's trap: a stream is told only of the first revision it may have missed;
//! everything before that and after its last visit holds nothing for it, so it never looks at it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use kijabi_base::check;
use kijabi_base::limits::{
    EVENT_RING_BYTES_MAX, EVENT_RING_REVISIONS_MAX, WATCH_FAN_OUT_INLINE_MAX,
    WATCH_HISTORY_READS_MAX,
};
use kijabi_machine::{KeyRange, RevisionEvents};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::encoded::Encoded;
use super::interest::{Interest, Stream, StreamId, Wanted};
use super::tally::Tally;
use crate::store::EventSink;

/// The hub. The apply loop publishes into it and never waits for a stream.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Locked before the ring if both are.
    streams: Mutex<Streams>,
    /// How many are registered.
    stream_count: AtomicUsize,
    ring: Mutex<Ring>,
    /// Something was published that the streams have not been told of.
    untold: Notify,
    /// Taken by each reading of history.
    readings: Arc<Semaphore>,
    /// How many watch.
    tally: Arc<Tally>,
}

/// The recent revisions.
#[derive(Debug)]
struct Ring {
    /// The last revision that was published.
    published: i64,
    revisions: VecDeque<Arc<Encoded>>,
    bytes: usize,
}

/// Who watches.
#[derive(Debug)]
struct Streams {
    /// The last revision that the streams were told of.
    told: i64,
    interest: Interest,
    registered: BTreeMap<StreamId, Registered>,
    next_number: u64,
}

#[derive(Debug)]
struct Registered {
    stream: Arc<Stream>,
    /// How many of its watches want the same.
    wanted: HashMap<Wanted, usize>,
}

/// A stream's place in the hub; leaving it ends the registration.
#[derive(Debug)]
pub(crate) struct Registration {
    hub: Arc<Hub>,
    id: StreamId,
    stream: Arc<Stream>,
}

/// What a stream finds when it looks.
#[derive(Debug)]
pub(crate) struct Pickup {
    /// The revisions that may hold something, in order.
    pub(crate) revisions: Vec<Arc<Encoded>>,
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
        let ring = Ring { published: revision, revisions: VecDeque::new(), bytes: 0 };
        let streams = Streams {
            told: revision,
            interest: Interest::default(),
            registered: BTreeMap::new(),
            next_number: 0,
        };
        Arc::new(Self {
            streams: Mutex::new(streams),
            stream_count: AtomicUsize::new(0),
            ring: Mutex::new(ring),
            untold: Notify::new(),
            readings: Arc::new(Semaphore::new(WATCH_HISTORY_READS_MAX)),
            tally: Arc::default(),
        })
    }

    /// Tells the streams what is published, for as long as it runs: telling very many takes longer
    /// than the apply loop may.
    pub(crate) async fn keep_telling(self: Arc<Self>) {
        loop {
            self.untold.notified().await;
            let asleep = {
                let mut streams = self.streams.lock();
                streams.tell(&self.ring);
                streams.interest.take_asleep()
            };
            // Others, such as the next write, must not have to wait until all have had their turn.
            // What is published meanwhile is told when this round is over, all of it at once.
            for some in asleep.chunks(WATCH_FAN_OUT_INLINE_MAX) {
                for stream in some {
                    stream.wake();
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// The machine was replaced by one that stands at `revision` (an installed snapshot): what
    /// happened in between was never published, so every stream reads it from history.
    pub(crate) fn reset(&self, revision: i64) {
        let mut streams = self.streams.lock();
        {
            let mut ring = self.ring.lock();
            ring.revisions.clear();
            ring.bytes = 0;
            ring.published = ring.published.max(revision);
        }
        streams.tell_all();
        streams.told = streams.told.max(revision);
        self.wake(&mut streams);
    }

    /// Wakes those who were told, or leaves that to [`Hub::keep_telling`] if they are many.
    fn wake(&self, streams: &mut Streams) {
        match streams.interest.asleep.len() {
            0 => {}
            few if few <= WATCH_FAN_OUT_INLINE_MAX => {
                streams.interest.take_asleep().iter().for_each(|stream| stream.wake());
            }
            _ => self.untold.notify_one(),
        }
    }

    /// Tells the streams what they have not been told yet.
    fn catch_up(&self, streams: &mut Streams) {
        streams.tell(&self.ring);
        self.wake(streams);
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
        self.ring.lock().published
    }

    /// Registers a stream that watches nothing yet; `connection` tells which streams run together, 0
    /// that it runs alone.
    pub(crate) fn register(self: &Arc<Self>, connection: u64) -> Registration {
        let mut streams = self.streams.lock();
        self.catch_up(&mut streams);
        let id = StreamId { connection, number: streams.next_number };
        streams.next_number += 1;
        let stream = Arc::<Stream>::default();
        let registered = Registered { stream: Arc::clone(&stream), wanted: HashMap::new() };
        streams.registered.insert(id, registered);
        self.stream_count.store(streams.registered.len(), Ordering::Release);
        Registration { hub: Arc::clone(self), id, stream }
    }
}

impl EventSink for Hub {
    fn publish(&self, events: &[Arc<RevisionEvents>]) {
        {
            let mut ring = self.ring.lock();
            for revision in events {
                ring.push(revision);
            }
            ring.trim();
        }
        // Whoever registers after this look finds the revisions published.
        match self.stream_count.load(Ordering::Acquire) {
            // Whoever comes first brings it up to date.
            0 => {}
            few if few <= WATCH_FAN_OUT_INLINE_MAX => self.catch_up(&mut self.streams.lock()),
            _ => self.untold.notify_one(),
        }
    }
}

impl Ring {
    fn push(&mut self, revision: &Arc<RevisionEvents>) {
        check!(
            Watch1,
            revision.revision == self.published + 1,
            "published {} after {}",
            revision.revision,
            self.published
        );
        self.published = revision.revision;
        self.bytes += bytes(revision);
        self.revisions.push_back(Arc::new(Encoded::new(Arc::clone(revision))));
    }

    /// Keeps the ring within its bounds; a single revision may exceed them while it is the last.
    fn trim(&mut self) {
        while self.revisions.len() > EVENT_RING_REVISIONS_MAX
            || (self.bytes > EVENT_RING_BYTES_MAX && self.revisions.len() > 1)
        {
            let Some(oldest) = self.revisions.pop_front() else { break };
            self.bytes -= bytes(&oldest);
        }
    }

    /// At most `max` revisions from `from` on; `None` if the ring begins later.
    fn recent(&self, from: i64, max: usize) -> Option<Vec<Arc<Encoded>>> {
        if from > self.published {
            return Some(Vec::new());
        }
        let first = self.revisions.front()?.revision;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let until = skip.saturating_add(max).min(self.revisions.len());
        Some(self.revisions.range(skip.min(until)..until).cloned().collect())
    }
}

impl Streams {
    /// Tells whoever watches it what was published since the last time.
    fn tell(&mut self, ring: &Mutex<Ring>) {
        let (revisions, published) = {
            let ring = ring.lock();
            if ring.published == self.told {
                return;
            }
            if self.registered.is_empty() {
                self.told = ring.published;
                return;
            }
            (ring.recent(self.told + 1, usize::MAX), ring.published)
        };
        match revisions {
            Some(revisions) => {
                self.interest.begin_pass();
                for revision in &revisions {
                    for kv in revision.events.iter().filter_map(|event| event.kv.as_ref()) {
                        self.interest.tell(&kv.key, revision.revision);
                    }
                }
            }
            // So late that the ring has lost it.
            None => self.tell_all(),
        }
        self.told = published;
    }

    /// Tells every stream that it may have missed something.
    fn tell_all(&mut self) {
        let missed = self.told + 1;
        let all = self.registered.values().map(|registered| &registered.stream);
        self.interest.asleep.extend(all.filter(|stream| stream.tell(missed)).cloned());
    }
}

/// Bytes that a revision's events hold, about: as they are, and encoded.
fn bytes(revision: &RevisionEvents) -> usize {
    const EVENT_OVERHEAD_BYTES: usize = 256;
    let of = |kv: &Option<kijabi_proto::mvccpb::KeyValue>| {
        kv.as_ref().map_or(0, |kv| 2 * (kv.key.len() + kv.value.len()))
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
    /// one and those before it need not.
    pub(crate) fn cover(&self, range: KeyRange<'_>) -> i64 {
        let mut streams = self.hub.streams.lock();
        let streams = &mut *streams;
        self.hub.catch_up(streams);
        if let Some(wanted) = Wanted::of(range)
            && let Some(registered) = streams.registered.get_mut(&self.id)
        {
            let count = registered.wanted.entry(wanted.clone()).or_default();
            *count += 1;
            if *count == 1 {
                streams.interest.add(wanted, self.id, &self.stream);
            }
        }
        streams.told
    }

    /// Takes keys back that were added.
    pub(crate) fn uncover(&self, range: KeyRange<'_>) {
        let mut streams = self.hub.streams.lock();
        let streams = &mut *streams;
        if let Some(wanted) = Wanted::of(range)
            && let Some(registered) = streams.registered.get_mut(&self.id)
            && let Some(count) = registered.wanted.get_mut(&wanted)
        {
            *count -= 1;
            if *count == 0 {
                registered.wanted.remove(&wanted);
                streams.interest.remove(&wanted, self.id);
            }
        }
    }

    /// Ready while there is something to pick up.
    pub(crate) fn poll_told(&self, context: &Context<'_>) -> Poll<()> {
        self.stream.poll_told(context)
    }

    /// Resolves when there is something to pick up.
    pub(crate) async fn woken(&self) {
        poll_fn(|context| self.poll_told(context)).await;
    }

    /// Takes at most `max` revisions, from the first one that was missed.
    pub(crate) fn pick_up(&self, max: usize) -> Pickup {
        let mut streams = self.hub.streams.lock();
        self.hub.catch_up(&mut streams);
        let upto = streams.told;
        let Some(from) = self.stream.take_missed() else {
            return Pickup { revisions: Vec::new(), lost_from: None, upto, more: false };
        };
        let max = max.min(usize::try_from(upto + 1 - from).unwrap_or(0));
        let Some(revisions) = self.hub.ring.lock().recent(from, max) else {
            return Pickup { revisions: Vec::new(), lost_from: Some(from), upto, more: false };
        };
        let last = revisions.last().map_or(upto, |revision| revision.revision);
        let more = last < upto;
        if more {
            self.stream.tell(last + 1);
            self.stream.wake();
        }
        Pickup { revisions, lost_from: None, upto: last, more }
    }

    /// At most `max` revisions from `from` on out of the ring, and the last revision published;
    /// `None` if the ring begins later.
    pub(crate) fn recent(&self, from: i64, max: usize) -> (Option<Vec<Arc<Encoded>>>, i64) {
        let ring = self.hub.ring.lock();
        (ring.recent(from, max), ring.published)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut streams = self.hub.streams.lock();
        let streams = &mut *streams;
        let left = streams.registered.remove(&self.id);
        self.hub.stream_count.store(streams.registered.len(), Ordering::Release);
        if let Some(registered) = left {
            for wanted in registered.wanted.keys() {
                streams.interest.remove(wanted, self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        let stream = hub.register(0);
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
        let stream = hub.register(0);
        stream.cover(KeyRange::of(b"a", b"\0"));
        hub.publish(&(2..=6).map(|r| revision(r, "a")).collect::<Vec<_>>());
        let first = stream.pick_up(2);
        assert_eq!((numbers(&first), first.upto, first.more), (vec![2, 3], 3, true));
        assert_eq!(numbers(&stream.pick_up(10)), [4, 5, 6]);
    }

    #[test]
    fn what_the_ring_lost_is_to_be_read_from_history() {
        let hub = Hub::new(1);
        let stream = hub.register(0);
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
        let stream = hub.register(0);
        assert!(stream.recent(2, 1).0.is_none());
        assert_eq!(stream.recent(last, 5).0.unwrap().len(), 1);
        assert!(hub.ring.lock().revisions.len() <= EVENT_RING_REVISIONS_MAX);
    }
}

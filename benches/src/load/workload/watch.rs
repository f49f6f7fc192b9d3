//! Watchers that all get every event, while clients put.
//!
//! Owns: the watchers and how late their events come. Must not know: when puts are sent. A
//! newcomer's trap: a value begins with the time it was sent at, so the clock is this process's
//! own and servers on other machines need none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kijabi_base::clock::{self, Instant};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use rand::rngs::SmallRng;

use super::{Client, Keys, Load, Step, events};
use crate::load::args::WatchArgs;
use crate::load::lane::Role;
use crate::load::latency::Latencies;
use crate::load::report::Extra;
use crate::load::server::Usage;
use crate::load::wire::{Messages, Method};

/// Bytes of the time in front of a value.
const TIME_BYTES: usize = 8;
/// How long the last events may take to arrive.
const DRAIN: Duration = Duration::from_secs(2);

/// The load.
pub(super) struct Fanout {
    keys: Keys,
    args: WatchArgs,
    seen: Arc<Seen>,
}

/// What the watchers have seen.
struct Seen {
    origin: Instant,
    created: AtomicUsize,
    measured_from: AtomicU64,
    /// Events that came while it was measured, and after it.
    events: AtomicU64,
    until: AtomicU64,
    events_in_time: AtomicU64,
    latencies: Latencies,
}

impl Fanout {
    pub(super) fn new(keys: Keys, args: WatchArgs) -> Self {
        let seen = Seen {
            origin: clock::now(),
            created: AtomicUsize::new(0),
            measured_from: AtomicU64::new(u64::MAX),
            events: AtomicU64::new(0),
            until: AtomicU64::new(u64::MAX),
            events_in_time: AtomicU64::new(0),
            latencies: Latencies::new(),
        };
        Self { keys, args, seen: Arc::new(seen) }
    }
}

/// A request for a watch of all keys.
pub(super) fn create(key: Bytes, range_end: Bytes, prev_kv: bool, from: i64) -> pb::WatchRequest {
    let create = pb::WatchCreateRequest {
        key,
        range_end,
        prev_kv,
        start_revision: from,
        ..Default::default()
    };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

struct Watcher {
    stream: usize,
    watches: usize,
    prev_kv: bool,
    opened: bool,
    seen: Arc<Seen>,
}

impl Client for Watcher {
    fn request(&mut self, _rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        if std::mem::replace(&mut self.opened, true) {
            return None;
        }
        let (key, range_end) = Keys::all();
        for _ in 0..self.watches {
            messages.push(&create(key.clone(), range_end.clone(), self.prev_kv, 0));
        }
        Some(Method::Watch)
    }

    fn message(&mut self, bytes: &[u8], now: Instant) -> Result<Step, String> {
        let seen = &self.seen;
        let now = now.duration_since(seen.origin).as_nanos() as u64;
        let from = seen.measured_from.load(Ordering::Relaxed);
        let mut counted = 0;
        let answer = events::read(bytes, |value| {
            let Some(time) = value.first_chunk::<TIME_BYTES>() else { return };
            let sent = u64::from_be_bytes(*time);
            if sent >= from {
                counted += 1;
                let late = Duration::from_nanos(now.saturating_sub(sent));
                seen.latencies.record(self.stream, late);
            }
        })?;
        if answer.created {
            seen.created.fetch_add(1, Ordering::Relaxed);
        }
        if counted > 0 {
            seen.events.fetch_add(counted, Ordering::Relaxed);
            if now <= seen.until.load(Ordering::Relaxed) {
                seen.events_in_time.fetch_add(counted, Ordering::Relaxed);
            }
        }
        Ok(Step::More)
    }
}

impl Load for Fanout {
    fn watchers(&self) -> Vec<(Role, Box<dyn Client>)> {
        let per_stream = self.args.per_stream.max(1);
        let streams = self.args.watchers.div_ceil(per_stream);
        let watcher = |stream: usize| -> (Role, Box<dyn Client>) {
            let watches = per_stream.min(self.args.watchers - stream * per_stream);
            let (prev_kv, seen) = (self.args.prev_kv, self.seen.clone());
            let watcher = Watcher { stream, watches, prev_kv, opened: false, seen };
            (Role::Watcher, Box::new(watcher))
        };
        (0..streams).map(watcher).collect()
    }

    fn ready(&self) -> bool {
        self.seen.created.load(Ordering::Relaxed) >= self.args.watchers
    }

    fn client(&self, _number: usize) -> Option<Box<dyn Client>> {
        Some(Box::new(Writer { keys: self.keys.clone(), origin: self.seen.origin }))
    }

    fn measuring(&self) {
        let now = self.seen.origin.elapsed().as_nanos() as u64;
        self.seen.measured_from.store(now, Ordering::Relaxed);
    }

    fn over(&self) {
        let now = self.seen.origin.elapsed().as_nanos() as u64;
        self.seen.until.store(now, Ordering::Relaxed);
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        tokio::time::sleep(DRAIN).boxed()
    }

    fn extra(&self, _before: &Usage, _after: &Usage) -> Option<Extra> {
        let from = self.seen.measured_from.load(Ordering::Relaxed);
        let until = self.seen.until.load(Ordering::Relaxed);
        let seconds = Duration::from_nanos(until.saturating_sub(from)).as_secs_f64();
        let events = self.seen.events_in_time.load(Ordering::Relaxed);
        Some(Extra {
            name: "events delivered".into(),
            count: events,
            per_second: events as f64 / seconds.max(f64::MIN_POSITIVE),
            latency: self.seen.latencies.percentiles(),
            bytes_each: None,
        })
    }
}

struct Writer {
    keys: Keys,
    origin: Instant,
}

impl Client for Writer {
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        let mut value = self.keys.value(rng).to_vec();
        if value.len() < TIME_BYTES {
            value.resize(TIME_BYTES, 0);
        }
        let sent = self.origin.elapsed().as_nanos() as u64;
        value[..TIME_BYTES].copy_from_slice(&sent.to_be_bytes());
        let key = self.keys.random(rng);
        messages.push(&pb::PutRequest { key, value: value.into(), ..Default::default() });
        Some(Method::Put)
    }
}

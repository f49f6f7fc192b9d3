//! Puts while watchers read a long history: those who are late must not slow those who write.
//!
//! Owns: making the history, and the watchers that begin at its begin. Must not know: how a server
//! lets them catch up. A newcomer's trap: a transaction is one revision however many keys it puts,
//! so the history is made of single puts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kijabi_base::clock::{self, Instant};
use kijabi_proto::etcdserverpb as pb;
use parking_lot::Mutex;
use rand::rngs::SmallRng;

use super::watch::create;
use super::write::Putter;
use super::{Client, Keys, Load, Step, events};
use crate::load::args::BehindArgs;
use crate::load::lane::Role;
use crate::load::latency::Latencies;
use crate::load::report::Extra;
use crate::load::server::Usage;
use crate::load::session::Session;
use crate::load::wire::{Messages, Method};

/// Clients that make the history.
const WRITERS: u64 = 256;
/// How long the watchers may take to catch up once the time is over; then they count as if they
/// had caught up at this moment.
const CATCH_UP: Duration = Duration::from_secs(120);

/// The load.
pub(super) struct Behind {
    keys: Keys,
    args: BehindArgs,
    first: AtomicI64,
    seen: Arc<Seen>,
}

/// What the watchers have seen.
#[derive(Default)]
struct Seen {
    events: AtomicU64,
    began: Mutex<Option<Instant>>,
    /// How long each took from its begin to the end of the history.
    caught_up: Latencies,
    late: AtomicU64,
}

impl Behind {
    pub(super) fn new(keys: Keys, args: BehindArgs) -> Self {
        let seen = Seen { late: AtomicU64::new(args.watchers as u64), ..Seen::default() };
        Self { keys, args, first: AtomicI64::new(0), seen: Arc::new(seen) }
    }
}

impl Load for Behind {
    fn prepare<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let read = pb::RangeRequest { key: b"0"[..].into(), ..Default::default() };
            let answer: pb::RangeResponse = session.call(0, Method::Range, &read).await?;
            let revision = answer.header.map_or(0, |header| header.revision);
            self.first.store(revision + 1, Ordering::Relaxed);
            let each = self.args.revisions.div_ceil(WRITERS);
            let writer = |_| -> Box<dyn Client> {
                Box::new(Historian { putter: Putter(self.keys.clone()), left: each })
            };
            session.finish((0..WRITERS).map(writer).collect()).await
        }
        .boxed()
    }

    fn watchers(&self) -> Vec<(Role, Box<dyn Client>)> {
        let watcher = |number: usize| -> (Role, Box<dyn Client>) {
            let late = Late {
                number,
                from: self.first.load(Ordering::Relaxed),
                left: self.args.revisions,
                prev_kv: self.args.prev_kv,
                opened: false,
                seen: self.seen.clone(),
            };
            (Role::LateWatcher, Box::new(late))
        };
        (0..self.args.watchers).map(watcher).collect()
    }

    fn client(&self, _number: usize) -> Option<Box<dyn Client>> {
        Some(Box::new(Putter(self.keys.clone())))
    }

    fn measuring(&self) {
        *self.seen.began.lock() = Some(clock::now());
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        async {
            let until = clock::now() + CATCH_UP;
            while self.seen.late.load(Ordering::Relaxed) > 0 && clock::now() < until {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // Those who have not caught up took at least as long as this.
            let began = *self.seen.began.lock();
            for number in 0..self.seen.late.swap(0, Ordering::Relaxed) {
                let elapsed = began.map_or(Duration::ZERO, |began| began.elapsed());
                self.seen.caught_up.record(number as usize, elapsed);
            }
        }
        .boxed()
    }

    fn extra(&self, _before: &Usage, _after: &Usage) -> Option<Extra> {
        let count = self.seen.events.load(Ordering::Relaxed);
        let latency = self.seen.caught_up.percentiles();
        let seconds = latency.max as f64 / 1e6;
        Some(Extra {
            name: "events of the past".into(),
            count,
            per_second: count as f64 / seconds.max(1e-6),
            latency,
            bytes_each: None,
        })
    }
}

/// Puts so many times.
struct Historian {
    putter: Putter,
    left: u64,
}

impl Client for Historian {
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        self.left = self.left.checked_sub(1)?;
        self.putter.request(rng, messages)
    }
}

/// A watcher that begins with the first revision of the history.
struct Late {
    number: usize,
    from: i64,
    left: u64,
    prev_kv: bool,
    opened: bool,
    seen: Arc<Seen>,
}

impl Client for Late {
    fn request(&mut self, _rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        if std::mem::replace(&mut self.opened, true) {
            return None;
        }
        let (key, range_end) = Keys::all();
        messages.push(&create(key, range_end, self.prev_kv, self.from));
        Some(Method::Watch)
    }

    fn message(&mut self, bytes: &[u8], now: Instant) -> Result<Step, String> {
        let events = events::read(bytes, |_| ())?.events;
        if self.left > 0 {
            self.seen.events.fetch_add(events.min(self.left), Ordering::Relaxed);
            self.left = self.left.saturating_sub(events);
            if self.left == 0 {
                if let Some(began) = *self.seen.began.lock() {
                    self.seen.caught_up.record(self.number, now.duration_since(began));
                }
                let one_less = |late: u64| late.checked_sub(1);
                let _ = self.seen.late.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
            }
        }
        Ok(Step::More)
    }
}

//! Watches that nothing happens to: what they cost in memory.
//!
//! Owns: opening them. Must not know: how a server keeps them. A newcomer's trap: with as many
//! connections as streams each stream has its own, so its buffers count as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kijabi_base::clock::Instant;
use rand::rngs::SmallRng;

use super::watch::create;
use super::{Client, Load, Step, events};
use crate::load::args::WatchArgs;
use crate::load::lane::Role;
use crate::load::latency::Percentiles;
use crate::load::report::Extra;
use crate::load::server::Usage;
use crate::load::wire::{Messages, Method};

/// The load.
pub(super) struct Idle {
    args: WatchArgs,
    created: Arc<AtomicUsize>,
}

impl Idle {
    pub(super) fn new(args: WatchArgs) -> Self {
        Self { args, created: Arc::default() }
    }
}

impl Load for Idle {
    fn watchers(&self) -> Vec<(Role, Box<dyn Client>)> {
        let per_stream = self.args.per_stream.max(1);
        let streams = self.args.watchers.div_ceil(per_stream);
        let watcher = |stream: usize| -> (Role, Box<dyn Client>) {
            let first = stream * per_stream;
            let watches = first..(first + per_stream).min(self.args.watchers);
            let (prev_kv, created) = (self.args.prev_kv, self.created.clone());
            let watcher = Watcher { watches, prev_kv, created, opened: false };
            (Role::Watcher, Box::new(watcher))
        };
        (0..streams).map(watcher).collect()
    }

    fn ready(&self) -> bool {
        self.created.load(Ordering::Relaxed) >= self.args.watchers
    }

    fn client(&self, _number: usize) -> Option<Box<dyn Client>> {
        None
    }

    fn extra(&self, before: &Usage, after: &Usage) -> Option<Extra> {
        let grown = after.rss_bytes.saturating_sub(before.rss_bytes);
        Some(Extra {
            name: "idle watches".into(),
            count: self.args.watchers as u64,
            per_second: 0.0,
            latency: Percentiles::default(),
            bytes_each: Some(grown as f64 / self.args.watchers.max(1) as f64),
        })
    }
}

/// Each of its watches is of a key of its own.
struct Watcher {
    watches: std::ops::Range<usize>,
    prev_kv: bool,
    created: Arc<AtomicUsize>,
    opened: bool,
}

impl Client for Watcher {
    fn request(&mut self, _rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        if std::mem::replace(&mut self.opened, true) {
            return None;
        }
        for watch in self.watches.clone() {
            let key = format!("/registry/configmaps/idle/{watch:08}");
            messages.push(&create(key.into(), bytes::Bytes::new(), self.prev_kv, 0));
        }
        Some(Method::Watch)
    }

    fn message(&mut self, bytes: &[u8], _now: Instant) -> Result<Step, String> {
        if events::read(bytes, |_| ())?.created {
            self.created.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Step::More)
    }
}

//! The load of API servers: objects that are updated, and a list and a watch of each resource.
//!
//! Owns: keys under `/registry`, objects' sizes, the watches. Must not know: when requests are
//! sent. A newcomer's trap: an API server's watch always asks for previous values and progress,
//! and its updates are transactions on the revision it knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kijabi_base::clock::{self, Instant};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::SmallRng;

use super::write::{swap, swapped};
use super::{Client, Keys, Load, Step, events};
use crate::load::args::{Common, KubernetesArgs};
use crate::load::lane::Role;
use crate::load::latency::Percentiles;
use crate::load::report::Extra;
use crate::load::server::Usage;
use crate::load::session::Session;
use crate::load::wire::{Messages, Method};

/// Per cent of requests that update; of the others one in ten is a page of a list.
const UPDATES: u32 = 90;
const LISTS_ONE_IN: u32 = 10;
/// Objects of a page.
const PAGE: i64 = 500;

/// The load.
pub(super) struct Cluster {
    args: KubernetesArgs,
    keys: Keys,
    objects: usize,
    clients: usize,
    seen: Arc<Seen>,
    /// The revision each resource was listed at.
    listed: Mutex<Vec<i64>>,
    /// The revisions of the objects of each client.
    made: Arc<Mutex<BTreeMap<usize, Vec<i64>>>>,
}

#[derive(Default)]
struct Seen {
    created: AtomicUsize,
    events: AtomicU64,
    measuring: AtomicBool,
    began: Mutex<Option<Instant>>,
    ended: Mutex<Option<Instant>>,
}

impl Cluster {
    pub(super) fn new(mut args: KubernetesArgs, common: &Common) -> Self {
        args.object_max = args.object_max.max(args.object_min);
        args.resources = args.resources.max(1);
        let clients = common.clients.max(1);
        Self {
            keys: Keys::of_values(common, args.object_max),
            args,
            objects: (common.keys / clients as u64).max(1) as usize,
            clients,
            seen: Arc::default(),
            listed: Mutex::default(),
            made: Arc::default(),
        }
    }

    fn api_server(&self, number: usize) -> ApiServer {
        let resource = number % self.args.resources;
        let made = self.made.lock().get(&number).cloned();
        ApiServer {
            keys: self.keys.clone(),
            resource,
            prefix: format!("/registry/resource{resource}/namespace{number}/object"),
            revisions: made.unwrap_or_else(|| vec![0; self.objects]),
            sizes: (self.args.object_min, self.args.object_max),
            current: None,
        }
    }

    /// All objects of a resource, in pages, as an API server's cache begins; the revision.
    async fn list(&self, session: &Session, resource: usize) -> anyhow::Result<i64> {
        let mut revision = 0;
        let (mut key, range_end) = range_of(resource);
        loop {
            let page = pb::RangeRequest {
                key,
                range_end: range_end.clone(),
                limit: PAGE,
                revision,
                ..Default::default()
            };
            let answer: pb::RangeResponse = session.call(resource, Method::Range, &page).await?;
            revision = answer.header.map_or(0, |header| header.revision).max(revision);
            let Some(last) = answer.kvs.last().filter(|_| answer.more) else { return Ok(revision) };
            key = [&last.key[..], &[0]].concat().into();
        }
    }
}

fn range_of(resource: usize) -> (Bytes, Bytes) {
    let prefix = format!("/registry/resource{resource}");
    (format!("{prefix}/").into(), format!("{prefix}0").into())
}

impl Load for Cluster {
    fn prepare<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let creator = |number| -> Box<dyn Client> {
                let (server, made) = (self.api_server(number), self.made.clone());
                Box::new(Creator { number, server, next: 0, made })
            };
            session.finish((0..self.clients).map(creator).collect()).await?;
            for resource in 0..self.args.resources {
                let revision = self.list(session, resource).await?;
                self.listed.lock().push(revision);
            }
            Ok(())
        }
        .boxed()
    }

    fn watchers(&self) -> Vec<(Role, Box<dyn Client>)> {
        let listed = self.listed.lock().clone();
        let watcher = |(resource, revision)| -> (Role, Box<dyn Client>) {
            let seen = self.seen.clone();
            (Role::Watcher, Box::new(Watcher { resource, revision, opened: false, seen }))
        };
        listed.into_iter().enumerate().map(watcher).collect()
    }

    fn ready(&self) -> bool {
        self.seen.created.load(Ordering::Relaxed) >= self.args.resources
    }

    fn client(&self, number: usize) -> Option<Box<dyn Client>> {
        Some(Box::new(self.api_server(number)))
    }

    fn measuring(&self) {
        *self.seen.began.lock() = Some(clock::now());
        self.seen.measuring.store(true, Ordering::Relaxed);
    }

    fn over(&self) {
        self.seen.measuring.store(false, Ordering::Relaxed);
        *self.seen.ended.lock() = Some(clock::now());
    }

    fn extra(&self, _before: &Usage, _after: &Usage) -> Option<Extra> {
        let count = self.seen.events.load(Ordering::Relaxed);
        let time = self.seen.began.lock().zip(*self.seen.ended.lock());
        let elapsed = time.map_or(Duration::ZERO, |(began, ended)| ended - began).as_secs_f64();
        Some(Extra {
            name: "events delivered".into(),
            count,
            per_second: count as f64 / elapsed.max(1e-6),
            latency: Percentiles::default(),
            bytes_each: None,
        })
    }
}

struct Watcher {
    resource: usize,
    revision: i64,
    opened: bool,
    seen: Arc<Seen>,
}

impl Client for Watcher {
    fn request(&mut self, _rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        if std::mem::replace(&mut self.opened, true) {
            return None;
        }
        let (key, range_end) = range_of(self.resource);
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.revision + 1,
            prev_kv: true,
            progress_notify: true,
            ..Default::default()
        };
        let create = Some(RequestUnion::CreateRequest(create));
        messages.push(&pb::WatchRequest { request_union: create });
        Some(Method::Watch)
    }

    fn message(&mut self, bytes: &[u8], _now: Instant) -> Result<Step, String> {
        let answer = events::read(bytes, |_| ())?;
        if answer.created {
            self.seen.created.fetch_add(1, Ordering::Relaxed);
        }
        if self.seen.measuring.load(Ordering::Relaxed) {
            self.seen.events.fetch_add(answer.events, Ordering::Relaxed);
        }
        Ok(Step::More)
    }
}

struct ApiServer {
    keys: Keys,
    resource: usize,
    prefix: String,
    revisions: Vec<i64>,
    sizes: (usize, usize),
    /// The object whose update is under way.
    current: Option<usize>,
}

impl ApiServer {
    fn key(&self, object: usize) -> Bytes {
        format!("{}{object:06}", self.prefix).into()
    }

    fn update(&mut self, object: usize, rng: &mut SmallRng, messages: &mut Messages<'_>) {
        let size = rng.random_range(self.sizes.0..=self.sizes.1);
        let value = self.keys.value_of(rng, size);
        messages.push(&swap(self.key(object), value, self.revisions[object]));
        self.current = Some(object);
    }
}

impl Client for ApiServer {
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        let object = rng.random_range(0..self.revisions.len());
        if rng.random_range(0..100) < UPDATES {
            self.update(object, rng, messages);
            return Some(Method::Txn);
        }
        self.current = None;
        if rng.random_range(0..LISTS_ONE_IN) == 0 {
            let (_, range_end) = range_of(self.resource);
            let key = self.key(object);
            messages.push(&pb::RangeRequest { key, range_end, limit: PAGE, ..Default::default() });
        } else {
            let get = pb::RangeRequest { key: self.key(object), limit: 1, ..Default::default() };
            messages.push(&get);
        }
        Some(Method::Range)
    }

    fn message(&mut self, bytes: &[u8], _now: Instant) -> Result<Step, String> {
        if let Some(object) = self.current {
            self.revisions[object] = swapped(bytes)?;
        }
        Ok(Step::More)
    }
}

/// Makes all objects of a client.
struct Creator {
    number: usize,
    server: ApiServer,
    next: usize,
    made: Arc<Mutex<BTreeMap<usize, Vec<i64>>>>,
}

impl Client for Creator {
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        if self.next >= self.server.revisions.len() {
            let revisions = std::mem::take(&mut self.server.revisions);
            self.made.lock().insert(self.number, revisions);
            return None;
        }
        self.server.update(self.next, rng, messages);
        self.next += 1;
        Some(Method::Txn)
    }

    fn message(&mut self, bytes: &[u8], now: Instant) -> Result<Step, String> {
        self.server.message(bytes, now)
    }
}

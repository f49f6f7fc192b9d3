//! Watchers that all get every event, while clients put.
//!
//! Owns: the watchers and how late their events come. Must not know: when puts are sent. A
//! newcomer's trap: a value begins with the time it was sent at, so the clock is this process's
//! own and servers on other machines need none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kijabi_base::clock::{self, Instant};
use kijabi_base::tasks::{self, Shutdown};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::kv_client::KvClient;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{Client, Keys, Load};
use crate::load::args::WatchArgs;
use crate::load::latency::Latencies;
use crate::load::report::Extra;
use crate::load::target::Target;

/// Bytes of the time in front of a value.
const TIME_BYTES: usize = 8;
/// How long the last events may take to arrive.
const DRAIN: Duration = Duration::from_secs(2);

/// The load.
pub(super) struct Fanout {
    keys: Keys,
    args: WatchArgs,
    seen: Arc<Seen>,
    /// Held so that the watch streams stay open.
    requests: Mutex<Vec<mpsc::Sender<pb::WatchRequest>>>,
    ended: Shutdown,
}

/// What the watchers have seen.
struct Seen {
    origin: Instant,
    measured_from: AtomicU64,
    events: AtomicU64,
    latencies: Latencies,
}

impl Fanout {
    pub(super) fn new(keys: Keys, args: WatchArgs) -> Self {
        let seen = Seen {
            origin: clock::now(),
            measured_from: AtomicU64::new(u64::MAX),
            events: AtomicU64::new(0),
            latencies: Latencies::new(),
        };
        Self {
            keys,
            args,
            seen: Arc::new(seen),
            requests: Mutex::default(),
            ended: Shutdown::new(),
        }
    }

    async fn open(&self, target: &Target, stream: usize, watchers: usize) -> anyhow::Result<()> {
        let (requests, receiver) = mpsc::channel(watchers);
        let (key, range_end) = Keys::all();
        for _ in 0..watchers {
            let create = pb::WatchCreateRequest {
                key: key.clone().into(),
                range_end: range_end.clone().into(),
                prev_kv: self.args.prev_kv,
                ..Default::default()
            };
            let create = RequestUnion::CreateRequest(create);
            requests.send(pb::WatchRequest { request_union: Some(create) }).await?;
        }
        let answers = target.watch(stream).watch(ReceiverStream::new(receiver)).await?;
        let mut answers = answers.into_inner();
        for _ in 0..watchers {
            let created = answers.next().await.context("the watch stream ended")??;
            anyhow::ensure!(created.created, "a watch was not created: {}", created.cancel_reason);
        }
        self.requests.lock().push(requests);
        let following = follow(stream, answers, self.seen.clone());
        tasks::spawn_until("watcher", self.ended.clone(), following);
        Ok(())
    }
}

async fn follow(stream: usize, mut answers: Streaming<pb::WatchResponse>, seen: Arc<Seen>) {
    while let Some(Ok(answer)) = answers.next().await {
        let now = seen.origin.elapsed().as_nanos() as u64;
        let from = seen.measured_from.load(Ordering::Relaxed);
        for event in &answer.events {
            let value = event.kv.as_ref().map(|kv| &kv.value[..]).unwrap_or_default();
            let Some(time) = value.first_chunk::<TIME_BYTES>() else { continue };
            let sent = u64::from_be_bytes(*time);
            if sent >= from {
                seen.events.fetch_add(1, Ordering::Relaxed);
                seen.latencies.record(stream, Duration::from_nanos(now.saturating_sub(sent)));
            }
        }
    }
}

impl Load for Fanout {
    fn prepare<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let per_stream = self.args.per_stream.max(1);
            let mut left = self.args.watchers;
            let mut stream = 0;
            while left > 0 {
                let watchers = left.min(per_stream);
                self.open(target, stream, watchers).await?;
                left -= watchers;
                stream += 1;
            }
            Ok(())
        }
        .boxed()
    }

    fn client<'a>(
        &'a self,
        number: usize,
        target: &'a Target,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>> {
        let client: Box<dyn Client> = Box::new(Writer {
            kv: target.kv(number),
            keys: self.keys.clone(),
            origin: self.seen.origin,
        });
        async { Ok(client) }.boxed()
    }

    fn measuring(&self) {
        let now = self.seen.origin.elapsed().as_nanos() as u64;
        self.seen.measured_from.store(now, Ordering::Relaxed);
    }

    fn finish(&self) -> BoxFuture<'_, Option<Extra>> {
        async move {
            let from = self.seen.measured_from.load(Ordering::Relaxed);
            let ended = self.seen.origin.elapsed();
            let events = self.seen.events.load(Ordering::Relaxed);
            tokio::time::sleep(DRAIN).await;
            self.ended.trigger();
            let seconds = ended.saturating_sub(Duration::from_nanos(from)).as_secs_f64();
            Some(Extra {
                name: "events delivered".into(),
                count: events,
                per_second: events as f64 / seconds.max(f64::MIN_POSITIVE),
                latency: self.seen.latencies.percentiles(),
            })
        }
        .boxed()
    }
}

struct Writer {
    kv: KvClient<Channel>,
    keys: Keys,
    origin: Instant,
}

impl Client for Writer {
    fn once<'a>(&'a mut self, rng: &'a mut SmallRng) -> BoxFuture<'a, Result<(), Status>> {
        let mut value = self.keys.value(rng);
        if value.len() < TIME_BYTES {
            value.resize(TIME_BYTES, 0);
        }
        let sent = self.origin.elapsed().as_nanos() as u64;
        value[..TIME_BYTES].copy_from_slice(&sent.to_be_bytes());
        let request = pb::PutRequest {
            key: self.keys.random(rng).into(),
            value: value.into(),
            ..Default::default()
        };
        async move { self.kv.put(request).await.map(drop) }.boxed()
    }
}

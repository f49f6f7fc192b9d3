//! The load of API servers: objects that are updated, and one watch a resource.
//!
//! Owns: keys under `/registry`, objects' sizes, the watches. Must not know: when requests are
//! sent. A newcomer's trap: an API server's watch always asks for previous values and progress,
//! and its updates are transactions on the revision it knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kijabi_base::clock;
use kijabi_base::tasks::{self, Shutdown};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::kv_client::KvClient;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::keys::random_bytes;
use super::write::swap;
use super::{Client, Load};
use crate::load::args::{Common, KubernetesArgs};
use crate::load::latency::Percentiles;
use crate::load::report::Extra;
use crate::load::target::Target;

/// Per cent of requests that update.
const UPDATES: u32 = 90;

/// The load.
pub(super) struct Cluster {
    args: KubernetesArgs,
    objects: usize,
    events: Arc<AtomicU64>,
    measuring: Arc<AtomicBool>,
    began: Mutex<Option<clock::Instant>>,
    requests: Mutex<Vec<mpsc::Sender<pb::WatchRequest>>>,
    ended: Shutdown,
}

impl Cluster {
    pub(super) fn new(args: KubernetesArgs, common: &Common) -> Self {
        let clients = common.clients.max(1) as u64;
        Self {
            args,
            objects: (common.keys / clients).max(1) as usize,
            events: Arc::default(),
            measuring: Arc::default(),
            began: Mutex::default(),
            requests: Mutex::default(),
            ended: Shutdown::new(),
        }
    }

    async fn watch(&self, target: &Target, resource: usize) -> anyhow::Result<()> {
        let prefix = format!("/registry/resource{resource}/");
        let end = format!("/registry/resource{resource}0");
        let list = pb::RangeRequest {
            key: prefix.clone().into(),
            range_end: end.clone().into(),
            limit: 10_000,
            ..Default::default()
        };
        let listed = target.kv(resource).range(list).await?.into_inner();
        let create = pb::WatchCreateRequest {
            key: prefix.into(),
            range_end: end.into(),
            start_revision: listed.header.map_or(0, |header| header.revision) + 1,
            prev_kv: true,
            progress_notify: true,
            ..Default::default()
        };
        let (requests, receiver) = mpsc::channel(1);
        let create = Some(RequestUnion::CreateRequest(create));
        requests.send(pb::WatchRequest { request_union: create }).await?;
        let answers = target.watch(resource).watch(ReceiverStream::new(receiver)).await?;
        let mut answers = answers.into_inner();
        answers.next().await.context("the watch stream ended")??;
        self.requests.lock().push(requests);
        let (events, measuring) = (self.events.clone(), self.measuring.clone());
        tasks::spawn_until("watch", self.ended.clone(), async move {
            while let Some(Ok(answer)) = answers.next().await {
                if measuring.load(Ordering::Relaxed) {
                    events.fetch_add(answer.events.len() as u64, Ordering::Relaxed);
                }
            }
        });
        Ok(())
    }
}

impl Load for Cluster {
    fn prepare<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            for resource in 0..self.args.resources.max(1) {
                self.watch(target, resource).await?;
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
        let resource = number % self.args.resources.max(1);
        let client: Box<dyn Client> = Box::new(ApiServer {
            kv: target.kv(number),
            prefix: format!("/registry/resource{resource}/namespace{number}/object"),
            revisions: vec![0; self.objects],
            sizes: (self.args.object_min, self.args.object_max.max(self.args.object_min)),
        });
        async { Ok(client) }.boxed()
    }

    fn measuring(&self) {
        *self.began.lock() = Some(clock::now());
        self.measuring.store(true, Ordering::Relaxed);
    }

    fn finish(&self) -> BoxFuture<'_, Option<Extra>> {
        let count = self.events.load(Ordering::Relaxed);
        let began = *self.began.lock();
        self.ended.trigger();
        let elapsed = began.map_or(Duration::ZERO, |began| began.elapsed()).as_secs_f64();
        let per_second = count as f64 / elapsed.max(f64::MIN_POSITIVE);
        let (name, latency) = ("events delivered".into(), Percentiles::default());
        async move { Some(Extra { name, count, per_second, latency }) }.boxed()
    }
}

struct ApiServer {
    kv: KvClient<Channel>,
    prefix: String,
    revisions: Vec<i64>,
    sizes: (usize, usize),
}

impl Client for ApiServer {
    fn once<'a>(&'a mut self, rng: &'a mut SmallRng) -> BoxFuture<'a, Result<(), Status>> {
        let index = rng.random_range(0..self.revisions.len());
        let key = format!("{}{index:06}", self.prefix).into_bytes();
        let update = rng.random_range(0..100) < UPDATES;
        let size = rng.random_range(self.sizes.0..=self.sizes.1);
        let value = if update { random_bytes(rng, size) } else { Vec::new() };
        async move {
            if update {
                self.revisions[index] =
                    swap(&mut self.kv, key, value, self.revisions[index]).await?;
                return Ok(());
            }
            let get = pb::RangeRequest { key: key.into(), limit: 1, ..Default::default() };
            self.kv.range(get).await.map(drop)
        }
        .boxed()
    }
}

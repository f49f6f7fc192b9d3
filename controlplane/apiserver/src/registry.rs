//! Every resource the server has: its kind, its cache, and the store behind them.
//!
//! Owns: which cache serves which resource, and the life of the feeds. Must not know: HTTP. A
//! newcomer's trap: two resources may share one cache (Events of core and of events.k8s.io); the
//! cache holds the stored form, and the other is made of it when it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use kijabi_base::tasks::{self, Shutdown};
use kijabi_meta::kind::{self, KINDS, Kind};
use serde_json::Value;

use crate::admission::{ObjectAt, Objects};
use crate::cache::{Selection, WatchCache};
use crate::limits::EVENT_TTL_SECONDS;
use crate::status::ApiError;
use crate::storage::{Client, Key, LeasePool, StoreError};

/// What the store is asked at the start, again and again until it answers.
const PROBE_PERIOD: Duration = Duration::from_millis(200);

/// All resources.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    caches: BTreeMap<&'static str, Arc<WatchCache>>,
    leases: LeasePool,
    shutdown: Shutdown,
}

impl Registry {
    /// The resources of [`KINDS`] on a store. Nothing is read before [`Registry::run`].
    pub fn new(client: Client, shutdown: Shutdown) -> Result<Arc<Self>, StoreError> {
        let asks_progress = Arc::new(AtomicBool::new(false));
        let mut caches = BTreeMap::new();
        for kind in KINDS.iter().filter(|kind| is_stored(kind) && is_storage_form(kind)) {
            let cache = WatchCache::new(kind, client.clone(), Arc::clone(&asks_progress))?;
            caches.insert(kind.storage_prefix, cache);
        }
        let probe = probe_progress(client.clone(), asks_progress);
        tasks::spawn_until("store-version", shutdown.clone(), probe);
        Ok(Arc::new(Self { client, caches, leases: LeasePool::new(EVENT_TTL_SECONDS), shutdown }))
    }

    /// Fills all caches and keeps them fresh in the background until the shutdown.
    pub fn run(&self) {
        for cache in self.caches.values() {
            tasks::spawn("watch-cache", Arc::clone(cache).run(self.shutdown.clone()));
        }
        let compactor = crate::storage::run_compactor(self.client.clone(), self.shutdown.clone());
        tasks::spawn("compactor", compactor);
    }

    /// The resources whose cache is not filled yet; empty when the server is ready.
    pub fn unready(&self) -> Vec<&'static str> {
        let unready = self.caches.iter().filter(|(_, cache)| !cache.is_ready());
        unready.map(|(prefix, _)| *prefix).collect()
    }

    /// The store.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Ends with the server.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// The kind of a resource.
    pub fn kind(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        kind::lookup(group, version, plural)
    }

    /// The cache of a kind; only stored kinds have one.
    pub fn cache(&self, kind: &Kind) -> Result<&Arc<WatchCache>, ApiError> {
        self.caches.get(kind.storage_prefix).ok_or_else(ApiError::unknown_resource)
    }

    /// The key of an object.
    pub fn key(kind: &Kind, namespace: &str, name: &str) -> Result<Key, ApiError> {
        Ok(Key::object(kind.storage_prefix, namespace, name)?)
    }

    /// The lease that a newly written object of `kind` lives by; 0 for ever.
    pub async fn lease(&self, kind: &Kind) -> Result<i64, ApiError> {
        if kind.storage_prefix != "events" {
            return Ok(0);
        }
        Ok(self.leases.lease(&self.client).await?)
    }

    fn kind_named(group: &str, plural: &str) -> Result<&'static Kind, ApiError> {
        KINDS
            .iter()
            .find(|kind| kind.group == group && kind.plural == plural && is_stored(kind))
            .ok_or_else(ApiError::unknown_resource)
    }
}

/// Whether objects of the kind are kept at all (a Binding is not).
fn is_stored(kind: &Kind) -> bool {
    !kind.storage_prefix.is_empty()
}

/// Whether the kind's form is the one that is stored.
pub(crate) fn is_storage_form(kind: &'static Kind) -> bool {
    std::ptr::eq(kind.storage(), kind)
}

/// Finds out whether the store answers progress requests rightly: etcd from 3.4.31 and 3.5.13 on.
async fn probe_progress(client: Client, asks_progress: Arc<AtomicBool>) {
    loop {
        match client.version().await {
            Ok(version) => {
                asks_progress.store(progress_is_reliable(&version), Ordering::Relaxed);
                return;
            }
            Err(error) => tracing::debug!(%error, "the store does not answer yet"),
        }
        tokio::time::sleep(PROBE_PERIOD).await;
    }
}

fn progress_is_reliable(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    match (next(), next(), next()) {
        (major, minor, _) if major < 3 || (major == 3 && minor < 4) => false,
        (3, 4, patch) => patch >= 31,
        (3, 5, patch) => patch >= 13,
        _ => true,
    }
}

// === impl Objects ===

impl Objects for Registry {
    fn get<'a>(&'a self, at: ObjectAt<'a>) -> BoxFuture<'a, Result<Option<Arc<Value>>, ApiError>> {
        Box::pin(async move {
            let kind = Self::kind_named(at.group, at.plural)?;
            let entry = self.cache(kind)?.get(at.namespace, at.name);
            Ok(entry.map(|entry| Arc::new(entry.object())))
        })
    }

    fn get_live<'a>(
        &'a self,
        at: ObjectAt<'a>,
    ) -> BoxFuture<'a, Result<Option<Arc<Value>>, ApiError>> {
        Box::pin(async move {
            let kind = Self::kind_named(at.group, at.plural)?;
            let key = Self::key(kind, at.namespace, at.name)?;
            let (record, _) = self.client.get(&key).await?;
            Ok(record.map(|record| record.object()).transpose()?.map(Arc::new))
        })
    }

    fn list<'a>(
        &'a self,
        group: &'a str,
        plural: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Arc<Value>>, ApiError>> {
        Box::pin(async move {
            let kind = Self::kind_named(group, plural)?;
            let snapshot = self.cache(kind)?.snapshot(&Selection::default());
            Ok(snapshot.entries.iter().map(|entry| Arc::new(entry.object())).collect())
        })
    }

    fn pods_on<'a>(
        &'a self,
        node: &'a str,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Arc<Value>>, ApiError>> {
        Box::pin(async move {
            let kind = Self::kind_named("", "pods")?;
            let snapshot = self.cache(kind)?.snapshot(&Selection::all_in(namespace));
            let on_node = snapshot.entries.iter().filter(|pod| pod.field("spec.nodeName") == node);
            Ok(on_node.map(|pod| Arc::new(pod.object())).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_requests_are_trusted_only_where_they_were_mended() {
        for (version, want) in [
            ("3.3.27", false),
            ("3.4.23", false),
            ("3.4.31", true),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.8", true),
            ("3.7.0-beta.1", true),
        ] {
            assert_eq!(progress_is_reliable(version), want, "{version}");
        }
    }

    #[test]
    fn every_stored_kind_has_one_storage_form() {
        for kind in KINDS.iter().filter(|kind| is_stored(kind)) {
            assert_eq!(kind.storage().storage_prefix, kind.storage_prefix);
            assert!(is_storage_form(kind.storage()));
        }
    }
}

//! The watch cache: one resource's objects and recent changes, in memory, fed by one watch.
//!
//! Owns: whole snapshots for lists (CACHE-1), the window of events for watches, freshness. Must
//! not know: HTTP or output formats. A newcomer's trap: watches have no queue of their own; each
//! walks the shared window by its cursor, so a slow one costs nothing and is ended when the window
//! has moved past it.

mod entry;
mod feed;
mod selection;
mod state;
#[cfg(test)]
mod tests;
mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kijabi_meta::kind::Kind;
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};

pub use entry::{Entry, SELECTABLE};
pub use selection::Selection;
pub use state::{Event, EventKind};
pub use watcher::{Start, Step, WatchedEvent, Watcher};

use crate::limits::CACHE_FRESH_WAIT;
use crate::status::ApiError;
use crate::storage::{Client, KeyRange, Revision, StoreError};
use state::State;

/// How far a cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Grows each time the cache is filled anew; 0 before the first time.
    generation: u64,
    /// All changes up to here are in.
    revision: Revision,
}

/// The cache of one resource.
#[derive(Debug)]
pub struct WatchCache {
    kind: &'static Kind,
    client: Client,
    range: KeyRange,
    state: RwLock<State>,
    progress: watch::Sender<Progress>,
    waiting: AtomicUsize,
    nudge: Notify,
    /// Whether the store can be asked for progress (etcd before 3.4.31 answers it wrongly).
    asks_progress: Arc<AtomicBool>,
}

/// A whole snapshot of the selected objects.
#[derive(Debug)]
pub struct Snapshot {
    /// The objects, in key order.
    pub entries: Vec<Arc<Entry>>,
    /// The revision of the snapshot.
    pub revision: Revision,
}

impl WatchCache {
    /// An empty cache; [`WatchCache::run`] fills it and keeps it fresh.
    pub fn new(
        kind: &'static Kind,
        client: Client,
        asks_progress: Arc<AtomicBool>,
    ) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self {
            kind,
            client,
            range: KeyRange::resource(kind.storage_prefix, "")?,
            state: RwLock::new(State::default()),
            progress: watch::Sender::new(Progress::default()),
            waiting: AtomicUsize::new(0),
            nudge: Notify::new(),
            asks_progress,
        }))
    }

    /// The kind in whose form the objects are kept.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The keys it covers.
    pub fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Whether it was filled at least once.
    pub fn is_ready(&self) -> bool {
        self.progress.borrow().generation > 0
    }

    /// The revision up to which it is complete.
    pub fn revision(&self) -> Revision {
        self.progress.borrow().revision
    }

    /// The object as the cache has it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.state.read().get(namespace, name)
    }

    /// The selected objects as the cache has them.
    pub fn snapshot(&self, selection: &Selection) -> Snapshot {
        self.state.read().snapshot(selection)
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.state.read().len()
    }

    /// Whether it holds no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn asks_progress(&self) -> bool {
        self.asks_progress.load(Ordering::Relaxed)
    }

    /// Asks the feed to find out how far the cache is.
    pub fn request_progress(&self) {
        self.nudge.notify_one();
    }

    /// Waits until the cache has everything that was written before this call; `false` if the
    /// store cannot be asked and the caller must read from it directly.
    pub async fn wait_consistent(&self) -> Result<bool, ApiError> {
        let current = self.client.current_revision(&self.range).await?;
        if self.is_ready() && self.revision() >= current {
            return Ok(true);
        }
        if !self.asks_progress() {
            return Ok(false);
        }
        self.wait_fresh(current).await?;
        Ok(true)
    }

    /// The same, by other means where the store cannot be asked for progress. Removals may then
    /// come a little later.
    pub async fn wait_latest(&self) -> Result<(), ApiError> {
        if self.wait_consistent().await? {
            return Ok(());
        }
        let latest = self.client.latest_write(&self.range).await?;
        self.wait_fresh(latest).await
    }

    /// Waits until the cache is complete up to `at_least`.
    pub async fn wait_fresh(&self, at_least: Revision) -> Result<(), ApiError> {
        let reached = |p: &Progress| p.generation > 0 && p.revision >= at_least;
        let mut progress = self.progress.subscribe();
        if reached(&progress.borrow()) {
            return Ok(());
        }
        let _waiting = Waiting::new(self);
        match tokio::time::timeout(CACHE_FRESH_WAIT, progress.wait_for(reached)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ApiError::service_unavailable("the server is shutting down")),
            Err(_) if !self.is_ready() => {
                Err(ApiError::too_many_requests("storage is (re)initializing", 1))
            }
            Err(_) => Err(ApiError::resource_version_too_large(at_least.0, self.revision().0)),
        }
    }

    /// Opens a watch. The caller has waited for the freshness it wants.
    pub fn watch(self: &Arc<Self>, start: Start, selection: Selection) -> Watcher {
        Watcher::open(Arc::clone(self), start, selection)
    }
}

/// Counts one waiting reader for as long as it lives.
struct Waiting<'a>(&'a WatchCache);

impl<'a> Waiting<'a> {
    fn new(cache: &'a WatchCache) -> Self {
        cache.waiting.fetch_add(1, Ordering::Relaxed);
        cache.nudge.notify_one();
        Self(cache)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

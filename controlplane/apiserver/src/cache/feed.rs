//! Keeps a cache fresh: one listing, then one watch, for as long as the server lives.
//!
//! Owns: what happens when the watch breaks. Must not know: who reads the cache. A newcomer's
//! trap: a broken watch goes on where it was; only when that revision is compacted is the cache
//! filled anew, which ends its watchers because they may have missed something.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kijabi_base::rng;
use kijabi_base::tasks::Shutdown;

use super::state::Arrival;
use super::{Entry, WatchCache};
use crate::limits::{
    CACHE_IDLE_PROGRESS_PERIOD, CACHE_PROGRESS_PERIOD, FEED_RETRY_MAX, LIST_PAGE_OBJECTS,
};
use crate::storage::{Change, Feed, FeedItem, Revision, StoreError};

const RETRY_MIN: Duration = Duration::from_millis(50);

impl WatchCache {
    /// Fills the cache and follows the store until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.wait() => {}
            () = self.follow_for_ever() => {}
        }
    }

    async fn follow_for_ever(&self) {
        let mut pause = RETRY_MIN;
        let mut filled = false;
        loop {
            let before = self.revision();
            let outcome = if filled { self.follow().await } else { self.fill().await };
            match outcome {
                Ok(()) => {
                    filled = true;
                    pause = RETRY_MIN;
                    continue;
                }
                Err(StoreError::Compacted) => filled = false,
                Err(error) => {
                    tracing::warn!(resource = self.kind.plural, %error, "watching the store failed");
                }
            }
            if self.revision() > before {
                pause = RETRY_MIN;
            }
            let jitter = pause.mul_f64(rng::unit() / 2.0);
            tokio::time::sleep(pause + jitter).await;
            pause = (pause * 2).min(FEED_RETRY_MAX);
        }
    }

    /// Reads everything at one revision and replaces the cache in one step.
    async fn fill(&self) -> Result<(), StoreError> {
        let mut entries = Vec::new();
        let mut at = None;
        let mut from = self.range.start();
        loop {
            let page = self.client.page(&self.range, from, LIST_PAGE_OBJECTS, at).await?;
            let revision = *at.get_or_insert(page.revision);
            for record in &page.records {
                let Some(place) = self.range.rest_of(&record.key) else { continue };
                match Entry::read(self.kind, place, record) {
                    Ok(entry) => entries.push(entry),
                    // One bad object must not hide all others.
                    Err(error) => tracing::error!(%error, "an object cannot be read"),
                }
            }
            match page.records.last() {
                Some(last) if page.has_more() => from = [&last.key[..], b"\0"].concat().into(),
                _ => {
                    self.replace(entries, revision);
                    return Ok(());
                }
            }
        }
    }

    fn replace(&self, entries: Vec<Entry>, revision: Revision) {
        let mut state = self.state.write();
        state.reset(entries, revision);
        self.progress.send_modify(|progress| {
            progress.generation += 1;
            progress.revision = revision;
        });
    }

    /// Takes in changes until the watch fails; never returns `Ok`.
    async fn follow(&self) -> Result<(), StoreError> {
        let mut feed = Feed::open(&self.client, &self.range, self.revision()).await?;
        loop {
            tokio::select! {
                item = feed.next() => self.take(item?),
                // Whether the store can be asked may be found out only while we wait here: a guard
                // on this branch would leave a quiet cache without progress for ever.
                () = self.progress_is_due() => {
                    if self.asks_progress() {
                        feed.request_progress();
                    }
                }
            }
        }
    }

    /// At once when the first reader starts to wait, then again every period while one waits.
    async fn progress_is_due(&self) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            tokio::select! {
                () = tokio::time::sleep(CACHE_IDLE_PROGRESS_PERIOD) => {}
                () = self.nudge.notified() => {}
            }
        } else {
            tokio::select! {
                () = tokio::time::sleep(CACHE_PROGRESS_PERIOD) => {}
                () = self.nudge.notified() => {}
            }
        }
    }

    fn take(&self, item: FeedItem) {
        let arrivals: Vec<Arrival> =
            item.changes.iter().filter_map(|change| self.arrival(change)).collect();
        let mut state = self.state.write();
        // A progress note may be older than what is known; nothing goes back.
        state.apply(arrivals, item.revision);
        let revision = state.revision();
        self.progress.send_if_modified(|progress| {
            let grew = progress.revision < revision;
            progress.revision = revision;
            grew
        });
    }

    fn arrival(&self, change: &Change) -> Option<Arrival> {
        let record = change.now.as_ref().or(change.before.as_ref())?;
        let place = self.range.rest_of(&record.key)?;
        let now = match &change.now {
            None => None,
            Some(record) => match Entry::read(self.kind, place, record) {
                Ok(entry) => Some(entry),
                // As if it were gone: watchers must not keep an older state for ever.
                Err(error) => {
                    tracing::error!(%error, "an object cannot be read");
                    None
                }
            },
        };
        Some(Arrival { revision: change.revision, place: place.into(), now })
    }
}

//! One watch on a cache: what was there, then what changes, by a cursor into the window.
//!
//! Owns: the cursor and the end of a watch. Must not know: how events are written. A newcomer's
//! trap: the snapshot and the cursor are taken under one lock, so nothing falls between the first
//! events and the later ones.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Entry, EventKind, Progress, Selection, WatchCache};
use crate::limits::WATCH_BATCH_EVENTS_MAX;
use crate::status::ApiError;
use crate::storage::Revision;

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the objects there are, as added, then their changes.
    Existing,
    /// With changes from now on.
    Now,
    /// With the changes after a revision.
    After(Revision),
}

/// One event as a watcher sees it.
#[derive(Clone, Debug)]
pub struct WatchedEvent {
    /// What happened.
    pub kind: EventKind,
    /// The object after it, or the last known one.
    pub entry: Arc<Entry>,
}

/// What comes next on a watch.
#[derive(Debug)]
pub enum Step {
    /// Events, at least one.
    Events(Vec<WatchedEvent>),
    /// The objects that were there have all been told.
    InitialEnd,
    /// The wanted changes are no longer known, or the watcher was too slow.
    Failed(ApiError),
    /// The cache was filled anew; the client must watch again.
    Ended,
}

/// An open watch.
#[derive(Debug)]
pub struct Watcher {
    cache: Arc<WatchCache>,
    selection: Selection,
    initial: Option<std::vec::IntoIter<Arc<Entry>>>,
    cursor: Revision,
    generation: u64,
    progress: watch::Receiver<Progress>,
}

impl Watcher {
    pub(super) fn open(cache: Arc<WatchCache>, start: Start, selection: Selection) -> Self {
        let progress = cache.progress.subscribe();
        let (initial, cursor, generation) = {
            let state = cache.state.read();
            let generation = progress.borrow().generation;
            match start {
                Start::After(revision) => (None, revision, generation),
                Start::Now => (None, state.revision(), generation),
                Start::Existing => {
                    let snapshot = state.snapshot(&selection);
                    (Some(snapshot.entries.into_iter()), snapshot.revision, generation)
                }
            }
        };
        Self { cache, selection, initial, cursor, generation, progress }
    }

    /// Everything up to here was delivered.
    pub fn revision(&self) -> Revision {
        self.cursor
    }

    /// Asks how far the watch is complete, for a later bookmark.
    pub fn request_progress(&self) {
        self.cache.request_progress();
    }

    /// The next events; waits until there are some. May be dropped and called again at any time.
    pub async fn next(&mut self) -> Step {
        if let Some(initial) = self.initial.as_mut() {
            let added = |entry| WatchedEvent { kind: EventKind::Added, entry };
            let batch: Vec<_> = initial.take(WATCH_BATCH_EVENTS_MAX).map(added).collect();
            if !batch.is_empty() {
                return Step::Events(batch);
            }
            self.initial = None;
            return Step::InitialEnd;
        }
        loop {
            let progress = *self.progress.borrow_and_update();
            if progress.generation != self.generation {
                return Step::Ended;
            }
            match self.advance() {
                Err(error) => return Step::Failed(error),
                Ok(events) if !events.is_empty() => return Step::Events(events),
                Ok(_) => {}
            }
            if progress.revision > self.cursor {
                continue;
            }
            if self.progress.changed().await.is_err() {
                return Step::Ended;
            }
        }
    }

    /// Moves the cursor on by one batch.
    fn advance(&mut self) -> Result<Vec<WatchedEvent>, ApiError> {
        let found = self.cache.state.read().since(self.cursor, WATCH_BATCH_EVENTS_MAX);
        let (events, reached) = found.map_err(|too_old| {
            ApiError::expired(format!(
                "too old resource version: {} ({})",
                self.cursor, too_old.floor
            ))
        })?;
        self.cursor = reached;
        let seen = events.iter().filter_map(|event| event.seen_by(&self.selection));
        Ok(seen.map(|(kind, entry)| WatchedEvent { kind, entry }).collect())
    }
}

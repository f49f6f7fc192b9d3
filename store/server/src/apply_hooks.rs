//! What the rest of the member learns from the apply loop.
//!
//! Owns: the fan-out after an entry is applied. Must not know: Raft, or the state. A newcomer's
//! trap: this runs on the apply path between two entries, so nothing here waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kijabi_base::clock::Instant;
use kijabi_machine::Applied;
use kijabi_proto::command::Batch;
use tokio::sync::{Notify, watch};

use crate::access::Access;
use crate::consensus::has_compaction;
use crate::metrics::Metrics;
use crate::outcomes::Outcomes;
use crate::store::EventSink as _;
use crate::watch::Hub;

/// The hooks. Cloning shares.
#[derive(Clone)]
pub(crate) struct ApplyHooks {
    started: Instant,
    hub: Arc<Hub>,
    applied: watch::Sender<u64>,
    compaction: Arc<Notify>,
    written_bytes: Arc<AtomicU64>,
    outcomes: Outcomes,
    metrics: Arc<Metrics>,
    access: Arc<Access>,
}

/// A snapshot that is being installed.
pub(crate) struct Installing(Arc<Metrics>);

impl Drop for Installing {
    fn drop(&mut self) {
        self.0.snapshots_in_progress.dec();
    }
}

// === impl ApplyHooks ===

impl ApplyHooks {
    /// `applied` is the index up to which entries have been applied already.
    pub(crate) fn new(
        started: Instant,
        hub: Arc<Hub>,
        applied: u64,
        outcomes: Outcomes,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            started,
            hub,
            applied: watch::Sender::new(applied),
            compaction: Arc::new(Notify::new()),
            written_bytes: Arc::new(AtomicU64::new(0)),
            outcomes,
            metrics,
            access: Arc::default(),
        }
    }

    /// These hooks, which also tell `access` what applied entries change for it.
    pub(crate) fn with_access(self, access: Arc<Access>) -> Self {
        Self { access, ..self }
    }

    /// Milliseconds on the member's monotonic clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// An entry of `term` was applied and its state is written.
    pub(crate) fn applied(
        &self,
        (term, index): (u64, u64),
        revision: i64,
        bytes: u64,
        batch: &Batch,
        applied: Applied,
    ) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.applied(revision, &applied);
        if !applied.events.is_empty() {
            self.hub.publish(&applied.events);
        }
        self.access.apply(&applied.auth);
        if has_compaction(&applied.outcomes) {
            self.compaction.notify_one();
        }
        // Readers who wait for this index first: whoever learns of an outcome may read at once.
        self.applied.send_replace(index);
        self.outcomes.applied(term, (batch.origin, batch.id), applied.outcomes);
    }

    /// Whether somebody watches who wants previous values.
    pub(crate) fn wants_previous(&self) -> bool {
        self.hub.tally().wants_previous()
    }

    /// What an entry changes has been written.
    pub(crate) fn committed(&self, took: Duration) {
        self.metrics.disk.committed(took);
    }

    /// An entry has been applied in this time.
    pub(crate) fn took(&self, index: u64, took: Duration) {
        self.metrics.apply_took(index, took);
    }

    /// Rows were removed by a step of a compaction.
    pub(crate) fn compacted(&self, rows: usize, took: Duration) {
        self.metrics.mvcc.compacted(rows, took);
    }

    /// A snapshot is being installed for as long as the answer lives.
    pub(crate) fn installing(&self) -> Installing {
        self.metrics.snapshots_in_progress.inc();
        Installing(Arc::clone(&self.metrics))
    }

    /// The whole state was replaced by a snapshot that stands at `revision`, and at an entry.
    pub(crate) fn replaced(&self, (term, index): (u64, u64), revision: i64) {
        self.hub.reset(revision);
        self.compaction.notify_one();
        self.applied.send_replace(index);
        self.outcomes.replaced(term);
    }

    /// Who waits for the outcomes of which batch.
    pub(crate) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// What is told of changes of auth.
    pub(crate) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    /// The state was read anew, and auth is on or off in it.
    pub(crate) fn auth_read(&self, enabled: bool) {
        self.access.set_enabled(enabled);
    }

    /// Follows the last applied index.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Notified when a compaction was scheduled.
    pub(crate) fn compaction(&self) -> Arc<Notify> {
        Arc::clone(&self.compaction)
    }

    /// Bytes of keys and values written to the state since the start.
    pub(crate) fn written_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written_bytes)
    }
}

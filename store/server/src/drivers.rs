//! Work that nobody asks for: due compactions, the database's size, a log that has grown.
//!
//! Owns: when it is done. Must not know: how (that is the machine's). A newcomer's trap: each member
//! compacts by itself; only what is asked for goes through the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kijabi_base::clock;
use kijabi_base::tasks::{self, Shutdown};
use tokio::sync::{Notify, watch};

use crate::auto_compaction;
use crate::consensus::{Applier, Raft};
use crate::fatal::Fatal;
use crate::leases;
use crate::limits::LOG_BYTES_BEFORE_SNAPSHOT;
use crate::metrics::Metrics;
use crate::quota;
use crate::store::Store;

/// For how long a step of a compaction may keep writes waiting.
const STEP_LIMIT: Duration = Duration::from_millis(2);
/// Rows of a step, however slow the machine is.
const STEP_ROWS_MIN: usize = 64;

/// How many rows the next step may remove if the last one, of `rows`, took so long.
fn fitting_rows(rows: usize, rows_max: usize, took: Duration) -> usize {
    let next = if took > STEP_LIMIT { rows / 2 } else { rows + rows / 4 };
    next.clamp(STEP_ROWS_MIN.min(rows_max), rows_max)
}

/// Runs due compactions step by step, and says how far they are.
pub(crate) async fn compact(
    applier: Applier,
    store: Store,
    due: Arc<Notify>,
    finished: watch::Sender<i64>,
    fatal: Fatal,
) {
    let pause = store.config().compaction_pause;
    let rows_max = store.config().compaction_batch_limit;
    let mut begun = clock::now();
    let mut rows = rows_max;
    loop {
        match applier.compact_step(rows).await {
            Ok(Some((false, took))) => {
                // Short steps with short pauses come as far as long ones with long pauses.
                let part = u32::try_from(rows_max.div_ceil(rows)).unwrap_or(u32::MAX);
                tokio::time::sleep(pause / part).await;
                rows = fitting_rows(rows, rows_max, took);
            }
            Ok(Some((true, _))) => {
                store.metrics().mvcc.compaction_done(begun.elapsed(), clock::wall_ms() as i64);
                finished.send_replace(store.machine().read().compaction_finished());
                // The log may be slow or without a leader; the next compaction does not wait.
                let store = store.clone();
                tasks::spawn("disarm", async move { quota::disarm_if_free(&store).await });
            }
            Ok(None) => {
                finished.send_replace(store.machine().read().compaction_finished());
                due.notified().await;
                begun = clock::now();
            }
            Err(error) => return fatal.stop(format!("compaction failed: {error}")),
        }
    }
}

/// How large the files are: measured now and then, and counted up in between.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseSize(Arc<Sizes>);

#[derive(Debug)]
struct Sizes {
    total: AtomicU64,
    written_at_measurement: AtomicU64,
    written: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

const SIZE_INTERVAL: Duration = Duration::from_secs(1);

// === impl DatabaseSize ===

impl DatabaseSize {
    /// `written` counts the bytes written to the state.
    pub(crate) fn new(written: Arc<AtomicU64>, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Sizes {
            total: AtomicU64::new(0),
            written_at_measurement: AtomicU64::new(0),
            written,
            metrics,
        }))
    }

    /// Bytes the files take at most.
    pub(crate) fn total(&self) -> u64 {
        let written = self.0.written.load(Ordering::Relaxed);
        let counted = written.saturating_sub(self.0.written_at_measurement.load(Ordering::Relaxed));
        self.0.total.load(Ordering::Relaxed) + counted
    }

    /// Measures once.
    pub(crate) fn measure(&self, applier: &Applier) {
        let written = self.0.written.load(Ordering::Relaxed);
        match applier.state().size() {
            Ok(size) => {
                self.0.written_at_measurement.store(written, Ordering::Relaxed);
                self.0.total.store(size, Ordering::Relaxed);
                let live = applier.live_bytes();
                self.0.metrics.database_size(size.max(live), live);
            }
            Err(error) => tracing::warn!(%error, "the database's size cannot be read"),
        }
    }

    /// Measures again and again.
    pub(crate) async fn keep_measuring(self, applier: Applier) {
        let mut interval = tokio::time::interval(SIZE_INTERVAL);
        loop {
            interval.tick().await;
            self.measure(&applier);
        }
    }
}

/// Asks for a snapshot when the log has grown by [`LOG_BYTES_BEFORE_SNAPSHOT`]: Raft itself only
/// counts entries, and an entry may be a megabyte.
pub(crate) async fn bound_log(raft: Raft, metrics: Arc<Metrics>) {
    let mut interval = tokio::time::interval(SIZE_INTERVAL);
    let mut asked_at = metrics.disk.wal_written();
    loop {
        interval.tick().await;
        let written = metrics.disk.wal_written();
        if written - asked_at < LOG_BYTES_BEFORE_SNAPSHOT {
            continue;
        }
        asked_at = written;
        if let Err(error) = raft.trigger().snapshot().await {
            tracing::warn!(%error, "a snapshot could not be asked for");
        }
    }
}

/// Ends when the member does.
pub(crate) fn spawn_all(
    shutdown: &Shutdown,
    store: &Store,
    applier: &Applier,
    due: Arc<Notify>,
    finished: watch::Sender<i64>,
    fatal: Fatal,
) {
    use tasks::spawn_until;
    let auto_compaction = auto_compaction::run(store.clone());
    spawn_until("auto-compaction", shutdown.clone(), auto_compaction);
    spawn_until("lease-expiry", shutdown.clone(), leases::expire(store.clone()));
    let compaction = compact(applier.clone(), store.clone(), due, finished, fatal);
    spawn_until("compaction", shutdown.clone(), compaction);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_compaction_get_shorter_until_they_are_short_enough() {
        let (slow, quick) = (STEP_LIMIT * 2, STEP_LIMIT / 2);
        assert_eq!(fitting_rows(1_000, 1_000, slow), 500);
        assert_eq!(fitting_rows(100, 1_000, slow), STEP_ROWS_MIN);
        assert_eq!(fitting_rows(STEP_ROWS_MIN, 1_000, quick), STEP_ROWS_MIN * 5 / 4);
        assert_eq!(fitting_rows(1_000, 1_000, quick), 1_000);
        // An operator may ask for less than the least.
        assert_eq!(fitting_rows(5, 5, slow), 5);
        assert_eq!(fitting_rows(1, 1, quick), 1);
    }
}

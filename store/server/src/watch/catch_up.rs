//! Reading what late watchers have missed, off the apply path.
//!
//! Owns: one bounded round of reading, from the ring if it reaches back far enough, else from
//! history. Must not know: watch ids and responses. A newcomer's trap: rows vanish under a reader
//! when a compaction runs, so the compacted revision is read after the rows.

use std::sync::Arc;

use kijabi_base::limits::{
    WATCH_CATCH_UP_BYTES_MAX, WATCH_CATCH_UP_REVISIONS_MAX, WATCH_PREVIOUS_BYTES_MAX,
};
use kijabi_base::tasks;
use kijabi_machine::state::StateError;
use kijabi_machine::{HistoryLimit, Machine, read_history};
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::coverage::Coverage;
use super::encoded::Encoded;

/// What one round read.
#[derive(Debug)]
pub(super) struct Round {
    /// The events by revision.
    pub(super) revisions: Vec<Arc<Encoded>>,
    /// The first revision that was not read.
    pub(super) next: i64,
    /// Watchers that want something below this have lost it.
    pub(super) compacted: i64,
}

/// What a round is to read.
pub(super) struct Wanted {
    /// Which keys.
    pub(super) coverage: Coverage,
    /// The first revision.
    pub(super) from: i64,
    /// The last revision.
    pub(super) to: i64,
    /// Whether anybody wants previous values.
    pub(super) previous: bool,
}

/// Reads what is `wanted` on a thread that may block, once it is its turn.
pub(super) fn start(
    machine: Arc<RwLock<Machine>>,
    readings: Arc<Semaphore>,
    wanted: Wanted,
) -> JoinHandle<Result<Round, StateError>> {
    tasks::spawn("watch history", async move {
        let failed = |error: &dyn std::fmt::Display| StateError(error.to_string());
        let _turn = readings.acquire().await.map_err(|error| failed(&error))?;
        let read = tasks::blocking(move || read(&machine, &wanted)).await;
        read.map_err(|error| failed(&error))?
    })
}

fn read(machine: &RwLock<Machine>, wanted: &Wanted) -> Result<Round, StateError> {
    let Wanted { coverage, from, to, previous } = wanted;
    let (state, compacted) = {
        let machine = machine.read();
        (machine.state(), machine.compacted_revision())
    };
    let limit = HistoryLimit {
        revisions_max: WATCH_CATCH_UP_REVISIONS_MAX,
        bytes_max: WATCH_CATCH_UP_BYTES_MAX,
    };
    let from = compacted.max(*from);
    let history = read_history(&*state, from, *to, limit, &|key| coverage.contains(key))?;
    let mut revisions = history.revisions;
    let (plan, compacted) = {
        let machine = machine.read();
        (machine.plan_previous(&revisions), machine.compacted_revision())
    };
    // Differs from etcd: it reads any amount of previous values into one response.
    let bytes_max = if *previous { WATCH_PREVIOUS_BYTES_MAX } else { 0 };
    let left_out = plan.fetch(&*state, &mut revisions, bytes_max)?;
    if *previous && left_out > 0 {
        tracing::warn!(left_out, "one revision has too many bytes of previous values for a watch");
    }
    let encoded = |events| Arc::new(Encoded::new(Arc::new(events)));
    let revisions = revisions.into_iter().map(encoded).collect();
    Ok(Round { revisions, next: history.next, compacted })
}

//! Reading what late watchers have missed, off the apply path.
//!
//! Owns: one bounded round of reading, from the ring if it reaches back far enough, else from
//! history. Must not know: watch ids and responses. A newcomer's trap: rows vanish under a reader
//! when a compaction runs, so the compacted revision is read after the rows.

use std::sync::Arc;

use kijabi_base::limits::{WATCH_CATCH_UP_BYTES_MAX, WATCH_CATCH_UP_REVISIONS_MAX};
use kijabi_base::tasks;
use kijabi_machine::state::StateError;
use kijabi_machine::{HistoryLimit, Machine, RevisionEvents, read_history};
use parking_lot::RwLock;
use tokio::task::JoinHandle;

use super::coverage::Coverage;

/// What one round read.
#[derive(Debug)]
pub(super) struct Round {
    /// The events by revision.
    pub(super) revisions: Vec<Arc<RevisionEvents>>,
    /// The first revision that was not read.
    pub(super) next: i64,
    /// Watchers that want something below this have lost it.
    pub(super) compacted: i64,
}

/// Reads from `from` to `to` what lies in `coverage`, on a thread that may block.
pub(super) fn start(
    machine: Arc<RwLock<Machine>>,
    coverage: Coverage,
    from: i64,
    to: i64,
) -> JoinHandle<Result<Round, StateError>> {
    tasks::blocking(move || read(&machine, &coverage, from, to))
}

fn read(
    machine: &RwLock<Machine>,
    coverage: &Coverage,
    from: i64,
    to: i64,
) -> Result<Round, StateError> {
    let (state, compacted) = {
        let machine = machine.read();
        (machine.state(), machine.compacted_revision())
    };
    let limit = HistoryLimit {
        revisions_max: WATCH_CATCH_UP_REVISIONS_MAX,
        bytes_max: WATCH_CATCH_UP_BYTES_MAX,
    };
    let from = from.max(compacted);
    let history = read_history(&*state, from, to, limit, &|key| coverage.contains(key))?;
    let mut revisions = history.revisions;
    let (plan, compacted) = {
        let machine = machine.read();
        (machine.plan_previous(&revisions), machine.compacted_revision())
    };
    plan.fetch(&*state, &mut revisions)?;
    let revisions = revisions.into_iter().map(Arc::new).collect();
    Ok(Round { revisions, next: history.next, compacted })
}

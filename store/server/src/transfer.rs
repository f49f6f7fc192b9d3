//! Handing the lead to another member: when an operator asks for it, and before a leader stops.
//!
//! Owns: whom, and waiting until it is done. Must not know: how Raft does it. A newcomer's trap:
//! from the moment Raft is asked, the old leader takes no more writes; they wait, and go to the new
//! one. If the new one cannot, the others elect somebody as soon as they miss the heartbeats.

use std::time::Duration;

use openraft::RaftMetrics;
use openraft::type_config::async_runtime::watch::WatchReceiver as _;

use crate::consensus::{Raft, TypeConfig};
use crate::error::Error;
use crate::store::Store;

/// Hands the lead to `target`, and returns once it leads.
pub(crate) async fn to(store: &Store, target: u64, limit: Duration) -> Result<(), Error> {
    if !store.is_leader() {
        return Err(Error::NotLeader);
    }
    let raft = store.route().raft();
    let is_voter = {
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        seen.membership_config.voter_ids().any(|voter| voter == target)
    };
    if !is_voter {
        return Err(Error::BadLeaderTransferee);
    }
    if target == store.member_id() {
        return Ok(());
    }
    let mut standing = store.watch_standing();
    raft.trigger().transfer_leader(target).await.map_err(|_fatal| Error::Stopped)?;
    let leads = standing.wait_for(|standing| standing.leader == target);
    match tokio::time::timeout(limit, leads).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_closed)) => Err(Error::Stopped),
        Err(_elapsed) => Err(Error::TransferTimeout),
    }
}

/// Hands the lead to the member that is furthest, if this one has it, and stays until that one has
/// had an entry of its own committed: until then this member may be one of those it needs.
pub(crate) async fn before_stop(store: &Store) {
    let raft = store.route().raft();
    let Some(target) = successor(raft, store.member_id()) else { return };
    let limit = store.config().election_timeout;
    match to(store, target, limit).await {
        Ok(()) => {
            let settled = |seen: &RaftMetrics<TypeConfig>| {
                seen.local_committed.is_some_and(|id| id.leader_id.term >= seen.current_term)
            };
            // If it takes longer, the others do it without this member.
            let _ = raft.wait(Some(limit)).metrics(settled, "the new leader commits").await;
            tracing::info!(to = %format_args!("{target:x}"), "handed the lead over");
        }
        Err(Error::NotLeader) => {}
        Err(error) => tracing::warn!(%error, "the lead was not handed over"),
    }
}

/// The other voter whose log is the longest; `None` if there is none, or this member does not lead.
fn successor(raft: &Raft, own: u64) -> Option<u64> {
    let metrics = raft.metrics();
    let seen = metrics.borrow_watched();
    let progress = seen.replication.as_ref()?;
    let others = seen.membership_config.voter_ids().filter(|voter| *voter != own);
    others.max_by_key(|voter| progress.get(voter).copied().flatten().map(|id| id.index))
}

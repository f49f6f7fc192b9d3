//! Consensus: openraft behind the few things the member needs of it.
//!
//! Owns: starting Raft on the log, the applier and the network, and what is known of the cluster.
//! Must not know: gRPC, or what commands mean. A newcomer's trap: openraft's own types stop here,
//! in `propose.rs` and in `barrier.rs`, so that another version of it is a change of these files.

mod applier;
mod awaited;
mod grants;
mod log_store;
mod network;
mod pipeline;
mod roster;
mod runtime;
pub(crate) mod seed;
mod standing;
#[cfg(test)]
mod tests;
pub(crate) mod types;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::SnapshotPolicy;
use openraft::errors::{InitializeError, RaftError};
use openraft::type_config::async_runtime::watch::WatchReceiver as _;

pub(crate) use applier::{Applier, has_compaction};
pub(crate) use awaited::Awaited;
pub(crate) use grants::Grants;
pub(crate) use log_store::LogStore;
pub(crate) use network::Network;
pub(crate) use roster::{Roster, RosterError};
pub(crate) use standing::{Follow, Liveness, observe};
pub(crate) use types::{Payload, Peer, TypeConfig};

use crate::config::Config;
use crate::crew::Spawner;
use crate::limits::REPLICATION_MESSAGE_ENTRIES_MAX;

/// Raft with our types.
pub(crate) type Raft = openraft::Raft<TypeConfig, Applier>;

/// Why consensus did not start.
#[derive(Debug, thiserror::Error)]
#[error("consensus cannot start: {0}")]
pub(crate) struct ConsensusError(String);

/// What Raft is made of.
pub(crate) struct RaftParts {
    pub(crate) member_id: u64,
    pub(crate) network: Network,
    pub(crate) log: LogStore,
    pub(crate) applier: Applier,
}

/// Starts Raft, or continues from what is on disk. `first_members` is the membership of a new
/// cluster; it does not count for one that exists.
///
/// All first members begin with the same one entry, so it does not matter who is elected first.
pub(crate) async fn start(
    crew: &Spawner,
    config: &Config,
    RaftParts { member_id, network, log, applier }: RaftParts,
    first_members: BTreeMap<u64, Peer>,
) -> Result<Raft, ConsensusError> {
    let failed = |error: String| ConsensusError(error);
    check_log(&log, &applier).map_err(failed)?;
    let (applied, voters) = applier.stored().map_err(|error| failed(error.to_string()))?;
    let is_new = applied.is_none() && log.last_index().is_none();
    let alone = if is_new { first_members.len() == 1 } else { voters == 1 };
    let settings = settings(config, alone).validate().map_err(|e| failed(e.to_string()))?;
    let settings = Arc::new(settings);
    crew.spawn(log.clone().write_after_sending());
    let starting = openraft::Raft::new(member_id, settings, network, log, applier);
    let raft = runtime::starting_in(crew, starting).await.map_err(|e| failed(e.to_string()))?;
    if first_members.is_empty() {
        // It was added to a cluster that existed: the leader brings it what it needs.
        return Ok(raft);
    }
    match raft.initialize(first_members).await {
        Ok(()) => {}
        // It exists already: the usual restart.
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
            if is_only_voter(&raft, member_id) {
                // Nobody else could lead, so there is nobody to wait for.
                raft.trigger().elect(false).await.map_err(|e| failed(e.to_string()))?;
            }
        }
        Err(error) => return Err(failed(error.to_string())),
    }
    Ok(raft)
}

fn is_only_voter(raft: &Raft, member_id: u64) -> bool {
    let metrics = raft.metrics();
    let seen = metrics.borrow_watched();
    seen.membership_config.voter_ids().all(|voter| voter == member_id)
}

/// A member alone has nobody to get lost entries from: a log that ends before the state would
/// silently lose what was acknowledged since the state was last flushed.
fn check_log(log: &LogStore, applier: &Applier) -> Result<(), String> {
    let (applied, voters) = applier.stored().map_err(|error| error.to_string())?;
    let last = log.last_index();
    match applied {
        Some(applied) if voters == 1 && last.is_none_or(|last| last < applied) => {
            let last = last.map_or_else(|| "is empty".into(), |last| format!("ends at {last}"));
            Err(format!("the state is at entry {applied}, but the raft log {last}"))
        }
        _ => Ok(()),
    }
}

fn settings(config: &Config, alone: bool) -> openraft::Config {
    let election_ms = config.election_timeout.as_millis() as u64;
    let heartbeat_ms = config.heartbeat_interval.as_millis() as u64;
    // Raft's clock ticks several times a heartbeat. Alone, there is nobody to beat for, so it need
    // not wake an idle machine that often.
    // Differs from etcd: the heartbeat interval is also the time in which a heartbeat has to be
    // answered, so it is as long as the lease allows, whatever is between the members.
    let heartbeat_ms = heartbeat_ms.max(if alone { election_ms / 4 } else { election_ms / 5 });
    // Differs from etcd: a follower waits for one election timeout and a fifth of it at most. It
    // first waits until the leader's lease is over, which is Raft's longest timeout,
    // and then a random time between the shortest and the longest: from one election timeout on,
    // and not much more, while followers still differ enough to elect one of them at once.
    let longest_ms = (election_ms * 3 / 5).max(2);
    openraft::Config {
        cluster_name: config.initial_cluster_token.clone(),
        heartbeat_interval: heartbeat_ms,
        election_timeout_min: (election_ms - longest_ms).max(1),
        election_timeout_max: longest_ms,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
        // A member alone has nobody who might need to catch up.
        max_in_snapshot_log_to_keep: if alone { 0 } else { config.snapshot_catch_up_entries },
        purge_batch_size: PURGE_BATCH_ENTRIES,
        max_payload_entries: REPLICATION_MESSAGE_ENTRIES_MAX,
        enable_pre_vote: Some(config.pre_vote),
        // What a restarted leader knows to be committed may be old: it asks the others first.
        enable_leader_restore: Some(alone),
        ..openraft::Config::default()
    }
}

/// The log is purged in steps of this many entries: its files go as a whole anyway.
const PURGE_BATCH_ENTRIES: u64 = 16;

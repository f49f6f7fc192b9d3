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
#[cfg(test)]
mod tests;
pub(crate) mod types;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use openraft::errors::{InitializeError, RaftError};
use openraft::type_config::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, ServerState, SnapshotPolicy};
use tokio::sync::watch;

pub(crate) use applier::{Applier, has_compaction};
pub(crate) use awaited::Awaited;
pub(crate) use grants::Grants;
pub(crate) use log_store::LogStore;
pub(crate) use network::Network;
pub(crate) use roster::{Roster, RosterError};
pub(crate) use types::{Payload, Peer, TypeConfig};

use crate::config::Config;
use crate::crew::Spawner;
use crate::fatal::Fatal;
use crate::limits::REPLICATION_MESSAGE_ENTRIES_MAX;
use crate::peer::Contact;
use crate::store::Standing;

/// Raft with our types.
pub(crate) type Raft = openraft::Raft<TypeConfig, Applier>;

/// Why consensus did not start.
#[derive(Debug, thiserror::Error)]
#[error("consensus cannot start: {0}")]
pub(crate) struct ConsensusError(String);

/// Starts Raft, or continues from what is on disk. `first_members` is the membership of a new
/// cluster; it does not count for one that exists.
///
/// All first members begin with the same one entry, so it does not matter who is elected first.
#[allow(clippy::too_many_arguments, reason = "what Raft is made of")]
pub(crate) async fn start(
    crew: &Spawner,
    config: &Config,
    member_id: u64,
    network: Network,
    log: LogStore,
    applier: Applier,
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

/// The term this member leads in, if it leads.
#[derive(Debug, Default)]
struct Leadership(Option<u64>);

impl Leadership {
    /// Takes what was seen last; whether this member leads, if that is news. Another term is
    /// another leadership, also if the time between was not seen (LEASE-1).
    fn changed(&mut self, term: Option<u64>) -> Option<bool> {
        let before = std::mem::replace(&mut self.0, term);
        (before != term).then_some(term.is_some())
    }
}

/// What tells whether there is a leader at this moment.
pub(crate) struct Liveness {
    /// When a leader was last heard of.
    pub(crate) contact: Contact,
    /// Silence after which it counts as gone.
    pub(crate) limit: Duration,
    /// How often to look.
    pub(crate) interval: Duration,
}

impl Liveness {
    /// The leader that Raft names, unless it has been silent for too long: a leader for a quorum,
    /// or a follower for its leader.
    fn leader(
        &self,
        seen: &openraft::RaftMetrics<TypeConfig>,
        leads_since: Option<Instant>,
    ) -> u64 {
        let Some(leader) = seen.current_leader else { return 0 };
        let alive = if seen.state == ServerState::Leader {
            let acknowledged = seen.last_quorum_acked.map(|at| at.into_inner().elapsed());
            let led = leads_since.map(|since| since.elapsed()).unwrap_or_default();
            acknowledged.unwrap_or(led).min(led) < self.limit || is_alone(seen)
        } else {
            leader != seen.id && self.contact.is_recent(leader, self.limit)
        };
        if alive { leader } else { 0 }
    }
}

fn is_alone(seen: &openraft::RaftMetrics<TypeConfig>) -> bool {
    seen.membership_config.membership().nodes().count() < 2
}

/// Whether a member is to learn only. One that is to vote, but has not caught up yet, is none.
fn is_learner(seen: &openraft::RaftMetrics<TypeConfig>, member_id: u64) -> bool {
    let peer = seen.membership_config.membership().get_node(&member_id);
    peer.is_none_or(|peer| peer.learner)
}

/// Between two looks at what changes with each entry. Another leader or term is seen at once.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Keeps `standing` current, telling `changed` the old and the new one, and calls `led` when this
/// member begins or ceases to lead, `replicates` when it begins or ceases to lead others. Ends with
/// Raft; an end that nobody asked for stops the member.
pub(crate) async fn observe(
    raft: Raft,
    liveness: Liveness,
    standing: watch::Sender<Standing>,
    led: impl Fn(bool),
    changed: impl Fn(Standing, Standing),
    replicates: impl Fn(bool),
    fatal: Fatal,
) {
    let (mut metrics, mut servers) = (raft.metrics(), raft.server_metrics());
    // Raft names a new leader a moment before it has been heard of.
    let mut heard = liveness.contact.watch();
    let mut leadership = Leadership::default();
    let (mut leads_since, mut ended, mut sending) = (None, false, false);
    loop {
        let (now, leading, alone, running) = {
            let seen = metrics.borrow_watched();
            let member_id = seen.id;
            let leading = (seen.state == ServerState::Leader).then_some(seen.current_term);
            if leading != leadership.0 {
                leads_since = leading.map(|_| clock::now());
            }
            let index = |id: &Option<types::LogId>| id.as_ref().map_or(0, |id| id.index);
            let now = Standing {
                leader: liveness.leader(&seen, leads_since),
                term: seen.current_term,
                committed_index: index(&seen.local_committed),
                applied_index: index(&seen.last_applied),
                is_learner: is_learner(&seen, member_id),
            };
            (now, leading, is_alone(&seen), seen.running_state.clone())
        };
        if let Some(leads) = leadership.changed(leading) {
            led(leads);
        }
        let sends = leading.is_some() && !alone;
        if sends != sending {
            replicates(sends);
            sending = sends;
        }
        let mut before = now;
        standing.send_if_modified(|standing| {
            before = std::mem::replace(standing, now);
            // Who follows it waits for another leader, not for each entry.
            (before.leader, before.term, before.is_learner)
                != (now.leader, now.term, now.is_learner)
        });
        changed(before, now);
        if let Err(error) = running {
            // A shutdown that was asked for has dropped the receiver of this by then.
            return fatal.stop(error.to_string());
        }
        if ended {
            return;
        }
        // What changes with each entry is not looked at each time.
        tokio::select! {
            // After the end, one more look tells why.
            seen = servers.changed() => {
                ended = seen.is_err();
                continue;
            }
            () = tokio::time::sleep(BETWEEN_LOOKS) => {}
        }
        // Silence is no change: it has to be looked for, unless there is nobody to hear.
        let silence = tokio::time::sleep(liveness.interval);
        tokio::select! {
            seen = metrics.changed() => ended = seen.is_err(),
            seen = servers.changed() => ended = seen.is_err(),
            Ok(()) = heard.changed() => {}
            () = silence, if !alone => {}
        }
    }
}

//! Raft's membership as the rest of the member sees it, and changing it.
//!
//! Owns: reading it off Raft, and one change in one log entry. Must not know: whether a change is
//! a good idea (`cluster/`). A newcomer's trap: a membership counts from the moment it is appended,
//! not when it is committed; so a voter that is not there yet would block the very entry that adds
//! it. That is why members are added as learners of Raft's, and become voters later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::entry::EntryPayload;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::type_config::async_runtime::watch::WatchReceiver as _;
use openraft::{ChangeMembers, Instant as _, Membership, ServerState};

use super::Raft;
use super::types::{LogId, Peer};

/// The members of Raft at one moment, and how they do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    /// Where in the log it stands.
    log_id: Option<LogId>,
    /// Whether it is committed and uniform: only then may the next change come.
    pub(crate) is_settled: bool,
    /// Whether this member leads; what follows is only known then.
    pub(crate) leads: bool,
    pub(crate) term: u64,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) peers: BTreeMap<u64, Peer>,
    /// The leader's last index.
    pub(crate) last_index: u64,
    /// The last index that each other member is known to have.
    pub(crate) matched: BTreeMap<u64, u64>,
    /// How long ago each other member answered.
    pub(crate) answered: BTreeMap<u64, Duration>,
}

/// Why a membership was not put into the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RosterError {
    /// Somebody else leads: nothing was done.
    #[error("not leader")]
    NotLeader,
    /// Another change came first, or is under way: nothing was done.
    #[error("another change is under way")]
    Again,
    /// The leader changed meanwhile: whether it was done is unknown.
    #[error("leader changed")]
    LeaderChanged,
    /// Raft refuses it.
    #[error("{0}")]
    Refused(String),
    /// Raft has stopped.
    #[error("raft has stopped")]
    Stopped,
}

// === impl Roster ===

impl Roster {
    /// What Raft says right now.
    pub(crate) fn look(raft: &Raft) -> Self {
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        let membership = seen.membership_config.membership();
        let is_uniform = membership.get_joint_config().len() == 1;
        let committed = seen.committed_membership_config.log_id();
        let matched = seen.replication.iter().flatten();
        let answered = seen.heartbeat.iter().flatten();
        Self {
            log_id: *seen.membership_config.log_id(),
            is_settled: is_uniform && committed == seen.membership_config.log_id(),
            leads: seen.state == ServerState::Leader,
            term: seen.current_term,
            voters: membership.voter_ids().collect(),
            peers: membership.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
            last_index: seen.last_log_index.unwrap_or(0),
            matched: matched.map(|(id, at)| (*id, at.as_ref().map_or(0, |at| at.index))).collect(),
            answered: answered
                .filter_map(|(id, at)| Some((*id, at.as_ref()?.elapsed())))
                .filter(|(id, _)| *id != seen.id)
                .collect(),
        }
    }

    /// Where in the log it stands; 0 for nowhere.
    pub(crate) fn index(&self) -> u64 {
        self.log_id.map_or(0, |id| id.index)
    }

    /// Puts another membership in this one's place, if it still is the one. Returns the index of
    /// its entry once that is applied here. Either voters change, by one, or what is known of a
    /// member; not both at once.
    pub(crate) async fn replace(
        &self,
        raft: &Raft,
        voters: BTreeSet<u64>,
        peers: BTreeMap<u64, Peer>,
    ) -> Result<u64, RosterError> {
        let still = Precondition::LastMembershipLogId { last_membership_log_id: self.log_id };
        let is_known = |id: &u64, peer: &Peer| self.peers.get(id).is_some_and(|old| old != peer);
        let changed: BTreeMap<u64, Peer> = peers
            .iter()
            .filter(|(id, peer)| is_known(id, peer))
            .map(|(id, peer)| (*id, peer.clone()))
            .collect();
        let written = if changed.is_empty() {
            let membership = Membership::new(vec![voters], peers)
                .map_err(|error| RosterError::Refused(error.to_string()))?;
            raft.append_membership(membership, EntryPayload::Blank, [still]).await
        } else {
            raft.change_membership_if(ChangeMembers::SetNodes(changed), true, [still]).await
        };
        match written {
            Ok(response) => Ok(response.log_id.index),
            Err(RaftError::Fatal(_)) => Err(RosterError::Stopped),
            Err(RaftError::APIError(error)) => Err(match error {
                ClientWriteError::ForwardToLeader(_) => RosterError::NotLeader,
                ClientWriteError::LogEntryDiscarded(_) => RosterError::LeaderChanged,
                ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_)
                    | ChangeMembershipError::UncommittedLeaderLog(_),
                ) => RosterError::Again,
                ClientWriteError::ChangeMembershipError(error) => {
                    RosterError::Refused(error.to_string())
                }
            }),
        }
    }
}

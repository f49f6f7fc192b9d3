//! One change of members, as the leader carries it out.
//!
//! Owns: what the membership is to be after a change. Must not know: who asked. A newcomer's trap:
//! facts and membership are looked at again for each try, because another change may have come
//! first; the entry only gets into the log if nothing has changed since the look.

use std::collections::{BTreeMap, BTreeSet};

use kijabi_base::clock;

use super::check::Facts;
use super::{Changed, Cluster, RETRY};
use crate::consensus::{Peer, Roster, RosterError};
use crate::identity;
use crate::limits::LEADER_TRANSFER_TIMEOUTS_MAX;
use crate::status::EtcdError;

/// A change of members. URLs are checked (`check::peer_urls`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add { peer_urls: Vec<String>, is_learner: bool },
    Remove { id: u64 },
    Update { id: u64, peer_urls: Vec<String> },
    Promote { id: u64 },
}

/// The membership that a change leads to.
struct Goal {
    voters: BTreeSet<u64>,
    peers: BTreeMap<u64, Peer>,
    added: u64,
}

// === impl Cluster ===

impl Cluster {
    /// Makes a change, if this member leads.
    pub(crate) async fn change_here(&self, change: &Change) -> Result<Changed, EtcdError> {
        let Ok(_waiting) = self.0.waiting.try_acquire() else {
            return Err(EtcdError::TooManyRequests);
        };
        let limit = self.0.store.config().request_timeout();
        let result = tokio::time::timeout(limit, self.carry_out(change)).await;
        let result = result.unwrap_or(Err(EtcdError::Timeout));
        if matches!(change, Change::Promote { .. }) {
            match &result {
                // Whoever leads is asked next, and counts it.
                Err(EtcdError::NotLeader) => {}
                Err(error) => self.0.store.metrics().peers.promoted(Err(error.text())),
                Ok(_) => self.0.store.metrics().peers.promoted(Ok(())),
            }
        }
        result
    }

    async fn carry_out(&self, change: &Change) -> Result<Changed, EtcdError> {
        let turn = self.0.turn.lock().await;
        let mut may_hand_over = true;
        let (index, added) = loop {
            let seen = Roster::look(&self.0.raft);
            if !seen.leads {
                return Err(EtcdError::NotLeader);
            }
            let applied = self.0.store.machine().read().applied_index();
            if !seen.is_settled || applied < seen.index() {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let goal = self.goal(change, &seen)?;
            if may_hand_over && !goal.voters.contains(&self.0.store.member_id()) {
                // Whoever leads next removes this member, and nobody is without a leader.
                may_hand_over = false;
                self.hand_over(&seen).await;
                continue;
            }
            match seen.replace(&self.0.raft, goal.voters, goal.peers).await {
                Ok(index) => break (index, goal.added),
                Err(RosterError::Again) => tokio::time::sleep(RETRY).await,
                Err(RosterError::NotLeader) => return Err(EtcdError::NotLeader),
                Err(RosterError::LeaderChanged) => return Err(EtcdError::LeaderChanged),
                Err(RosterError::Stopped) => return Err(EtcdError::Stopped),
                Err(error @ RosterError::Refused(_)) => {
                    tracing::error!(%error, ?change, "raft refuses a change of members");
                    return Err(EtcdError::Unhealthy);
                }
            }
        };
        drop(turn);
        tracing::info!(?change, index, "applied a configuration change through raft");
        if let Change::Promote { id } = change {
            self.await_voter(*id).await;
        }
        let members = self.0.store.machine().read().members();
        Ok(Changed { members, added, index })
    }

    fn goal(&self, change: &Change, seen: &Roster) -> Result<Goal, EtcdError> {
        let facts = self.facts(seen);
        let mut goal = Goal { voters: seen.voters.clone(), peers: seen.peers.clone(), added: 0 };
        match change {
            Change::Add { peer_urls, is_learner } => {
                facts.check_add(peer_urls, *is_learner)?;
                goal.added = self.new_id(peer_urls);
                let peer = Peer {
                    name: String::new(),
                    peer_urls: peer_urls.clone(),
                    learner: *is_learner,
                };
                goal.peers.insert(goal.added, peer);
            }
            Change::Remove { id } => {
                facts.check_remove(*id)?;
                goal.peers.remove(id);
                goal.voters.remove(id);
            }
            Change::Update { id, peer_urls } => {
                facts.check_update(*id, peer_urls)?;
                if let Some(peer) = goal.peers.get_mut(id) {
                    peer.peer_urls.clone_from(peer_urls);
                }
            }
            Change::Promote { id } => {
                facts.check_promote(*id)?;
                if let Some(peer) = goal.peers.get_mut(id) {
                    peer.learner = false;
                }
            }
        }
        Ok(goal)
    }

    fn facts(&self, seen: &Roster) -> Facts {
        let config = self.0.store.config();
        Facts {
            members: self.0.store.machine().read().members(),
            leader: self.0.store.member_id(),
            connected: self.0.links.lock().connected(clock::now()),
            voters: seen.voters.clone(),
            matched: seen.matched.clone(),
            last_index: seen.last_index,
            strict: config.strict_reconfig_check,
            learners_max: config.max_learners,
        }
    }

    /// An id that nobody has or had. etcd takes the time in seconds as it is, and fails when the
    /// same URLs were added and removed within one.
    fn new_id(&self, peer_urls: &[String]) -> u64 {
        let machine = self.0.store.machine().read();
        let is_used = |id: &u64| machine.member(*id).is_some() || machine.is_member_removed(*id);
        let now = clock::wall_ms() / 1000;
        let ids = (now..).map(|seconds| identity::later_member_id(peer_urls, seconds));
        ids.into_iter().find(|id| *id != 0 && !is_used(id)).unwrap_or_default()
    }

    /// Gives the leadership to another voter, or does not after a while.
    async fn hand_over(&self, seen: &Roster) {
        let me = self.0.store.member_id();
        let timeout = self.0.store.config().election_timeout;
        let fit = |id: &&u64| {
            **id != me && seen.answered.get(*id).is_some_and(|answered| *answered < timeout)
        };
        let at = |id: &u64| seen.matched.get(id).copied().unwrap_or(0);
        let Some(next) = seen.voters.iter().filter(fit).max_by_key(|id| at(id)) else { return };
        tracing::info!(to = %format_args!("{next:x}"), "handing over before being removed");
        if self.0.raft.trigger().transfer_leader(*next).await.is_err() {
            return;
        }
        let given_up = clock::now() + LEADER_TRANSFER_TIMEOUTS_MAX * timeout;
        while Roster::look(&self.0.raft).leads && clock::now() < given_up {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// A member that was promoted counts, to the one who promoted it, once it votes. If that takes
    /// longer than the client waits, it comes all the same.
    async fn await_voter(&self, id: u64) {
        let given_up = clock::now() + self.0.store.config().request_timeout() / 2;
        while clock::now() < given_up {
            let seen = Roster::look(&self.0.raft);
            if !seen.leads || seen.voters.contains(&id) || !seen.peers.contains_key(&id) {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

//! Whether a change of members may be made: pure, on facts that were gathered before.
//!
//! Owns: etcd's checks, in etcd's order, with etcd's errors. Must not know: Raft, clocks, sockets.
//! A newcomer's trap: "started" means that a member has told its name, "connected" that it answers
//! the leader; the strict checks ask for both, and only they can be turned off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kijabi_proto::command::MemberAttributes;

use crate::status::EtcdError;

/// How long members must have been connected before a change may rely on them, etcd's.
pub(crate) const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// What a change is judged by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) members: Vec<MemberAttributes>,
    /// The leader, which judges.
    pub(crate) leader: u64,
    /// For how long each member that answers has done so.
    pub(crate) connected: BTreeMap<u64, Duration>,
    /// Raft's voters. A member that has not caught up yet is none, also if it is no learner.
    pub(crate) voters: BTreeSet<u64>,
    /// The last index that each member is known to have.
    pub(crate) matched: BTreeMap<u64, u64>,
    /// The last index of the leader.
    pub(crate) last_index: u64,
    pub(crate) strict: bool,
    pub(crate) learners_max: usize,
}

type Checked = Result<(), EtcdError>;

// === impl Facts ===

impl Facts {
    pub(crate) fn member(&self, id: u64) -> Option<&MemberAttributes> {
        self.members.iter().find(|member| member.id == id)
    }

    /// May a member with these URLs be added?
    pub(crate) fn check_add(&self, peer_urls: &[String], is_learner: bool) -> Checked {
        if self.strict {
            if !is_learner && !self.is_ready_to_add() {
                return Err(EtcdError::MemberNotEnoughStarted);
            }
            if !self.voting().all(|member| self.is_healthy(member.id)) {
                return Err(EtcdError::Unhealthy);
            }
        }
        self.check_urls(0, peer_urls)?;
        let learners = self.members.iter().filter(|member| member.is_learner).count();
        if is_learner && learners >= self.learners_max {
            return Err(EtcdError::TooManyLearners);
        }
        Ok(())
    }

    /// May this member be removed?
    pub(crate) fn check_remove(&self, id: u64) -> Checked {
        let member = self.member(id);
        if self.strict && !member.is_some_and(|member| member.is_learner) {
            self.check_remove_strictly(id)?;
        }
        if member.is_none() {
            return Err(EtcdError::MemberNotFound);
        }
        // Differs from etcd: the last voter stays also when the strict checks are off.
        if self.voters.iter().all(|voter| *voter == id) {
            return Err(EtcdError::MemberNotEnoughStarted);
        }
        Ok(())
    }

    fn check_remove_strictly(&self, id: u64) -> Checked {
        let rest = || self.voting().filter(|member| member.id != id);
        let started = rest().filter(|member| is_started(member)).count();
        if started < quorum(rest().count()) {
            return Err(EtcdError::MemberNotEnoughStarted);
        }
        // Differs from etcd: also who is down stays if the rest could not go on without it.
        let voters = self.voters.iter().filter(|voter| **voter != id);
        let active = voters.clone().filter(|voter| self.is_active(**voter)).count();
        if active < quorum(voters.count()) {
            return Err(EtcdError::Unhealthy);
        }
        if self.member(id).is_none() || !self.is_active(id) {
            // It is gone or down, so no active quorum counts on it.
            return Ok(());
        }
        let healthy = self.voting().filter(|member| self.is_healthy(member.id)).count();
        if healthy.saturating_sub(1) < 1 + self.voting().count().saturating_sub(1) / 2 {
            return Err(EtcdError::Unhealthy);
        }
        Ok(())
    }

    /// May this learner be made a voter?
    pub(crate) fn check_promote(&self, id: u64) -> Checked {
        let Some(member) = self.member(id) else { return Err(EtcdError::MemberNotFound) };
        let matched = if id == self.leader {
            self.last_index
        } else {
            self.matched.get(&id).copied().unwrap_or(0)
        };
        // 90 percent, without floating point.
        if u128::from(matched) * 10 < u128::from(self.last_index) * 9 {
            return Err(EtcdError::LearnerNotReady);
        }
        if self.strict {
            let started = 1 + self.voting().filter(|member| is_started(member)).count();
            if started < quorum(1 + self.voting().count()) {
                return Err(EtcdError::MemberNotEnoughStarted);
            }
        }
        if member.is_learner { Ok(()) } else { Err(EtcdError::MemberNotLearner) }
    }

    /// May this member's URLs become these?
    pub(crate) fn check_update(&self, id: u64, peer_urls: &[String]) -> Checked {
        if self.member(id).is_none() {
            return Err(EtcdError::MemberNotFound);
        }
        self.check_urls(id, peer_urls)
    }

    /// No two members share a URL; `but` is the one whose URLs these are to be.
    fn check_urls(&self, but: u64, peer_urls: &[String]) -> Checked {
        let others = self.members.iter().filter(|member| member.id != but);
        let mut taken = others.flat_map(|member| &member.peer_urls);
        if taken.any(|url| peer_urls.contains(url)) {
            return Err(EtcdError::PeerUrlExist);
        }
        Ok(())
    }

    fn is_ready_to_add(&self) -> bool {
        let voting = self.voting().count() + 1;
        let started = self.voting().filter(|member| is_started(member)).count();
        // One member alone may be given a second one: that is how a cluster is rebuilt.
        (started == 1 && voting == 2) || started >= quorum(voting)
    }

    fn voting(&self) -> impl Iterator<Item = &MemberAttributes> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    fn is_active(&self, id: u64) -> bool {
        id == self.leader || self.connected.contains_key(&id)
    }

    fn is_healthy(&self, id: u64) -> bool {
        let long_enough = |connected: &Duration| *connected >= HEALTH_INTERVAL;
        id == self.leader || self.connected.get(&id).is_some_and(long_enough)
    }
}

fn is_started(member: &MemberAttributes) -> bool {
    !member.name.is_empty()
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

/// etcd's check of the URLs that members are given, sorted as etcd keeps them.
pub(crate) fn peer_urls(given: &[String]) -> Result<Vec<String>, EtcdError> {
    let mut urls = Vec::with_capacity(given.len());
    for url in given {
        let url = url.trim();
        if !is_peer_url(url) {
            return Err(EtcdError::MemberBadUrls);
        }
        urls.push(url.to_owned());
    }
    urls.sort();
    if urls.is_empty() { Err(EtcdError::MemberBadUrls) } else { Ok(urls) }
}

fn is_peer_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    match scheme {
        "unix" | "unixs" => !rest.is_empty(),
        "http" | "https" => {
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            let clean = |c: char| !c.is_whitespace() && !c.is_control() && !"/?#<>\"".contains(c);
            let Some((name, port)) = host.rsplit_once(':') else { return false };
            let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
            // A colon in a name is an IPv6 address, which has brackets around it.
            (bare.is_some() || !name.contains(':')) && host.chars().all(clean) && is_port(port)
        }
        _ => false,
    }
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests;

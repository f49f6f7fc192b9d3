//! Making voters of members that have caught up, and noting who answers.
//!
//! Owns: what the leader does for the members unasked. Must not know: who added them. A newcomer's
//! trap: this is a loop and not a step of the change, because the leader may change between the
//! entry that adds a member and the one that makes it a voter; whoever leads goes on.

use std::time::Duration;

use kijabi_base::clock;

use super::Cluster;
use crate::consensus::{Roster, RosterError};
use crate::limits::VOTER_LAG_ENTRIES_MAX;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(200);
/// Between two looks while there is nobody to look at.
const INTERVAL_ALONE: Duration = Duration::from_secs(1);

/// Runs until the member stops.
pub(crate) async fn run(cluster: Cluster) {
    loop {
        let seen = Roster::look(&cluster.0.raft);
        let limit = cluster.0.store.config().election_timeout;
        follow(&cluster, &seen);
        if seen.leads {
            let answered = seen.answered.iter().map(|(id, ago)| (*id, *ago));
            // Twice the time: a machine that is busy is not down.
            cluster.0.links.lock().observe(clock::now(), seen.term, answered, 2 * limit);
            if next_voter(&seen, limit).is_some() {
                make_voter(&cluster, limit).await;
            }
        } else {
            cluster.0.links.lock().forget();
        }
        let alone = seen.peers.len() < 2;
        tokio::time::sleep(if alone { INTERVAL_ALONE } else { INTERVAL }).await;
    }
}

/// Leads the connections to where the members are now, and drops those to who is none any more.
fn follow(cluster: &Cluster, seen: &Roster) {
    let me = cluster.0.store.member_id();
    for (id, peer) in seen.peers.iter().filter(|(id, _)| **id != me) {
        cluster.0.peers.link(*id, &peer.peer_urls);
    }
    cluster.0.peers.keep(|id| seen.peers.contains_key(&id));
}

/// A member that is to vote, does not yet, answers, and has nearly all of the log.
fn next_voter(seen: &Roster, limit: Duration) -> Option<u64> {
    if !seen.is_settled {
        return None;
    }
    let waiting = seen.peers.iter().filter(|(id, peer)| !peer.learner && !seen.voters.contains(id));
    let mut fit = waiting.filter(|(id, _)| {
        let matched = seen.matched.get(id).copied().unwrap_or(0);
        seen.answered.get(id).is_some_and(|ago| *ago < limit)
            && matched + VOTER_LAG_ENTRIES_MAX >= seen.last_index
            && matched > 0
    });
    fit.next().map(|(id, _)| *id)
}

async fn make_voter(cluster: &Cluster, limit: Duration) {
    let _turn = cluster.0.turn.lock().await;
    // Some change may have come first.
    let seen = Roster::look(&cluster.0.raft);
    let Some(id) = next_voter(&seen, limit).filter(|_| seen.leads) else { return };
    let mut voters = seen.voters.clone();
    voters.insert(id);
    let member_id = format!("{id:x}");
    match seen.replace(&cluster.0.raft, voters, seen.peers.clone()).await {
        Ok(_) => tracing::info!(member_id, "a member has caught up and votes from now on"),
        Err(RosterError::Again | RosterError::NotLeader | RosterError::LeaderChanged) => {}
        Err(error) => tracing::warn!(member_id, %error, "a member could not be made a voter"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::consensus::Peer;

    #[test]
    fn only_a_member_that_answers_and_has_caught_up_becomes_a_voter() {
        let limit = Duration::from_secs(1);
        let seen = |matched: u64, ago_ms: u64, learner: bool, is_settled: bool| {
            let mut seen = Roster::default();
            seen.is_settled = is_settled;
            seen.voters = BTreeSet::from([1]);
            let second = Peer { learner, ..Peer::default() };
            seen.peers = BTreeMap::from([(1, Peer::default()), (2, second)]);
            seen.last_index = 100_000;
            seen.matched = BTreeMap::from([(2, matched)]);
            seen.answered = BTreeMap::from([(2, Duration::from_millis(ago_ms))]);
            seen
        };
        assert_eq!(next_voter(&seen(100_000, 10, false, true), limit), Some(2));
        assert_eq!(next_voter(&seen(50_000, 10, false, true), limit), None, "far behind");
        assert_eq!(next_voter(&seen(100_000, 2_000, false, true), limit), None, "silent");
        assert_eq!(next_voter(&seen(100_000, 10, true, true), limit), None, "a learner");
        assert_eq!(next_voter(&seen(100_000, 10, false, false), limit), None, "another change");
    }
}

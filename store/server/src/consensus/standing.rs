//! How a member stands in its cluster: who leads, in which term, and how far it has come.
//!
//! Owns: looking at Raft's metrics, and whether a leader that they name is alive. Must not know:
//! what follows from it, see [`Follow`]. A newcomer's trap: silence changes nothing in the metrics,
//! so it has to be looked for.

use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use openraft::type_config::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;

use super::Raft;
use super::types::{LogId, TypeConfig};
use crate::fatal::Fatal;
use crate::peer::Contact;
use crate::store::Standing;

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

/// What follows from how a member stands.
pub(crate) trait Follow: Send {
    /// After each look, with what the one before saw.
    fn changed(&self, before: Standing, now: Standing);
    /// This member begins or ceases to lead.
    fn led(&self, leads: bool);
    /// This member begins or ceases to lead others.
    fn replicates(&self, replicates: bool);
}

/// Keeps `standing` current and tells `follow` what has changed. Ends with Raft; an end that nobody
/// asked for stops the member.
pub(crate) async fn observe(
    raft: Raft,
    liveness: Liveness,
    standing: watch::Sender<Standing>,
    follow: impl Follow,
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
            let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| id.index);
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
            follow.led(leads);
        }
        let sends = leading.is_some() && !alone;
        if sends != sending {
            follow.replicates(sends);
            sending = sends;
        }
        let mut before = now;
        standing.send_if_modified(|standing| {
            before = std::mem::replace(standing, now);
            // Who follows it waits for another leader, not for each entry.
            (before.leader, before.term, before.is_learner)
                != (now.leader, now.term, now.is_learner)
        });
        follow.changed(before, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// LEASE-1: between two looks this member may have lost its office and got it back. Another
    /// leader may have renewed leases meanwhile, so their time begins anew.
    #[test]
    fn a_new_term_of_the_same_leader_is_a_new_leadership() {
        let mut leadership = Leadership::default();
        let seen = [None, Some(3), Some(3), Some(5), Some(5), None, None, Some(6)];
        let news = seen.map(|term| leadership.changed(term));
        let expected = [None, Some(true), None, Some(true), None, Some(false), None, Some(true)];
        assert_eq!(news, expected);
    }
}

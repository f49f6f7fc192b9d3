//! A leader whose process is gone: nobody needs to wait until it has been silent for long enough.
//!
//! Owns: the evidence for that, asking the other voters for theirs, and who of them is to lead.
//! Must not know: how Raft elects. A newcomer's trap: nothing here is needed for safety. Whoever is
//! chosen still needs the votes of a quorum for a term that has no leader yet, so wrong evidence
//! costs an election and never an acknowledged write (no read rests on a leader's lease).
//!
//! The evidence: the leader's stream of entries has ended, and its peer URLs *refuse* connections,
//! which only a machine that runs can do, for a port on which nobody listens. A leader that is
//! stopped, slow, or behind a broken network refuses nothing, and is waited for as in etcd.
// Differs from etcd: it always waits for the election timeout.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kijabi_proto::peer as pb;
use openraft::raft::TransferLeaderRequest;
use openraft::type_config::async_runtime::watch::WatchReceiver as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::consensus::Raft;
use crate::consensus::types::{LogId, Vote};
use crate::limits::DEMISE_PROBES_MAX;
use crate::peer::wire::{from_id, to_id};
use crate::peer::{Route, Streams};

/// A process that ends closes its sockets one after the other: how often, and after how long, to
/// look again.
const PROBES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(2),
    Duration::from_millis(8),
    Duration::from_millis(20),
    Duration::from_millis(40),
];
/// Whoever lets a connection wait for longer refuses none.
const PROBE_LIMIT: Duration = Duration::from_millis(50);
/// How long another member may take to look, too.
const ANSWER_LIMIT: Duration = Duration::from_millis(300);
/// How often to ask the others about one leader, and the pause between.
const ROUNDS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(60);

/// What this member knows of its leader's end. Cloning shares.
#[derive(Clone)]
pub(crate) struct Demise {
    route: Route,
    streams: Streams,
    /// One look at a time for each member that asks, and this one.
    probes: Arc<Semaphore>,
    /// Whether this member looks after its leader now.
    looks: Arc<AtomicBool>,
    /// Another member has asked, and the leader is gone.
    news: Arc<Notify>,
}

/// What looking after a leader has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Its process is gone.
    Gone,
    /// It sends entries again, or it is not the last leader that is known.
    Past,
    /// It sends nothing, and refuses nothing yet: its process may be ending.
    Unclear,
}

/// What a round led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// There is nothing more to find out, or to do.
    Over,
    /// Not yet.
    Again,
}

// === impl Demise ===

impl Demise {
    pub(crate) fn new(route: Route, streams: Streams) -> Self {
        let probes = Arc::new(Semaphore::new(DEMISE_PROBES_MAX));
        Self { route, streams, probes, looks: Arc::default(), news: Arc::default() }
    }

    /// Looks after the leader whenever a stream of entries has ended, and when another member has
    /// found it gone: a leader may have no stream to this one yet.
    pub(crate) async fn watch(self) {
        let mut ended = self.streams.ended();
        loop {
            tokio::select! {
                changed = ended.changed() => if changed.is_err() { return },
                () = self.news.notified() => {}
            }
            self.looks.store(true, Ordering::Relaxed);
            for _ in 0..ROUNDS {
                if self.round().await == Round::Over {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            self.looks.store(false, Ordering::Relaxed);
        }
    }

    /// Answers another member: whether the leader of that vote is gone, and how far the log goes
    /// here.
    pub(crate) async fn answer(&self, leader: &Vote) -> pb::GoneResponse {
        let gone = self.look(leader).await == Sight::Gone;
        // Whoever asks may leave it to this member to ask for votes.
        if gone && !self.looks.load(Ordering::Relaxed) {
            self.news.notify_one();
        }
        pb::GoneResponse { gone, last: last_log_id(self.route.raft()).as_ref().map(from_id) }
    }

    async fn round(&self) -> Round {
        let raft = self.route.raft();
        let (own, leader, joint) = {
            let metrics = raft.metrics();
            let seen = metrics.borrow_watched();
            let joint = seen.membership_config.membership().get_joint_config().clone();
            (seen.id, seen.vote, joint)
        };
        let is_voter = joint.iter().any(|voters| voters.contains(&own));
        if !is_voter || leader.leader_id.voted_for == own {
            return Round::Over;
        }
        match self.look(&leader).await {
            Sight::Gone => {}
            Sight::Past => return Round::Over,
            Sight::Unclear => return Round::Again,
        }
        let mine = last_log_id(raft);
        let others: std::collections::BTreeSet<u64> = joint
            .iter()
            .flatten()
            .copied()
            .filter(|id| *id != own && *id != leader.leader_id.voted_for)
            .collect();
        let asked = others.iter().filter_map(|id| Some((*id, self.route.to(*id)?)));
        let asked = asked.map(|(id, link)| async move {
            let answer = link.gone(&leader, ANSWER_LIMIT).await.ok()?;
            answer.gone.then(|| (answer.last.map(to_id), id))
        });
        let agreeing: Vec<(Option<LogId>, u64)> =
            join_all(asked).await.into_iter().flatten().collect();
        let agrees = |id: &u64| *id == own || agreeing.iter().any(|(_, other)| other == id);
        let quorum = joint
            .iter()
            .all(|voters| voters.iter().filter(|id| agrees(id)).count() * 2 > voters.len());
        // The one whose log is the longest asks for votes, so that they do not split.
        if !quorum || agreeing.iter().any(|other| *other > (mine, own)) {
            return Round::Again;
        }
        tracing::info!(
            leader = %format_args!("{:x}", leader.leader_id.voted_for),
            "the leader's process is gone, as a quorum sees it: asking for votes"
        );
        // As if that leader had handed its office over, which it would have if it could.
        match raft.handle_transfer_leader(TransferLeaderRequest::new(leader, own, mine)).await {
            Ok(_) => Round::Again,
            Err(_stopped) => Round::Over,
        }
    }

    /// Looks for a while whether the leader of this vote is gone.
    async fn look(&self, leader: &Vote) -> Sight {
        let Ok(_place) = self.probes.try_acquire() else { return Sight::Unclear };
        let id = leader.leader_id.voted_for;
        for pause in PROBES {
            tokio::time::sleep(pause).await;
            let urls = {
                let metrics = self.route.raft().metrics();
                let seen = metrics.borrow_watched();
                if !leader.committed || seen.vote != *leader {
                    return Sight::Past;
                }
                let membership = seen.membership_config.membership();
                let Some(peer) = membership.get_node(&id) else { return Sight::Past };
                peer.peer_urls.clone()
            };
            // An open stream may be about to end, too: they end one after the other.
            if !self.streams.is_open(id) && refuses(&urls).await {
                return Sight::Gone;
            }
        }
        if self.streams.is_open(id) { Sight::Past } else { Sight::Unclear }
    }
}

fn last_log_id(raft: &Raft) -> Option<LogId> {
    raft.data_metrics().borrow_watched().last_log
}

/// Whether nobody listens at any of these URLs, on machines that are there to say so.
async fn refuses(urls: &[String]) -> bool {
    for url in urls {
        let Some((_, address)) = url.split_once("://") else { return false };
        match tokio::time::timeout(PROBE_LIMIT, TcpStream::connect(address)).await {
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {}
            _ => return false,
        }
    }
    !urls.is_empty()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_refusal_of_every_address_is_evidence() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = format!("http://{}", listener.local_addr().unwrap());
        let closed = {
            let gone = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("https://{}", gone.local_addr().unwrap())
        };
        assert!(!refuses(std::slice::from_ref(&listening)).await);
        assert!(refuses(std::slice::from_ref(&closed)).await);
        assert!(!refuses(&[closed, listening]).await);
        assert!(!refuses(&[]).await);
        assert!(!refuses(&["http://no.such.host.invalid:1".into()]).await);
        assert!(!refuses(&["unixs".into()]).await);
    }
}

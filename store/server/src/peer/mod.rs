//! The members of a cluster among themselves: connections, messages, and who may speak.
//!
//! Owns: everything on the peer URLs. Must not know: what Raft decides, or what clients want. A
//! newcomer's trap: a request whose answer is lost may have been carried out; only
//! [`client::never_sent`] tells that one was not.

mod activity;
pub(crate) mod admit;
pub(crate) mod client;
pub(crate) mod connect;
mod contact;
mod entries;
pub(crate) mod forward;
pub(crate) mod server;
pub(crate) mod snapshot;
mod streams;
pub(crate) mod wire;

pub(crate) use activity::Activity;
pub(crate) use client::{Link, Peers};
pub(crate) use contact::Contact;
pub(crate) use server::{PeerPort, PeerPortParts};
pub(crate) use streams::Streams;

use kijabi_base::clock::Instant;

use crate::consensus::Raft;

/// The way to the other members of the current membership. Cloning shares.
#[derive(Clone)]
pub(crate) struct Route {
    raft: Raft,
    peers: Peers,
}

// === impl Route ===

impl Route {
    pub(crate) fn new(raft: Raft, peers: Peers) -> Self {
        Self { raft, peers }
    }

    /// The connections to a member; `None` if there is no such member.
    pub(crate) fn to(&self, member_id: u64) -> Option<Link> {
        use openraft::type_config::async_runtime::watch::WatchReceiver as _;
        let metrics = self.raft.metrics();
        let urls = {
            let seen = metrics.borrow_watched();
            seen.membership_config.membership().get_node(&member_id)?.peer_urls.clone()
        };
        Some(self.peers.link(member_id, &urls))
    }

    /// Whether there has been a connection to a member all the time since `start`.
    pub(crate) fn was_connected(&self, member_id: u64, start: Instant) -> bool {
        self.peers.activity().since(member_id).is_some_and(|since| since < start)
    }

    /// The same for enough voters to decide something, `own` being this member.
    pub(crate) fn was_quorum_connected(&self, own: u64, start: Instant) -> bool {
        use openraft::type_config::async_runtime::watch::WatchReceiver as _;
        let voters: Vec<u64> = {
            let metrics = self.raft.metrics();
            let seen = metrics.borrow_watched();
            seen.membership_config.voter_ids().collect()
        };
        let connected = |id: &&u64| **id == own || self.was_connected(**id, start);
        voters.iter().filter(connected).count() > voters.len() / 2
    }

    /// Raft itself.
    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }
}

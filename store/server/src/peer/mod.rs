//! The members of a cluster among themselves: connections, messages, and who may speak.
//!
//! Owns: everything on the peer URLs. Must not know: what Raft decides, or what clients want. A
//! newcomer's trap: a request whose answer is lost may have been carried out; only
//! [`client::never_sent`] tells that one was not.

pub(crate) mod admit;
pub(crate) mod client;
pub(crate) mod connect;
mod contact;
pub(crate) mod server;
pub(crate) mod snapshot;
mod streams;
pub(crate) mod wire;

pub(crate) use client::{Link, Peers};
pub(crate) use contact::Contact;
pub(crate) use server::PeerPort;
pub(crate) use streams::Streams;

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

    /// Raft itself.
    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }
}

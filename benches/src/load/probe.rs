//! Single questions to servers that are being killed and started.
//!
//! Owns: asking whether one serves, leads, or takes a write. Must not know: processes. A
//! newcomer's trap: a write that was proposed to a leader that is gone may be lost without an
//! answer, so whoever waits for the first one that succeeds must keep sending new ones.

use kijabi_proto::etcdserverpb as pb;

use super::args::{Bench, Common};
use super::session::Session;
use super::wire::Method;

/// The way to the members of a cluster.
#[derive(Clone)]
pub(crate) struct Probe(Session);

impl Probe {
    /// Connects to nothing yet.
    pub(crate) fn new(endpoints: Vec<String>) -> anyhow::Result<Self> {
        use clap::Parser as _;

        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            bench: Bench,
        }
        let defaults = Line::try_parse_from(["probe", "put"])?.bench.common;
        Ok(Self(Session::new(&Common { endpoints, ..defaults })?))
    }

    /// A linearizable read on this member.
    pub(crate) async fn read(&self, member: usize) -> anyhow::Result<()> {
        let read = pb::RangeRequest { key: b"ready"[..].into(), ..Default::default() };
        self.0.call::<pb::RangeResponse>(member, Method::Range, &read).await.map(drop)
    }

    /// A put on this member.
    pub(crate) async fn put(&self, member: usize) -> anyhow::Result<()> {
        let put = pb::PutRequest { key: b"ready"[..].into(), ..Default::default() };
        self.0.call::<pb::PutResponse>(member, Method::Put, &put).await.map(drop)
    }

    /// Whether this member leads.
    pub(crate) async fn leads(&self, member: usize) -> anyhow::Result<bool> {
        let request = pb::StatusRequest::default();
        let status: pb::StatusResponse = self.0.call(member, Method::Status, &request).await?;
        Ok(status.header.is_some_and(|header| header.member_id == status.leader))
    }
}

//! Members asking each other who the members are, and to change them.
//!
//! Owns: both ends of `proto/kijabi/membership.proto`, on the port for members. Must not know: what
//! a change needs. A newcomer's trap: whoever asks need not be a member: one that joins is none
//! yet, and one that was removed is none any more; both are told.

use std::sync::Arc;
use std::time::Duration;

use http::{Request as HttpRequest, Response as HttpResponse};
use hyper::body::Incoming;
use kijabi_proto::command as wire;
use kijabi_proto::command::members_change::Change as WireChange;
use kijabi_proto::command::membership_client::MembershipClient;
use kijabi_proto::command::membership_server::{Membership, MembershipServer};
use kijabi_proto::etcdserverpb as pb;
use parking_lot::RwLock;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tower::Service as _;

use super::{Attempt, Change, Changed, Cluster, peer_urls};
use crate::peer::client::{call, never_sent};
use crate::peer::connect::{Dial, Patience, channel};
use crate::service::cluster::{from_wire, to_wire};
use crate::status::EtcdError;

/// The way to other members by their URLs alone. Cloning shares.
#[derive(Clone)]
pub(crate) struct Remote {
    cluster_id: u64,
    dial: Dial,
    patience: Patience,
}

// === impl Remote ===

impl Remote {
    /// `cluster_id` is 0 for a member that does not know it yet.
    pub(crate) fn new(cluster_id: u64, dial: Dial, patience: Patience) -> Self {
        Self { cluster_id, dial, patience }
    }

    // Changes and questions are rare, so a connection is made for each.
    fn client(&self, urls: &[String]) -> MembershipClient<Channel> {
        let urls = Arc::new(RwLock::new(urls.to_vec()));
        MembershipClient::new(channel(urls, self.dial.clone(), self.patience, None))
    }

    /// Who the members are, as the member at `urls` knows them. `asking` is who asks, or 0.
    pub(crate) async fn members(
        &self,
        urls: &[String],
        asking: u64,
        limit: Duration,
    ) -> Result<wire::MembersResponse, Status> {
        let request = wire::MembersRequest { member_id: asking };
        call(limit, self.client(urls).members(request)).await
    }

    /// Has the leader at `urls` make a change.
    pub(crate) async fn change(
        &self,
        urls: &[String],
        change: &Change,
        limit: Duration,
    ) -> Attempt {
        let cluster_id = self.cluster_id;
        let request = wire::MembersChange { cluster_id, change: Some(encode(change)) };
        let mut request = Request::new(request);
        request.set_timeout(limit);
        let mut client = self.client(urls);
        match tokio::time::timeout(limit, client.change(request)).await {
            Ok(Ok(response)) => {
                let wire::MembersChanged { members, added, index } = response.into_inner();
                let members = members.into_iter().map(from_wire).collect();
                Attempt::Done(Changed { members, added, index })
            }
            Ok(Err(status)) if status.message() == EtcdError::NotLeader.text() => Attempt::NoLeader,
            Ok(Err(status)) if never_sent(&status) => Attempt::NoLeader,
            // It may have been done: the connection broke, not the change.
            Ok(Err(status)) if !status.message().starts_with("etcdserver: ") => {
                tracing::warn!(%status, "the leader's answer to a change of members is lost");
                Attempt::Failed(EtcdError::TimeoutDueToConnectionLost.into())
            }
            Ok(Err(status)) => Attempt::Failed(status),
            Err(_elapsed) => Attempt::Failed(EtcdError::Timeout.into()),
        }
    }
}

fn encode(change: &Change) -> WireChange {
    match change.clone() {
        Change::Add { peer_urls, is_learner } => {
            WireChange::Add(pb::MemberAddRequest { peer_ur_ls: peer_urls, is_learner })
        }
        Change::Remove { id } => WireChange::Remove(pb::MemberRemoveRequest { id }),
        Change::Update { id, peer_urls } => {
            WireChange::Update(pb::MemberUpdateRequest { id, peer_ur_ls: peer_urls })
        }
        Change::Promote { id } => WireChange::Promote(pb::MemberPromoteRequest { id }),
    }
}

fn decode(change: WireChange) -> Result<Change, EtcdError> {
    Ok(match change {
        WireChange::Add(add) => {
            Change::Add { peer_urls: peer_urls(&add.peer_ur_ls)?, is_learner: add.is_learner }
        }
        WireChange::Remove(remove) => Change::Remove { id: remove.id },
        WireChange::Update(update) => {
            Change::Update { id: update.id, peer_urls: peer_urls(&update.peer_ur_ls)? }
        }
        WireChange::Promote(promote) => Change::Promote { id: promote.id },
    })
}

/// The service on the port for members. Cloning shares.
#[derive(Clone)]
pub(crate) struct MembershipPort(Cluster);

// === impl MembershipPort ===

impl MembershipPort {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self(cluster)
    }

    /// Whether a request is for [`MembershipPort::answer`].
    pub(crate) fn is_for<B>(request: &HttpRequest<B>) -> bool {
        request.uri().path().starts_with("/kijabi.store.v1.Membership/")
    }

    /// Answers a gRPC request.
    pub(crate) async fn answer(
        &self,
        request: HttpRequest<Incoming>,
    ) -> HttpResponse<tonic::body::Body> {
        let answered = MembershipServer::new(self.clone()).call(request).await;
        answered.unwrap_or_else(|never| match never {})
    }
}

#[tonic::async_trait]
impl Membership for MembershipPort {
    async fn members(
        &self,
        request: Request<wire::MembersRequest>,
    ) -> Result<Response<wire::MembersResponse>, Status> {
        let store = self.0.store();
        let asking = request.get_ref().member_id;
        let machine = store.machine().read();
        let members = machine.members().into_iter().map(to_wire).collect();
        let removed = machine.is_member_removed(asking);
        let cluster_id = store.header(0).cluster_id;
        Ok(Response::new(wire::MembersResponse { cluster_id, members, removed }))
    }

    async fn change(
        &self,
        request: Request<wire::MembersChange>,
    ) -> Result<Response<wire::MembersChanged>, Status> {
        let wire::MembersChange { cluster_id, change } = request.into_inner();
        if cluster_id != self.0.store().header(0).cluster_id {
            return Err(EtcdError::ClusterIdMismatch.into());
        }
        let Some(change) = change else {
            return Err(Status::new(Code::Unimplemented, "a change that is not known here"));
        };
        let Changed { members, added, index } = self.0.change_here(&decode(change)?).await?;
        let members = members.into_iter().map(to_wire).collect();
        Ok(Response::new(wire::MembersChanged { members, added, index }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_survive_the_way_to_the_leader() {
        let urls = vec!["http://a:1".to_owned()];
        for change in [
            Change::Add { peer_urls: urls.clone(), is_learner: true },
            Change::Remove { id: 7 },
            Change::Update { id: 7, peer_urls: urls },
            Change::Promote { id: 7 },
        ] {
            assert_eq!(decode(encode(&change)).unwrap(), change);
        }
        let wrong = pb::MemberAddRequest { peer_ur_ls: vec!["x".into()], is_learner: false };
        assert_eq!(decode(WireChange::Add(wrong)).unwrap_err(), EtcdError::MemberBadUrls);
    }
}

//! The Cluster service: who the members are.
//!
//! Owns: the member list. Must not know: Raft. A newcomer's trap: etcd leaves the revision out of
//! the headers of this service.

use kijabi_proto::command::MemberAttributes;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::cluster_server::Cluster;
use tonic::{Request, Response, Status};

use super::guard::{Learner, admit};
use crate::access::{self, Rpc};
use crate::store::Store;

/// The service.
pub(crate) struct ClusterService {
    store: Store,
}

impl ClusterService {
    /// The service on `store`.
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

/// The members as far as this one has applied the log.
pub(crate) fn member_list(store: &Store) -> Vec<pb::Member> {
    let members = store.machine().read().members();
    let member = |member: MemberAttributes| pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    };
    members.into_iter().map(member).collect()
}

fn not_yet() -> Status {
    Status::unimplemented("etcdserver: changing the members is not supported yet")
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        if request.get_ref().linearizable {
            self.store.read_barrier().await?;
        }
        access::caller(&self.store, &request, Rpc::MemberList).await?;
        let members = member_list(&self.store);
        let header = Some(self.store.header(0));
        Ok(Response::new(pb::MemberListResponse { header, members }))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        access::caller(&self.store, &request, Rpc::MemberAdd).await?;
        Err(not_yet())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        access::caller(&self.store, &request, Rpc::MemberRemove).await?;
        Err(not_yet())
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        access::caller(&self.store, &request, Rpc::MemberUpdate).await?;
        Err(not_yet())
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        access::caller(&self.store, &request, Rpc::MemberPromote).await?;
        Err(not_yet())
    }
}

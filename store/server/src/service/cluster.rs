//! The Cluster service: who the members are, and changing them.
//!
//! Owns: the members' form on the wire. Must not know: Raft. A newcomer's trap: etcd leaves the
//! revision out of the headers of this service.

use kijabi_proto::command::MemberAttributes;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::cluster_server::Cluster as Service;
use tonic::{Request, Response, Status};

use super::guard::{Learner, admit};
use crate::access::{self, Rpc};
use crate::cluster::{Change, Changed, Cluster, peer_urls};
use crate::store::Store;

/// The service.
pub(crate) struct ClusterService {
    store: Store,
    cluster: Cluster,
}

impl ClusterService {
    /// The service on `store`; `cluster` changes the members.
    pub(crate) fn new(store: Store, cluster: Cluster) -> Self {
        Self { store, cluster }
    }

    async fn admit<T>(&self, request: &Request<T>, rpc: Rpc) -> Result<(), Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        access::caller(&self.store, request, rpc).await?;
        Ok(())
    }

    async fn change(&self, change: Change) -> Result<(Vec<pb::Member>, u64), Status> {
        let Changed { members, added, .. } = self.cluster.change(change).await?;
        Ok((members.into_iter().map(to_wire).collect(), added))
    }

    #[allow(clippy::unnecessary_wraps, reason = "responses hold it so")]
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(self.store.header(0))
    }
}

/// A member as clients see it.
pub(crate) fn to_wire(member: MemberAttributes) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    }
}

/// A member as the members' table has it.
pub(crate) fn from_wire(member: pb::Member) -> MemberAttributes {
    MemberAttributes {
        id: member.id,
        name: member.name,
        client_urls: member.client_ur_ls,
        peer_urls: member.peer_ur_ls,
        is_learner: member.is_learner,
    }
}

/// The members as far as this one has applied the log.
pub(crate) fn member_list(store: &Store) -> Vec<pb::Member> {
    let members = store.machine().read().members();
    members.into_iter().map(to_wire).collect()
}

#[tonic::async_trait]
impl Service for ClusterService {
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
        Ok(Response::new(pb::MemberListResponse { header: self.header(), members }))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.admit(&request, Rpc::MemberAdd).await?;
        let pb::MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let peer_urls = peer_urls(&peer_ur_ls)?;
        let (members, id) = self.change(Change::Add { peer_urls, is_learner }).await?;
        // As it was added; it may have told its name since.
        let added = members.iter().find(|member| member.id == id).cloned();
        let member = added.map(|member| pb::Member {
            name: String::new(),
            client_ur_ls: Vec::new(),
            ..member
        });
        Ok(Response::new(pb::MemberAddResponse { header: self.header(), member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.admit(&request, Rpc::MemberRemove).await?;
        let id = request.into_inner().id;
        let (members, _) = self.change(Change::Remove { id }).await?;
        Ok(Response::new(pb::MemberRemoveResponse { header: self.header(), members }))
    }

    // Differs from etcd: URLs are checked as they are when a member is added, because a member
    // whose URLs are none can be reached by nobody.
    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.admit(&request, Rpc::MemberUpdate).await?;
        let pb::MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let peer_urls = peer_urls(&peer_ur_ls)?;
        let (members, _) = self.change(Change::Update { id, peer_urls }).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.admit(&request, Rpc::MemberPromote).await?;
        let id = request.into_inner().id;
        let (members, _) = self.change(Change::Promote { id }).await?;
        Ok(Response::new(pb::MemberPromoteResponse { header: self.header(), members }))
    }
}

//! The other members, as this one reaches them.
//!
//! Owns: the connections, one set to each member, and who is named in each request. Must not
//! know: what the messages decide. A newcomer's trap: three connections go to each member, so that
//! a heartbeat never waits behind a megabyte of entries, nor those behind a snapshot.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::tasks;
use kijabi_proto::command::membership_client::MembershipClient;
use kijabi_proto::command::{MembersRequest, MembersResponse};
use kijabi_proto::etcdserverpb as etcd;
use kijabi_proto::peer as pb;
use kijabi_proto::peer::peer_client::PeerClient;
use parking_lot::{Mutex, RwLock};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::activity::Activity;
use super::admit::{CLUSTER_ID, SENDER, TARGET};
use super::connect::{self, Addresses, Dial, Patience};
use super::forward::Forwarder;
use super::wire;
use crate::consensus::types::Vote;
use crate::crew::Spawner;
use crate::identity::Identity;
use crate::limits::PEER_MESSAGE_BYTES_MAX;

/// A client for one connection.
pub(crate) type Client = PeerClient<InterceptedService<Channel, Named>>;

/// The connections to one member. Cloning shares.
#[derive(Clone)]
pub(crate) struct Link {
    /// For what is short and urgent: heartbeats, votes, forwarded requests.
    pub(crate) control: Client,
    /// On the same connection: who the members are.
    membership: MembershipClient<Channel>,
    /// For entries.
    pub(crate) log: Client,
    /// For snapshots.
    pub(crate) bulk: Client,
    /// On the first connection: batches, if that member leads.
    pub(crate) batches: Forwarder,
}

/// All other members. Cloning shares.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    identity: Identity,
    dial: Dial,
    patience: Patience,
    activity: Activity,
    /// Raft's, which the connections for its messages belong to.
    crew: Spawner,
    links: Mutex<BTreeMap<u64, (Addresses, Link)>>,
}

/// Writes the ids into each request.
#[derive(Clone)]
pub(crate) struct Named {
    cluster: MetadataValue<Ascii>,
    sender: MetadataValue<Ascii>,
    target: MetadataValue<Ascii>,
}

impl tonic::service::Interceptor for Named {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER_ID, self.cluster.clone());
        metadata.insert(SENDER, self.sender.clone());
        metadata.insert(TARGET, self.target.clone());
        Ok(request)
    }
}

// === impl Peers ===

impl Peers {
    pub(crate) fn new(
        identity: Identity,
        dial: Dial,
        patience: Patience,
        activity: Activity,
        crew: Spawner,
    ) -> Self {
        let links = Mutex::default();
        Self(Arc::new(Inner { identity, dial, patience, activity, crew, links }))
    }

    /// Which of them there are connections to.
    pub(crate) fn activity(&self) -> &Activity {
        &self.0.activity
    }

    /// The connections to a member. If its URLs have changed, whoever has them already is led to
    /// the new ones, too: Raft keeps its own for as long as the member is one.
    pub(crate) fn link(&self, target: u64, urls: &[String]) -> Link {
        let mut links = self.0.links.lock();
        if let Some((known, link)) = links.get(&target) {
            if *known.read() != urls {
                *known.write() = urls.to_vec();
            }
            return link.clone();
        }
        let addresses = Arc::new(RwLock::new(urls.to_vec()));
        let link = self.connect(target, &addresses);
        links.insert(target, (addresses, link.clone()));
        link
    }

    /// Forgets the connections to members that are none any more.
    pub(crate) fn keep(&self, is_member: impl Fn(u64) -> bool) {
        self.0.links.lock().retain(|id, _| is_member(*id));
    }

    fn connect(&self, target: u64, urls: &Addresses) -> Link {
        let named = Named {
            cluster: hexadecimal(self.0.identity.cluster_id),
            sender: hexadecimal(self.0.identity.member_id),
            target: hexadecimal(target),
        };
        let (plain, activity) = (Arc::clone(&self.0.dial), self.0.activity.clone());
        let counting: Dial = Arc::new(move |url| {
            let (connecting, activity) = (plain(url), activity.clone());
            Box::pin(async move { Ok(activity.counted(target, connecting.await?)) })
        });
        let raft = || Some(self.0.crew.clone());
        let dial =
            |crew| connect::channel(Arc::clone(urls), Arc::clone(&counting), self.0.patience, crew);
        let client = |channel| {
            PeerClient::with_interceptor(channel, named.clone())
                .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
                .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
        };
        let channel = dial(raft());
        let membership = MembershipClient::new(channel.clone());
        let control = client(channel);
        Link {
            batches: Forwarder::new(control.clone(), self.0.crew.clone()),
            control,
            membership,
            log: client(dial(raft())),
            bulk: client(dial(None)),
        }
    }
}

fn hexadecimal(id: u64) -> MetadataValue<Ascii> {
    format!("{id:x}").parse().expect("hexadecimal digits are ASCII")
}

/// A request with a deadline that the receiver knows, too.
fn within<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Ends a call that takes longer than `limit`: the transport's own deadline needs an answer of
/// the other side.
pub(crate) async fn call<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_elapsed) => Err(Status::deadline_exceeded("the member did not answer in time")),
    }
}

// === impl Link ===

impl Link {
    /// Who the members are, as that member knows them.
    pub(crate) async fn members(&self, limit: Duration) -> Result<MembersResponse, Status> {
        let mut client = self.membership.clone();
        call(limit, client.members(within(MembersRequest::default(), limit))).await
    }

    pub(crate) async fn read_index(&self, limit: Duration) -> Result<u64, Status> {
        let mut client = self.control.clone();
        let request = within(pb::ReadIndexRequest {}, limit);
        Ok(call(limit, client.read_index(request)).await?.index)
    }

    pub(crate) async fn lease_renew(&self, id: i64, limit: Duration) -> Result<i64, Status> {
        let mut client = self.control.clone();
        let request = within(pb::LeaseRenewRequest { id }, limit);
        Ok(call(limit, client.lease_renew(request)).await?.ttl)
    }

    pub(crate) async fn lease_time_to_live(
        &self,
        request: etcd::LeaseTimeToLiveRequest,
        limit: Duration,
    ) -> Result<etcd::LeaseTimeToLiveResponse, Status> {
        let mut client = self.control.clone();
        call(limit, client.lease_time_to_live(within(request, limit))).await
    }

    /// Makes the connection for entries while there is nothing to send over it yet.
    pub(crate) fn greet(&self, limit: Duration) {
        let mut client = self.log.clone();
        tasks::spawn("greet", async move {
            // Whoever needs the connection next meets the same error, and says so.
            let _ = call(limit, client.greet(pb::GreetRequest {})).await;
        });
    }

    /// Whether the leader of this vote is gone, as that member sees it.
    pub(crate) async fn gone(
        &self,
        leader: &Vote,
        limit: Duration,
    ) -> Result<pb::GoneResponse, Status> {
        let mut client = self.control.clone();
        let request = pb::GoneRequest { leader: Some(wire::from_vote(leader)) };
        call(limit, client.gone(within(request, limit))).await
    }

    pub(crate) async fn digest(
        &self,
        index: u64,
        limit: Duration,
    ) -> Result<pb::DigestResponse, Status> {
        let mut client = self.control.clone();
        call(limit, client.digest(within(pb::DigestRequest { index }, limit))).await
    }

    /// The parts of the member's state, without a limit of time for the whole.
    pub(crate) async fn fetch_state(&self) -> Result<tonic::Streaming<pb::SnapshotPart>, Status> {
        let mut client = self.bulk.clone();
        Ok(client.fetch_state(Request::new(pb::FetchStateRequest {})).await?.into_inner())
    }
}

/// Whether a call failed before anything was sent: what it asked for has not been done.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

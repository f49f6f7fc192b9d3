//! Locks and elections of a member, over gRPC.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod web;

use std::time::Duration;

use kijabi_base::tasks;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::kv_client::KvClient;
use kijabi_proto::etcdserverpb::lease_client::LeaseClient;
use kijabi_proto::v3electionpb as election;
use kijabi_proto::v3electionpb::election_client::ElectionClient;
use kijabi_proto::v3lockpb as lock;
use kijabi_proto::v3lockpb::lock_client::LockClient;
use kijabi_server::Member;
use tonic::transport::Channel;
use tonic::{Code, Status};
use web::{PATIENCE, config};

struct Clients {
    member: Member,
    _dir: tempfile::TempDir,
    channel: Channel,
}

impl Clients {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let member = Member::start(config(dir.path())).await.unwrap();
        let channel = Channel::from_shared(member.client_urls()[0].clone()).unwrap();
        let channel = channel.connect().await.unwrap();
        Self { member, _dir: dir, channel }
    }

    async fn grant(&self, id: i64, ttl: i64) {
        let request = pb::LeaseGrantRequest { ttl, id };
        LeaseClient::new(self.channel.clone()).lease_grant(request).await.unwrap();
    }

    async fn revoke(&self, id: i64) {
        let request = pb::LeaseRevokeRequest { id };
        LeaseClient::new(self.channel.clone()).lease_revoke(request).await.unwrap();
    }

    async fn lock(&self, lease: i64) -> Result<lock::LockResponse, Status> {
        let request = lock::LockRequest { name: b"l".as_slice().into(), lease };
        let mut client = LockClient::new(self.channel.clone());
        Ok(client.lock(request).await?.into_inner())
    }

    /// Asks for the lock in the background and returns when it is in the queue.
    async fn queue(
        &self,
        lease: i64,
    ) -> tokio::task::JoinHandle<Result<lock::LockResponse, Status>> {
        let mut client = LockClient::new(self.channel.clone());
        let request = lock::LockRequest { name: b"l".as_slice().into(), lease };
        let before = self.keys("l/").await.len();
        let waiting = tasks::spawn("waiting for a lock", async move {
            client.lock(request).await.map(tonic::Response::into_inner)
        });
        self.until(|keys| keys.len() > before).await;
        waiting
    }

    async fn unlock(&self, key: &[u8]) {
        let request = lock::UnlockRequest { key: key.to_vec().into() };
        LockClient::new(self.channel.clone()).unlock(request).await.unwrap();
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().unwrap() += 1;
        let request = pb::RangeRequest {
            key: prefix.as_bytes().to_vec().into(),
            range_end: end.into(),
            ..Default::default()
        };
        let found = KvClient::new(self.channel.clone()).range(request).await.unwrap().into_inner();
        found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }

    async fn until(&self, reached: impl Fn(&[String]) -> bool) {
        let polling = async {
            while !reached(&self.keys("l/").await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_goes_from_one_to_the_next_in_order() {
    let clients = Clients::start().await;
    for lease in [1, 2, 3] {
        clients.grant(lease, 600).await;
    }
    let first = clients.lock(1).await.unwrap();
    assert_eq!(first.key, "l/1");
    assert_eq!(clients.lock(1).await.unwrap().key, "l/1", "the same lease holds it already");
    let second = clients.queue(2).await;
    let third = clients.queue(3).await;
    assert!(!second.is_finished() && !third.is_finished());
    clients.unlock(b"l/1").await;
    assert_eq!(second.await.unwrap().unwrap().key, "l/2");
    assert!(!third.is_finished());
    clients.unlock(b"l/2").await;
    let third = third.await.unwrap().unwrap();
    assert!(third.header.unwrap().revision > first.header.unwrap().revision);
    clients.unlock(b"l/gone").await;
    clients.member.shutdown().await;
}

/// etcd#11456: a waiter whose lease has gone must not be told that it holds the lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_dies_while_it_waits_gets_no_lock() {
    let clients = Clients::start().await;
    clients.grant(1, 600).await;
    clients.grant(2, 600).await;
    clients.lock(1).await.unwrap();
    let waiting = clients.queue(2).await;
    clients.revoke(2).await;
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, "mutex: session is expired"));
    assert_eq!(clients.keys("l/").await, ["l/1"]);
    let unknown = clients.lock(4242).await.unwrap_err();
    let expected = (Code::Unknown, "etcdserver: requested lease not found");
    assert_eq!((unknown.code(), unknown.message()), expected);
    clients.member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_leaves_the_queue() {
    let clients = Clients::start().await;
    for lease in [1, 2, 3] {
        clients.grant(lease, 600).await;
    }
    clients.lock(1).await.unwrap();
    let second = clients.queue(2).await;
    let third = clients.queue(3).await;
    second.abort();
    clients.until(|keys| keys == ["l/1", "l/3"]).await;
    clients.unlock(b"l/1").await;
    assert_eq!(third.await.unwrap().unwrap().key, "l/3");
    clients.member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stops_sends_its_waiters_elsewhere() {
    let clients = Clients::start().await;
    clients.grant(1, 600).await;
    clients.grant(2, 600).await;
    clients.lock(1).await.unwrap();
    let waiting = clients.queue(2).await;
    clients.member.shutdown().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_has_one_leader_who_speaks_for_itself() {
    let clients = Clients::start().await;
    clients.grant(1, 600).await;
    clients.grant(2, 600).await;
    let elections = ElectionClient::new(clients.channel.clone());
    let name = bytes::Bytes::from_static(b"e");
    let campaign = |lease: i64, value: &'static [u8]| {
        let (mut elections, name) = (elections.clone(), name.clone());
        async move {
            let request = election::CampaignRequest { name, lease, value: value.into() };
            let response = elections.campaign(request).await?;
            Ok::<_, Status>(response.into_inner().leader.unwrap())
        }
    };
    let leader = async || {
        let request = election::LeaderRequest { name: name.clone() };
        let response = elections.clone().leader(request).await?.into_inner();
        Ok::<_, Status>(response.kv.unwrap().value)
    };
    assert_eq!(leader().await.unwrap_err().message(), "election: no leader");

    let request = election::LeaderRequest { name: name.clone() };
    let mut observed = elections.clone().observe(request).await.unwrap().into_inner();
    let mut seen = async || {
        let next = tokio::time::timeout(PATIENCE, observed.message()).await.unwrap();
        next.unwrap().unwrap().kv.unwrap().value
    };
    let first = campaign(1, b"one").await.unwrap();
    assert_eq!((leader().await.unwrap(), seen().await), ("one".into(), "one".into()));
    let again = campaign(1, b"uno").await.unwrap();
    assert_eq!((again.rev, seen().await), (first.rev, "uno".into()));

    let second = tasks::spawn("campaign", campaign(2, b"two"));
    let proclaim = async |leader: &election::LeaderKey, value: &'static [u8]| {
        let leader = Some(leader.clone());
        let request = election::ProclaimRequest { leader, value: value.into() };
        elections.clone().proclaim(request).await
    };
    proclaim(&first, b"ein").await.unwrap();
    assert_eq!(seen().await, "ein");
    let resign = election::ResignRequest { leader: Some(first.clone()) };
    elections.clone().resign(resign.clone()).await.unwrap();
    let second = second.await.unwrap().unwrap();
    assert_eq!(seen().await, "two");
    // The one who led before can neither speak nor resign for the one who leads now.
    let refused = proclaim(&first, b"eins").await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, "election: not leader"));
    elections.clone().resign(resign).await.unwrap();
    assert_eq!(leader().await.unwrap(), "two");
    clients.revoke(2).await;
    assert_eq!(leader().await.unwrap_err().message(), "election: no leader");
    assert_eq!(proclaim(&second, b"zwei").await.unwrap_err().message(), "election: not leader");
    let nobody = election::ResignRequest { leader: None };
    let refused = elections.clone().resign(nobody).await.unwrap_err();
    assert_eq!(refused.message(), "\"leader\" field must be provided");
    clients.member.shutdown().await;
}

/// etcdctl builds its locks and elections of keys; they are the same as the services'.
#[tokio::test(flavor = "multi_thread")]
async fn etcdctls_locks_and_elections_are_the_services() {
    let clients = Clients::start().await;
    clients.grant(1, 600).await;
    clients.lock(1).await.unwrap();
    let etcdctl = |arguments: &[&str]| {
        tokio::process::Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &clients.member.client_urls()[0]])
            .args(arguments)
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let waiting = etcdctl(&["lock", "l", "echo", "held"]);
    clients.until(|keys| keys.len() == 2).await;
    clients.unlock(b"l/1").await;
    let output = tokio::time::timeout(PATIENCE, waiting.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "held\n");
    assert!(clients.keys("l/").await.is_empty());

    let mut observed = ElectionClient::new(clients.channel.clone())
        .observe(election::LeaderRequest { name: b"e".as_slice().into() })
        .await
        .unwrap()
        .into_inner();
    let mut leading = etcdctl(&["elect", "e", "p1"]);
    let seen = tokio::time::timeout(PATIENCE, observed.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(seen.kv.unwrap().value, "p1");
    leading.kill().await.unwrap();
    clients.member.shutdown().await;
}

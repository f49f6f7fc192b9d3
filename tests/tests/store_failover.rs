//! A leader whose process is gone is replaced long before it would have been silent for too long.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may")]

use std::time::Duration;

use bytes::Bytes;
use kijabi_proto::etcdserverpb::PutRequest;
use kijabi_tests::etcd::Client;
use kijabi_tests::faults::{Cluster, ClusterProgram};

/// So long a silent leader is waited for (and a part of it for the first one).
const ELECTION_TIMEOUT: &str = "--election-timeout=20000";
/// Nobody who waits for that is done by then.
const LIMIT: Duration = Duration::from_secs(14);
/// Each of the two that are left looks five times at first.
const LOOKS: u64 = 12;

async fn start() -> (Cluster, usize) {
    let flags = [ELECTION_TIMEOUT, "--heartbeat-interval=500"];
    let cluster = Cluster::start(ClusterProgram::Kijabi, 3, &flags).await;
    let leader = cluster.leader().await.expect("a cluster that serves has a leader");
    (cluster, leader)
}

/// Writes until that succeeds: too early, it is answered that there is no leader.
async fn write(client: &Client) {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let put = PutRequest { key, value, ..Default::default() };
    while client.kv().put(put.clone()).await.is_err() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_takes_its_time_to_be_gone_is_replaced_at_once_then() {
    let (mut cluster, leader) = start().await;
    let other = cluster.connect((leader + 1) % 3).await.expect("a member listens");
    let replaced = async {
        cluster.kill_slowly(leader, LOOKS).await;
        write(&other).await;
    };
    tokio::time::timeout(LIMIT, replaced).await.expect("a write under another leader");
}

/// The one that is to lead has just come back, and got the end of the log in one probe.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_replaced_by_a_member_that_it_has_nothing_to_send_to() {
    let (mut cluster, leader) = start().await;
    let mut followers = Vec::new();
    for member in (0..3).filter(|member| *member != leader) {
        let status = cluster.status(member).await.expect("a member that serves");
        followers.push((status.header.expect("each answer has one").member_id, member));
    }
    followers.sort_unstable();
    // The one with the greater id asks for votes if both logs are as long.
    let (staying, late) = (followers[0].1, followers[1].1);
    let other = cluster.connect(staying).await.expect("a member listens");
    cluster.kill(late);
    for _ in 0..10 {
        write(&other).await;
    }
    cluster.launch(late);
    cluster.wait_until_served().await;
    cluster.kill(leader);
    tokio::time::timeout(LIMIT, write(&other)).await.expect("a write under another leader");
}

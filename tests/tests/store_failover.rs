//! A leader whose process is gone is replaced long before it would have been silent for too long.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may")]

use std::time::Duration;

use bytes::Bytes;
use kijabi_proto::etcdserverpb::PutRequest;
use kijabi_tests::faults::{Cluster, ClusterProgram};

/// So long a silent leader is waited for (and a part of it for the first one).
const ELECTION_TIMEOUT: &str = "--election-timeout=20000";
/// Nobody who waits for that is done by then.
const LIMIT: Duration = Duration::from_secs(14);
/// Each of the two that are left looks five times at first.
const LOOKS: u64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_takes_its_time_to_be_gone_is_replaced_at_once_then() {
    let flags = [ELECTION_TIMEOUT, "--heartbeat-interval=500"];
    let mut cluster = Cluster::start(ClusterProgram::Kijabi, 3, &flags).await;
    let leader = cluster.leader().await.expect("a cluster that serves has a leader");
    let other = cluster.connect((leader + 1) % 3).await.expect("a member listens");
    let replaced = async {
        cluster.kill_slowly(leader, LOOKS).await;
        let mut kv = other.kv();
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
        let put = PutRequest { key, value, ..Default::default() };
        // A write that comes too early is answered that there is no leader.
        while kv.put(put.clone()).await.is_err() {}
    };
    tokio::time::timeout(LIMIT, replaced).await.expect("a write under another leader");
}

//! What is left of leases outlives leaders and restarts; a lease that is kept alive never ends, and
//! one that is not ends however often leaders change.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use etcd_client::{Client, PutOptions};
use kijabi_base::{clock, tasks};
use kijabi_server::Member;
use support::{Cluster, PATIENCE, eventually};

const TTL: i64 = 60;

/// What is left of a lease, from any member that can tell.
async fn left(client: &mut Client, lease: i64) -> i64 {
    let deadline = clock::now() + PATIENCE;
    loop {
        match client.lease_time_to_live(lease, None).await {
            Ok(answer) => return answer.ttl(),
            Err(error) => assert!(clock::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_left(client: &Client, lease: i64, seconds: i64) {
    eventually("time passes", || {
        let mut client = client.clone();
        async move { left(&mut client, lease).await <= seconds }
    })
    .await;
}

async fn grant_with_key(client: &mut Client, ttl: i64, key: &str) -> i64 {
    let lease = client.lease_grant(ttl, None).await.unwrap().id();
    client.put(key, "x", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    lease
}

/// Hands the lead to another member; whether it worked.
async fn hand_over(cluster: &Cluster, ids: &[u64]) -> bool {
    let leader = cluster.leader().await;
    let target = ids[(leader + 1) % ids.len()];
    cluster.client(leader).await.move_leader(target).await.is_ok()
}

async fn ids(cluster: &Cluster) -> Vec<u64> {
    let mut ids = Vec::new();
    for number in cluster.running() {
        let status = cluster.client(number).await.status().await.unwrap();
        ids.push(status.header().unwrap().member_id());
    }
    ids
}

/// LEASE-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_knows_what_is_left() {
    let mut cluster = Cluster::start(3).await;
    let ids = ids(&cluster).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client((leader + 1) % 3).await;
    let lease = client.lease_grant(TTL, None).await.unwrap().id();
    let kept = client.lease_grant(TTL, None).await.unwrap().id();
    until_left(&client, lease, TTL - 5).await;
    let (mut keeper, mut answers) = client.lease_keep_alive(kept).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), TTL);
    assert!(hand_over(&cluster, &ids).await);
    // What was left, and at most the time for which leases are extended.
    assert!((TTL - 20..TTL - 2).contains(&left(&mut client, lease).await));
    assert!(left(&mut client, kept).await > TTL - 5, "a renewal was forgotten");
    // A member that stops and comes back knows, too, and so does one that led before.
    let leader = cluster.leader().await;
    cluster.stop(leader).await;
    let other = cluster.leader().await;
    let mut client = cluster.client(other).await;
    assert!((TTL - 20..TTL - 2).contains(&left(&mut client, lease).await));
    cluster.restart(leader).await;
    cluster.client(other).await.move_leader(ids[leader]).await.unwrap();
    let mut client = cluster.client(leader).await;
    assert!((TTL - 25..TTL - 1).contains(&left(&mut client, lease).await));
    cluster.shutdown().await;
}

/// LEASE-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_members_keeps_what_is_left() {
    for size in [1, 3] {
        let mut cluster = Cluster::start(size).await;
        let mut client = cluster.client(0).await;
        let lease = client.lease_grant(TTL, None).await.unwrap().id();
        until_left(&client, lease, TTL - 7).await;
        for number in 0..size {
            cluster.stop(number).await;
        }
        let starting = cluster.configs.iter().cloned().map(Member::start);
        let started = futures::future::join_all(starting).await;
        cluster.members = started.into_iter().map(|member| Some(member.unwrap())).collect();
        let mut client = cluster.client(0).await;
        let left = left(&mut client, lease).await;
        assert!((TTL - 20..TTL - 2).contains(&left), "{left} s left with {size} members");
        cluster.shutdown().await;
    }
}

/// etcd#9888. Leaders change about every second.
#[tokio::test(flavor = "multi_thread")]
async fn leases_end_if_and_only_if_nobody_keeps_them_however_often_leaders_change() {
    let cluster = Cluster::start(3).await;
    let ids = ids(&cluster).await;
    let mut client = cluster.client(0).await;
    let kept = grant_with_key(&mut client, 5, "kept").await;
    grant_with_key(&mut client, 4, "left").await;
    let keeper = tasks::spawn("keeper", {
        let client = client.clone();
        async move { keep(client, kept).await }
    });
    let mut changes = 0;
    while client.get("left", None).await.unwrap().count() == 1 {
        changes += i32::from(hand_over(&cluster, &ids).await);
        assert!(changes < 30, "it does not end");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(changes >= 3, "it ended after {changes} changes of leader");
    assert_eq!(client.get("kept", None).await.unwrap().count(), 1, "it was kept alive");
    keeper.abort();
    let gone = || {
        let mut client = client.clone();
        async move { client.get("kept", None).await.unwrap().count() == 0 }
    };
    eventually("nobody keeps it any more", gone).await;
    cluster.shutdown().await;
}

/// Keeps a lease alive until it is told to stop.
async fn keep(mut client: Client, lease: i64) {
    loop {
        let Ok((mut keeper, mut answers)) = client.lease_keep_alive(lease).await else { continue };
        while keeper.keep_alive().await.is_ok() {
            match answers.message().await {
                Ok(Some(answer)) => assert_eq!(answer.ttl(), 5, "the lease ended"),
                _ => break,
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_leases_are_renewed_together() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).await;
    let mut leases = Vec::new();
    for _ in 0..64 {
        leases.push(client.lease_grant(TTL, None).await.unwrap().id());
    }
    let before = client.status().await.unwrap().raft_index();
    let keeping = leases.iter().map(|lease| {
        let mut client = client.clone();
        async move {
            let (mut keeper, mut answers) = client.lease_keep_alive(*lease).await.unwrap();
            for _ in 0..20 {
                keeper.keep_alive().await.unwrap();
                assert_eq!(answers.message().await.unwrap().unwrap().ttl(), TTL);
            }
        }
    });
    futures::future::join_all(keeping).await;
    let entries = client.status().await.unwrap().raft_index() - before;
    assert!(entries < 64 * 20 / 2, "{entries} entries for {} renewals", 64 * 20);
    cluster.shutdown().await;
}

//! How long a member whose disk was wiped takes to catch up. A measurement, run by hand:
//! `KEYS=1000000 cargo test --release -p kijabi-server --test catch_up -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use etcd_client::{GetOptions, MemberAddOptions, Txn, TxnOp};
use kijabi_base::{clock, tasks};
use kijabi_server::Member;
use support::Cluster;

/// Keys written in one transaction.
const BATCH: usize = 100;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_wiped_member_catches_up() {
    let keys: usize = std::env::var("KEYS").map_or(1_000_000, |keys| keys.parse().unwrap());
    let mut cluster = Cluster::start(3).await;
    let wiped = (cluster.leader().await + 1) % 3;
    let through = cluster.leader().await;
    let began = clock::now();
    let mut writers = Vec::new();
    for writer in 0..8 {
        let mut client = cluster.client(through).await;
        writers.push(tasks::spawn("test", async move {
            for batch in (writer..keys / BATCH).step_by(8) {
                let put = |number| {
                    TxnOp::put(format!("key/{:012}", batch * BATCH + number), [b'x'; 256], None)
                };
                let puts: Vec<TxnOp> = (0..BATCH).map(put).collect();
                client.txn(Txn::new().and_then(puts)).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    println!("{keys} keys of 256 bytes written in {:?}", began.elapsed());

    let status = cluster.client(wiped).await.status().await.unwrap();
    let old_id = status.header().unwrap().member_id();
    cluster.stop(wiped).await;
    std::fs::remove_dir_all(&cluster.configs[wiped].data_dir).unwrap();
    let began = clock::now();
    let mut client = cluster.client(through).await;
    client.member_remove(old_id).await.unwrap();
    let url = cluster.configs[wiped].listen_peer_urls.clone();
    let options = MemberAddOptions::new().with_is_learner();
    let added = client.member_add(url, Some(options)).await.unwrap();
    let id = added.member().unwrap().id();
    let config = &mut cluster.configs[wiped];
    config.initial_cluster_existing = true;
    let starting = tasks::spawn("test", Member::start(config.clone()));
    while client.member_promote(id).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let voted = began.elapsed();
    cluster.members[wiped] = Some(starting.await.unwrap().unwrap());
    let options = GetOptions::new().with_prefix().with_count_only();
    let count = cluster.client(wiped).await.get("key/", Some(options)).await.unwrap().count();
    assert_eq!(usize::try_from(count).unwrap(), keys / BATCH * BATCH);
    println!(
        "a wiped member votes again after {voted:?} and serves all after {:?}",
        began.elapsed()
    );
    cluster.shutdown().await;
}

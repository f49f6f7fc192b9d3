//! A member whose data is not what the others have.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp};
use kijabi_disk::state::State;
use kijabi_machine::state::{StateBatch, StateView as _, Table};
use kijabi_proto::mvccpb::KeyValue;
use prost::Message as _;
use support::{Cluster, eventually};

/// Changes the stored value of `key` behind the back of a stopped member.
fn damage(cluster: &Cluster, number: usize, key: &str) {
    let snap = cluster.configs[number].data_dir.join("member/snap");
    let names = std::fs::read_dir(snap).unwrap().map(|entry| entry.unwrap().path());
    let path = names
        .into_iter()
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("state-"));
    let state = State::open(&path.unwrap()).unwrap();
    let mut batch = StateBatch::default();
    state
        .scan(Table::Key, &[], None, &mut |row, record| {
            let mut kv = KeyValue::decode(record).unwrap();
            if kv.key == key {
                kv.value = "damaged".into();
                batch.put(Table::Key, row.to_vec(), kv.encode_to_vec());
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert!(!batch.is_empty());
    state.write(&batch).unwrap();
    state.flush().unwrap();
}

async fn value(client: &mut Client, key: &str) -> Result<String, String> {
    let serializable = GetOptions::new().with_serializable();
    match client.get(key, Some(serializable)).await {
        Ok(answer) => Ok(answer.kvs()[0].value_str().unwrap().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes something whose outcome depends on the value of `k`.
async fn write_by_value(client: &mut Client) {
    let txn = Txn::new()
        .when([Compare::value("k", CompareOp::Equal, "right")])
        .and_then([TxnOp::put("branch", "then", None)])
        .or_else([TxnOp::put("branch", "else", None)]);
    client.txn(txn).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_other_data_stops_serving_and_gets_the_right_one() {
    let mut cluster = Cluster::start_with(3, |config| {
        config.corrupt_check_interval = Duration::from_millis(100);
    })
    .await;
    let odd = (cluster.leader().await + 1) % 3;
    cluster.client(odd).await.put("k", "right", None).await.unwrap();
    cluster.stop(odd).await;
    damage(&cluster, odd, "k");
    cluster.restart(odd).await;
    // Nothing shows until something depends on it.
    let mut client = cluster.client(odd).await;
    assert_eq!(value(&mut client, "k").await.unwrap(), "damaged");
    let mut other = cluster.client((odd + 1) % 3).await;
    write_by_value(&mut other).await;
    eventually("the right data came back", || async {
        let mut client = cluster.client(odd).await;
        match value(&mut client, "k").await {
            Ok(value) => value == "right",
            Err(refused) => {
                assert!(refused.contains("etcdserver: corrupt cluster"), "{refused}");
                false
            }
        }
    })
    .await;
    assert_eq!(value(&mut client, "branch").await.unwrap(), "then");
    // It is a member like any other, and the cluster has no alarm.
    for number in 0..20 {
        client.put("k", number.to_string(), None).await.unwrap();
    }
    let mut hashes = Vec::new();
    for number in 0..3 {
        let mut client = cluster.client(number).await;
        client.get("k", None).await.unwrap();
        hashes.push(client.hash_kv(0).await.unwrap().hash());
        assert!(client.status().await.unwrap().errors().is_empty());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    // Also after a restart, which finds the fetched state.
    cluster.stop(odd).await;
    cluster.restart(odd).await;
    assert_eq!(value(&mut cluster.client(odd).await, "k").await.unwrap(), "19");
    cluster.shutdown().await;
}

/// Nobody can tell which of two is right: nothing more is written until an operator decides.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_the_alarm_is_raised_and_writes_end() {
    let mut cluster = Cluster::start_with(2, |config| {
        config.corrupt_check_interval = Duration::from_millis(100);
    })
    .await;
    cluster.client(1).await.put("k", "right", None).await.unwrap();
    cluster.stop(1).await;
    damage(&cluster, 1, "k");
    cluster.restart(1).await;
    let mut client = cluster.client(0).await;
    write_by_value(&mut client).await;
    eventually("the alarm is on", || async {
        let errors = cluster.client(0).await.status().await.unwrap().errors().to_vec();
        errors.iter().any(|error| error.contains("CORRUPT"))
    })
    .await;
    let refused = client.put("k", "v", None).await.unwrap_err().to_string();
    assert!(refused.contains("etcdserver: corrupt cluster"), "{refused}");
    cluster.shutdown().await;
}

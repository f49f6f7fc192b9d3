//! Clients that others wrote, through their own examples: two Python packages and one of npm
//! (`scripts/clients.sh` fetches them), and the crate `etcd-client`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, Compare, CompareOp, DeleteOptions, EventType,
    GetOptions, LockOptions, ProclaimOptions, PutOptions, ResignOptions, Txn, TxnOp, TxnOpResponse,
    WatchOptions,
};
use kijabi_tests::etcd::{Kind, Member};
use kijabi_tests::kubectl::clients_folder;
use kijabi_tests::process::succeed;

fn examples(interpreter: &str, script: &str, package: &str) {
    let (mut path, mut packages) = ("PYTHONPATH", clients_folder().join(package));
    if interpreter == "node" {
        (path, packages) = ("NODE_PATH", packages.join("node_modules"));
    }
    assert!(packages.exists(), "{} is missing: run scripts/clients.sh", packages.display());
    let member = Member::start(Kind::Ours);
    let endpoint = member.endpoint();
    let port = endpoint.rsplit(':').next().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(script);
    let mut command = Command::new("timeout");
    command.args(["120", interpreter]).arg(script).arg(port).env(path, packages);
    assert_eq!(succeed(&mut command), "all well\n");
}

#[test]
fn pythons_etcd3() {
    examples("python3", "etcd3_examples.py", "python-etcd3-0.12");
}

#[test]
fn pythons_aetcd() {
    examples("python3", "aetcd_examples.py", "python-aetcd-1.0");
}

#[test]
fn npms_etcd3() {
    examples("node", "etcd3_examples.js", "npm-etcd3-1.1");
}

async fn connect(member: &Member) -> Client {
    Client::connect([member.endpoint()], None).await.unwrap()
}

/// The crate's example `kv`.
#[tokio::test(flavor = "multi_thread")]
async fn rusts_etcd_client_kv() {
    let member = Member::start(Kind::Ours);
    let mut client = connect(&member).await;
    client.put("foo", "bar", None).await.unwrap();
    let alice = client.put("alice", "bob", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert!(alice.prev_key().is_none());
    let found = client.get("foo", None).await.unwrap();
    assert_eq!(found.kvs()[0].value_str().unwrap(), "bar");
    for (key, value) in [("foo1", "bar1"), ("foo2", "bar2"), ("foo3", "bar3")] {
        client.put(key, value, None).await.unwrap();
    }
    let prefix = client.get("foo", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(prefix.count(), 4);
    let from = GetOptions::new().with_from_key();
    assert_eq!(client.get("foo2", Some(from)).await.unwrap().count(), 2);
    let everything = GetOptions::new().with_all_keys().with_keys_only();
    let keys = client.get("", Some(everything)).await.unwrap();
    assert!(keys.kvs().iter().all(|kv| kv.value().is_empty()) && keys.count() == 5);
    let with_prev = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("foo", Some(with_prev)).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (4, 4));
    let txn = Txn::new()
        .when(vec![Compare::value("alice", CompareOp::Equal, "bob")])
        .and_then(vec![
            TxnOp::put("alice", "carol", Some(PutOptions::new().with_prev_key())),
            TxnOp::get("alice", None),
            TxnOp::txn(Txn::new().and_then(vec![TxnOp::delete("foo", None)])),
        ])
        .or_else(vec![TxnOp::put("never", "x", None)]);
    let answer = client.txn(txn).await.unwrap();
    assert!(answer.succeeded());
    let answers = answer.op_responses();
    let [TxnOpResponse::Put(put), TxnOpResponse::Get(get), TxnOpResponse::Txn(_)] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(put.prev_key().unwrap().value_str().unwrap(), "bob");
    assert_eq!(get.kvs()[0].value_str().unwrap(), "carol");
    client.compact(answer.header().unwrap().revision(), None).await.unwrap();
}

/// The crate's example `watch`.
#[tokio::test(flavor = "multi_thread")]
async fn rusts_etcd_client_watch() {
    let member = Member::start(Kind::Ours);
    let mut client = connect(&member).await;
    let mut stream = client.watch("foo", Some(WatchOptions::new().with_prev_key())).await.unwrap();
    client.put("foo", "bar", None).await.unwrap();
    client.put("foo", "bar2", None).await.unwrap();
    client.delete("foo", None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        for event in stream.message().await.unwrap().unwrap().events() {
            seen.push((event.event_type(), event.prev_kv().map(|kv| kv.value().to_vec())));
        }
    }
    let put = |prev: Option<&str>| (EventType::Put, prev.map(|value| value.as_bytes().to_vec()));
    let expected = [put(None), put(Some("bar")), (EventType::Delete, Some(b"bar2".to_vec()))];
    assert_eq!(seen, expected);
    stream.request_progress().await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().watch_id(), -1);
    let id = 0;
    stream.cancel(id).await.unwrap();
    let canceled = stream.message().await.unwrap().unwrap();
    assert!(canceled.canceled() && canceled.watch_id() == id);
}

/// The crate's examples `lease`, `lock` and `election`.
#[tokio::test(flavor = "multi_thread")]
async fn rusts_etcd_client_leases_locks_and_elections() {
    let member = Member::start(Kind::Ours);
    let mut client = connect(&member).await;
    let lease = client.lease_grant(60, None).await.unwrap();
    let left = client.lease_time_to_live(lease.id(), None).await.unwrap();
    assert!(lease.ttl() == 60 && left.granted_ttl() == 60 && left.ttl() > 0);
    let (mut keeper, mut renewals) = client.lease_keep_alive(lease.id()).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(renewals.message().await.unwrap().unwrap().ttl(), 60);
    assert_eq!(client.leases().await.unwrap().leases()[0].id(), lease.id());

    let locked = client.lock("lock-test", None).await.unwrap();
    client.unlock(locked.key()).await.unwrap();
    let options = LockOptions::new().with_lease(lease.id());
    let locked = client.lock("lock-test2", Some(options)).await.unwrap();
    assert!(locked.key().starts_with(b"lock-test2/"));
    client.unlock(locked.key()).await.unwrap();

    let won = client.campaign("myElection", "123", lease.id()).await.unwrap();
    let leader = won.leader().unwrap().clone();
    assert_eq!((leader.name_str().unwrap(), leader.lease()), ("myElection", lease.id()));
    let as_leader = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("456", Some(as_leader)).await.unwrap();
    let mut observed = client.observe(leader.name()).await.unwrap();
    let first = observed.message().await.unwrap().unwrap();
    assert_eq!(first.kv().unwrap().value_str().unwrap(), "456");
    let known = client.leader("myElection").await.unwrap();
    assert_eq!(known.kv().unwrap().value_str().unwrap(), "456");
    client.resign(Some(ResignOptions::new().with_leader(leader))).await.unwrap();
    assert!(client.leader("myElection").await.is_err());

    client.lease_revoke(lease.id()).await.unwrap();
    assert!(client.lease_keep_alive(lease.id()).await.is_err());
}

/// The crate's examples `maintenance` and `cluster`, as far as one member goes.
#[tokio::test(flavor = "multi_thread")]
async fn rusts_etcd_client_upkeep() {
    let member = Member::start(Kind::Ours);
    let mut client = connect(&member).await;
    client.put("a", "1", None).await.unwrap();
    let options = Some(AlarmOptions::new());
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, options).await.unwrap();
    assert!(alarms.alarms().is_empty());
    let status = client.status().await.unwrap();
    assert!(status.db_size() > 0 && status.version().starts_with("3.6."));
    client.defragment().await.unwrap();
    client.hash().await.unwrap();
    assert_ne!(client.hash_kv(0).await.unwrap().hash(), 0);
    let mut snapshot = client.snapshot().await.unwrap();
    let (mut bytes, mut last) = (0, 0);
    while let Some(part) = snapshot.message().await.unwrap() {
        bytes += part.blob().len();
        last = part.blob().len();
    }
    assert!(bytes > 32 && last == 32, "the SHA-256 comes last");
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members()[0].id(), status.leader());
    let same = client.move_leader(status.leader()).await.unwrap();
    assert!(same.header().is_none());
}

//! Backups of a member in this process: saved, refused, restored, exported.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;
use std::time::Duration;

use etcd_client::{Client, DeleteOptions, GetOptions, PutOptions, WatchOptions};
use kijabi_server::backup::{
    BackupError, Endpoint, HashCheck, Import, NewMember, Restored, Saved, SnapshotFile, export,
    hash_of_endpoint, save,
};
use kijabi_server::{Config, Member};

fn config(data_dir: &Path) -> Config {
    Config {
        data_dir: data_dir.to_owned(),
        listen_client_urls: vec!["http://127.0.0.1:0".into()],
        ..Config::default()
    }
}

async fn start(data_dir: &Path) -> (Member, Client) {
    let member = Member::start(config(data_dir)).await.unwrap();
    let client = Client::connect(member.client_urls(), None).await.unwrap();
    (member, client)
}

fn endpoint(member: &Member) -> Endpoint {
    Endpoint {
        url: member.client_urls()[0].clone(),
        cacert: None,
        cert: None,
        key: None,
        user: None,
        dial_timeout: Duration::from_secs(10),
    }
}

fn new_member(data_dir: &Path) -> NewMember {
    NewMember {
        name: "default".into(),
        initial_cluster: "default=http://localhost:2380".into(),
        initial_cluster_token: "etcd-cluster".into(),
        initial_advertise_peer_urls: "http://localhost:2380".into(),
        data_dir: data_dir.to_owned(),
        wal_dir: None,
        bump_revision: 0,
        mark_compacted: false,
    }
}

fn restore(file: &Path, member: &NewMember) -> Result<Restored, BackupError> {
    let import = Import { path: file.to_owned(), wal_dir: None, check: HashCheck::Required };
    member.make(&import.open()?)
}

/// Everything that clients can see of the keys.
async fn everything(client: &mut Client) -> String {
    let all = GetOptions::new().with_all_keys();
    let keys = client.get("", Some(all)).await.unwrap();
    let leases = client.leases().await.unwrap();
    let leases: Vec<i64> = leases.leases().iter().map(etcd_client::LeaseStatus::id).collect();
    let revision = keys.header().unwrap().revision();
    format!("{revision} {:?} {leases:?}", keys.kvs())
}

async fn fill(client: &mut Client) {
    let lease = client.lease_grant(600, None).await.unwrap().id();
    for number in 0..300 {
        let options = (number % 7 == 0).then(|| PutOptions::new().with_lease(lease));
        client.put(format!("k{:03}", number % 100), vec![7; number * 10], options).await.unwrap();
    }
    client.delete("k01", Some(DeleteOptions::new().with_prefix())).await.unwrap();
    client.compact(150, None).await.unwrap();
    client.put("last", "one", None).await.unwrap();
}

async fn saved(dir: &Path) -> (Member, Client, Saved) {
    let (member, mut client) = start(&dir.join("old")).await;
    fill(&mut client).await;
    let saved = save(&endpoint(&member), &dir.join("backup")).await.unwrap();
    (member, client, saved)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_member_has_everything_and_other_ids() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client, saved) = saved(dir.path()).await;
    let before = everything(&mut client).await;
    let hash = hash_of_endpoint(&endpoint(&member), 0).await.unwrap();
    let old = client.status().await.unwrap().header().unwrap().clone();
    assert_eq!(saved.status.revision, old.revision());
    assert_eq!(saved.status.total_key, 91);
    assert_eq!(saved.status.version, "3.6.0");
    let file = dir.path().join("backup");
    let snapshot = SnapshotFile::open(&file, HashCheck::Required).unwrap();
    assert_eq!(snapshot.status().unwrap(), saved.status);
    assert_eq!(snapshot.hash_kv(0).unwrap().hash, hash.hash);
    // What is written after the snapshot is not in it.
    client.put("late", "x", None).await.unwrap();
    member.shutdown().await;

    let new = dir.path().join("new");
    let restored = restore(&file, &new_member(&new)).unwrap();
    assert_eq!((restored.revision, restored.compacted), (old.revision(), 150));
    let (member, mut client) = start(&new).await;
    assert_eq!(everything(&mut client).await, before);
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), hash.hash);
    let header = client.status().await.unwrap().header().unwrap().clone();
    assert_eq!(
        (header.cluster_id(), header.member_id()),
        (restored.cluster_id, restored.member_id)
    );
    assert_ne!(header.cluster_id(), old.cluster_id());
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members().len(), 1);
    assert_eq!(members.members()[0].name(), "default");
    let next = client.put("next", "x", None).await.unwrap();
    assert_eq!(next.header().unwrap().revision(), old.revision() + 1);
    member.shutdown().await;
    let (member, mut client) = start(&new).await;
    assert_eq!(client.get("next", None).await.unwrap().kvs().len(), 1);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_revision_ends_the_watches_of_the_old_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let (member, _client, saved) = saved(dir.path()).await;
    member.shutdown().await;
    let new = dir.path().join("new");
    let raised =
        NewMember { bump_revision: 1_000_000_000, mark_compacted: true, ..new_member(&new) };
    let restored = restore(&dir.path().join("backup"), &raised).unwrap();
    let revision = saved.status.revision + 1_000_000_000;
    assert_eq!((restored.revision, restored.compacted), (revision, revision));
    let (member, mut client) = start(&new).await;
    assert_eq!(client.get("last", None).await.unwrap().kvs()[0].value(), b"one");
    let options = WatchOptions::new().with_start_revision(saved.status.revision + 1);
    let mut watch = client.watch("last", Some(options)).await.unwrap();
    let canceled = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let message = watch.message().await.unwrap().expect("the watch is canceled first");
            assert!(message.events().is_empty());
            if message.canceled() {
                return message;
            }
        }
    });
    assert_eq!(canceled.await.unwrap().compact_revision(), revision);
    let next = client.put("last", "two", None).await.unwrap();
    assert_eq!(next.header().unwrap().revision(), revision + 1);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_snapshot_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (member, _client, _) = saved(dir.path()).await;
    let old = dir.path().join("old");
    let whole = std::fs::read(dir.path().join("backup")).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (whole[..whole.len() - 32].to_vec(), "snapshot missing hash but --skip-hash-check=false"),
        (whole[..whole.len() / 2].to_vec(), "snapshot missing hash"),
        ([&whole[..4096], &whole[whole.len() - 32..]].concat(), "expected sha256 "),
        (flipped(9000), "expected sha256 "),
        (flipped(whole.len() - 1), "expected sha256 "),
        (Vec::new(), "snapshot missing hash"),
        (b"KIJABISN and so on".to_vec(), "snapshot missing hash"),
        (vec![0x50; 4096 + 32], "expected sha256 "),
    ];
    let file = dir.path().join("damaged");
    let new = dir.path().join("new");
    for (bytes, expected) in cases {
        std::fs::write(&file, bytes).unwrap();
        let error = restore(&file, &new_member(&new)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!new.exists());
    }
    // Without the hash it is the database itself that is looked at.
    for (bytes, expected) in [
        (vec![0x50; 8192], "not a bbolt database: wrong magic number"),
        (whole[..20 * 4096].to_vec(), "not a bbolt database: it is shorter than it says"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let import = Import { path: file.clone(), wal_dir: None, check: HashCheck::Skipped };
        let error = import.open().and_then(|source| new_member(&new).make(&source));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!new.exists());
    }
    let backup = dir.path().join("backup");
    let error = restore(&backup, &new_member(&old)).unwrap_err().to_string();
    assert!(error.contains("not empty or could not be read"), "{error}");
    let other = NewMember { name: "other".into(), ..new_member(&new) };
    let error = restore(&backup, &other).unwrap_err().to_string();
    assert!(error.contains("couldn't find local name \"other\""), "{error}");
    let error = restore(&dir.path().join("missing"), &new_member(&new)).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
    assert!(!new.exists());
    member.shutdown().await;
    let (member, mut client) = start(&old).await;
    assert_eq!(client.get("last", None).await.unwrap().kvs().len(), 1, "the old data is intact");
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_a_stopped_member_is_its_last_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (member, _client, saved) = saved(dir.path()).await;
    let old = dir.path().join("old");
    let error = export(&old, None, &dir.path().join("export")).unwrap_err().to_string();
    assert!(error.contains("is locked by another process"), "{error}");
    member.shutdown().await;
    let exported = export(&old, None, &dir.path().join("export")).unwrap();
    let hash = |name: &str| {
        let file = SnapshotFile::open(&dir.path().join(name), HashCheck::Required).unwrap();
        file.hash_kv(0).unwrap()
    };
    assert_eq!(hash("export"), hash("backup"));
    assert_eq!(exported.status.revision, saved.status.revision);
    let nowhere = dir.path().join("nowhere");
    assert!(matches!(export(&nowhere, None, &nowhere), Err(BackupError::NoMember(_))));
    assert!(!nowhere.exists());
}

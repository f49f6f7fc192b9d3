//! Backups go to etcd and come back: what Debian's etcdctl and etcd make of our snapshots, what we
//! make of a member of theirs that was killed, and three members made from one file.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp};
use kijabi_tests::etcd::{Kind, Member, free_port};
use kijabi_tests::poll;
use kijabi_tests::process::{Program, kijabi, run, succeed};
use tempfile::TempDir;

async fn client(member: &Member) -> Client {
    Client::connect([member.endpoint()], None).await.expect("connect")
}

/// Writes of every kind, with a compaction in the middle.
async fn fill(client: &mut Client, first: u32) {
    let lease = client.lease_grant(3600, None).await.unwrap().id();
    for number in first..first + 120 {
        let leased = (number % 5 == 0).then(|| PutOptions::new().with_lease(lease));
        let value = vec![b'v'; (number as usize % 40) * 50];
        client.put(format!("k{:02}", number % 60), value, leased).await.unwrap();
        if number % 11 == 0 {
            client.delete(format!("k{:02}", number % 30), None).await.unwrap();
        }
    }
    client.put("large", vec![b'l'; 600_000], None).await.unwrap();
    let txn = Txn::new()
        .when([Compare::version("k01", CompareOp::Greater, 0)])
        .and_then([TxnOp::delete("k02", None), TxnOp::put("txn", "then", None)])
        .or_else([TxnOp::put("txn", "else", None)]);
    let revision = client.txn(txn).await.unwrap().header().unwrap().revision();
    client.compact(revision - 40, None).await.unwrap();
    let revoked = client.lease_grant(3600, None).await.unwrap().id();
    client.put("gone", "x", Some(PutOptions::new().with_lease(revoked))).await.unwrap();
    client.lease_revoke(revoked).await.unwrap();
}

/// Everything that a client can tell two stores apart by.
async fn seen(client: &mut Client) -> Vec<String> {
    let all = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let revision = all.header().unwrap().revision();
    let mut seen = vec![format!("revision {revision}")];
    for kv in all.kvs() {
        seen.push(format!(
            "{} created {} changed {} version {} lease {:x} {} bytes",
            kv.key_str().unwrap(),
            kv.create_revision(),
            kv.mod_revision(),
            kv.version(),
            kv.lease(),
            kv.value().len()
        ));
    }
    let leases = client.leases().await.unwrap();
    let mut ids: Vec<i64> = leases.leases().iter().map(etcd_client::LeaseStatus::id).collect();
    ids.sort_unstable();
    for id in ids {
        let lease = client.lease_time_to_live(id, None).await.unwrap();
        seen.push(format!("lease {id:x} of {} s", lease.granted_ttl()));
    }
    for at in [revision, revision - 1, revision - 20] {
        let hash = client.hash_kv(at).await.unwrap();
        seen.push(format!("hash at {at}: {} since {}", hash.hash(), hash.compact_version()));
    }
    seen
}

fn etcdctl(arguments: &str) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(arguments.split_whitespace());
    command
}

fn ours(arguments: &str) -> Command {
    let mut command = Command::new(kijabi());
    command.args(arguments.split_whitespace());
    command
}

/// What a new member in `folder` is told about itself.
fn target(folder: &Path) -> String {
    let data = folder.join("data");
    format!("--name m1 --initial-cluster m1=http://localhost:2380 --data-dir {}", data.display())
}

/// Gives a snapshot to Debian's etcdctl, which checks every page, and starts Debian's etcd on it.
fn restored_by_debian(file: &Path) -> Member {
    let status = succeed(&mut etcdctl(&format!("snapshot status {}", file.display())));
    assert_eq!(status.split(", ").count(), 4, "{status}");
    let folder = tempfile::tempdir().unwrap();
    let restore = format!("snapshot restore {} {}", file.display(), target(folder.path()));
    succeed(&mut etcdctl(&restore));
    Member::start_in(Kind::Debians, folder, &[])
}

fn add_users(endpoint: &str) {
    for call in [
        "role add keys",
        "role grant-permission keys readwrite k l",
        "user add dora:secret",
        "user grant-role dora keys",
    ] {
        succeed(&mut etcdctl(&format!("--endpoints {endpoint} {call}")));
    }
}

fn users(endpoint: &str) -> String {
    let ask = |call: &str| succeed(&mut etcdctl(&format!("--endpoints {endpoint} {call}")));
    ["user list", "user get dora", "role get keys"].map(ask).join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_leases_and_users_go_to_etcd_and_come_back() {
    let member = Member::start(Kind::Ours);
    fill(&mut client(&member).await, 0).await;
    let before = seen(&mut client(&member).await).await;
    let files = tempfile::tempdir().unwrap();

    // Ours to theirs, from a running member by their tool and from a killed one by ours.
    let saved = files.path().join("saved");
    let save = format!("--endpoints {} snapshot save {}", member.endpoint(), saved.display());
    succeed(&mut etcdctl(&save));
    let folder = member.kill();
    let exported = files.path().join("exported");
    let data = folder.path().join("data");
    succeed(&mut ours(&format!("export {} --data-dir {}", exported.display(), data.display())));
    for file in [&saved, &exported] {
        let debians = restored_by_debian(file);
        assert_eq!(seen(&mut client(&debians).await).await, before);
    }

    // Theirs to ours: a killed member whose database lags behind its log.
    let debians = restored_by_debian(&saved);
    fill(&mut client(&debians).await, 1000).await;
    add_users(&debians.endpoint());
    let folder = debians.kill();
    let lags = ["--backend-batch-interval=1h", "--backend-batch-limit=1000000"];
    let debians = Member::start_in(Kind::Debians, folder, &lags);
    let mut writer = client(&debians).await;
    for number in 0..150 {
        writer.put(format!("only in the log {number}"), "x", None).await.unwrap();
    }
    let folder = debians.kill();
    let data = folder.path().join("data");
    let back = tempfile::tempdir().unwrap();
    let import = format!("import {} {} -w json", data.display(), target(back.path()));
    let told: serde_json::Value = serde_json::from_str(&succeed(&mut ours(&import))).unwrap();
    assert!(told["replayed"].as_u64().unwrap() > 100, "{told}");
    let debians = Member::start_in(Kind::Debians, folder, &[]);
    let (before, known) = (seen(&mut client(&debians).await).await, users(&debians.endpoint()));
    drop(debians);
    let member = Member::start_in(Kind::Ours, back, &[]);
    assert_eq!(seen(&mut client(&member).await).await, before);
    client(&member).await.put("goes on", "x", None).await.unwrap();

    // And back once more, with users and roles.
    let saved = files.path().join("again");
    let save = format!("backup save {} --endpoints {}", saved.display(), member.endpoint());
    succeed(&mut ours(&save));
    let debians = restored_by_debian(&saved);
    assert_eq!(users(&debians.endpoint()), known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_members_folder_is_not_imported() {
    let member = Member::start(Kind::Debians);
    let back = tempfile::tempdir().unwrap();
    let data = member.folder().join("data");
    let import = format!("import {} {}", data.display(), target(back.path()));
    refused(&run(&mut ours(&import)), "is in use: stop the member first");
    assert!(!back.path().join("data").exists());
}

fn refused(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(expected), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_whole_is_refused_with_its_reason() {
    let member = Member::start(Kind::Debians);
    fill(&mut client(&member).await, 0).await;
    let files = tempfile::tempdir().unwrap();
    let saved = files.path().join("saved");
    let save = format!("backup save {} --endpoints {}", saved.display(), member.endpoint());
    succeed(&mut ours(&save));
    let status = succeed(&mut ours(&format!("backup status {} -w json", saved.display())));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let theirs = etcdctl(&format!("snapshot status {} -w json", saved.display()));
    let theirs: serde_json::Value = serde_json::from_str(&succeed(&mut { theirs })).unwrap();
    for name in ["hash", "revision", "totalSize"] {
        assert_eq!(status[name], theirs[name], "{name}");
    }
    let hash = format!("backup hash --endpoints {}", member.endpoint());
    let of_member = succeed(&mut ours(&hash));
    let of_file = succeed(&mut ours(&format!("backup hash {}", saved.display())));
    assert_eq!(of_member.split(", ").nth(1), of_file.split(", ").nth(1));

    let whole = std::fs::read(&saved).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let cases: [(&[u8], &str); 4] = [
        (&whole[..whole.len() - 32], "snapshot missing hash but --skip-hash-check=false"),
        (&whole[..whole.len() - 4096], "expected sha256 "),
        (&flipped, "expected sha256 "),
        (b"not a snapshot at all", "snapshot missing hash"),
    ];
    let damaged = files.path().join("damaged");
    let new = tempfile::tempdir().unwrap();
    let restore = format!("backup restore {} {}", damaged.display(), target(new.path()));
    for (bytes, expected) in cases {
        std::fs::write(&damaged, bytes).unwrap();
        refused(&run(&mut ours(&restore)), expected);
        assert!(!new.path().join("data").exists());
    }
    std::fs::write(&damaged, &whole).unwrap();
    succeed(&mut ours(&restore));
    refused(&run(&mut ours(&restore)), "not empty or could not be read");
    let member = Member::start_in(Kind::Ours, new, &[]);
    let status = client(&member).await.get("k01", None).await.unwrap();
    let raised = status.header().unwrap().revision();
    assert!(raised > 1_000_000_000, "{raised}");
}

struct Peers {
    _folder: TempDir,
    _programs: Vec<Program>,
    endpoints: Vec<String>,
}

/// Makes three members from a snapshot and starts them.
fn three_from(file: &Path) -> Peers {
    let folder = tempfile::tempdir().unwrap();
    let peers: Vec<String> = (1..=3).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
    let cluster: Vec<String> =
        peers.iter().enumerate().map(|(at, url)| format!("m{at}={url}")).collect();
    let cluster = cluster.join(",");
    let (mut programs, mut endpoints) = (Vec::new(), Vec::new());
    for (at, peer) in peers.iter().enumerate() {
        let data = folder.path().join(format!("m{at}"));
        let who = format!(
            "--name m{at} --data-dir {} --initial-cluster {cluster} --initial-advertise-peer-urls {peer}",
            data.display()
        );
        succeed(&mut ours(&format!("backup restore {} {who}", file.display())));
        let url = format!("http://127.0.0.1:{}", free_port());
        let listen = format!(
            "store {who} --listen-peer-urls {peer} --listen-client-urls {url} --advertise-client-urls {url}"
        );
        programs.push(Program::start(&mut ours(&listen), &folder.path().join(format!("log{at}"))));
        endpoints.push(url);
    }
    poll::eventually("the members serve", Duration::from_secs(60), || {
        let silent = programs.iter().map(Program::output);
        let silent: Vec<String> =
            silent.filter(|log| !log.contains("ready to serve client requests")).collect();
        if silent.is_empty() { Ok(()) } else { Err(silent.join("\n---\n")) }
    });
    Peers { _folder: folder, _programs: programs, endpoints }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_made_from_one_file_are_one_cluster() {
    let member = Member::start(Kind::Debians);
    fill(&mut client(&member).await, 0).await;
    let files = tempfile::tempdir().unwrap();
    let saved = files.path().join("saved");
    let save = format!("--endpoints {} snapshot save {}", member.endpoint(), saved.display());
    succeed(&mut etcdctl(&save));
    let peers = three_from(&saved);
    let mut clients = Vec::new();
    for endpoint in &peers.endpoints {
        clients.push(Client::connect([endpoint], None).await.expect("connect"));
    }
    assert_eq!(clients[0].member_list().await.unwrap().members().len(), 3);
    let mut hashes = Vec::new();
    for number in 0..9_usize {
        clients[number % 3].put(format!("n{number}"), "x", None).await.unwrap();
        let read = clients[(number + 1) % 3].get(format!("n{number}"), None).await.unwrap();
        assert_eq!(read.count(), 1, "a write at one member is read at another");
    }
    let large = clients[1].get("large", None).await.unwrap();
    assert_eq!(large.kvs()[0].value().len(), 600_000);
    let revision = large.header().unwrap().revision();
    for client in &mut clients {
        hashes.push(client.hash_kv(revision).await.unwrap().hash());
    }
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
}

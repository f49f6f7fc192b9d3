//! One member in this process, seen through the crate `etcd-client` and plain HTTP.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::future::Future as _;
use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, DeleteOptions, GetOptions,
    PutOptions, Txn, TxnOp, WatchOptions,
};
use kijabi_server::{Config, Member};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

fn config(dir: &std::path::Path) -> Config {
    Config {
        data_dir: dir.join("data"),
        listen_client_urls: vec!["http://127.0.0.1:0".into()],
        ..Config::default()
    }
}

async fn start(config: Config) -> (Member, Client) {
    let member = Member::start(config).await.unwrap();
    let client = Client::connect(member.client_urls(), None).await.unwrap();
    (member, client)
}

async fn http(member: &Member, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(member.client_addrs()[0]).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The status and the body of a GET.
async fn get(member: &Member, path: &str) -> (u16, String) {
    let answer = http(member, "GET", path).await;
    let status = answer[9..12].parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything_and_revisions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(config(dir.path())).await;
    for number in 0..20 {
        client.put(format!("k{number}"), format!("v{number}"), None).await.unwrap();
    }
    client.delete("k3", None).await.unwrap();
    let lease = client.lease_grant(600, None).await.unwrap().id();
    client.put("leased", "x", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    client.compact(5, None).await.unwrap();
    let before = client.get("k", Some(GetOptions::new().with_prefix())).await.unwrap();
    let hash = client.hash_kv(0).await.unwrap().hash();
    let status = client.status().await.unwrap();
    member.shutdown().await;
    member.wait().await.unwrap();

    let (member, mut client) = start(config(dir.path())).await;
    let after = client.get("k", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(format!("{:?}", after.kvs()), format!("{:?}", before.kvs()));
    assert_eq!(after.header().unwrap().revision(), before.header().unwrap().revision());
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), hash);
    let header = after.header().unwrap().clone();
    assert_eq!(header.member_id(), status.header().unwrap().member_id());
    assert_eq!(header.cluster_id(), status.header().unwrap().cluster_id());
    assert_eq!(client.leases().await.unwrap().leases()[0].id(), lease);
    let compacted = client.get("k", Some(GetOptions::new().with_revision(4))).await.unwrap_err();
    assert!(compacted.to_string().contains("required revision has been compacted"), "{compacted}");
    let next = client.put("k", "v", None).await.unwrap();
    assert_eq!(next.header().unwrap().revision(), header.revision() + 1);
    member.shutdown().await;
}

/// Whoever asked for the stop may go away, say with its own runtime or on a second signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_nobody_waits_for_still_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(config(dir.path())).await;
    client.put("k", "v", None).await.unwrap();
    {
        let mut asked = Box::pin(member.shutdown());
        let waker = std::task::Waker::noop();
        let poll = asked.as_mut().poll(&mut std::task::Context::from_waker(waker));
        assert!(poll.is_pending(), "a stop takes longer than that");
    }
    tokio::time::timeout(Duration::from_secs(60), member.wait()).await.unwrap().unwrap();
    // It is really over: the data folder is free.
    let (member, mut client) = start(config(dir.path())).await;
    assert_eq!(client.get("k", None).await.unwrap().kvs().len(), 1);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_purged_behind_snapshots_and_the_state_survives() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        Config { snapshot_entries: 50, snapshot_catch_up_entries: 10, ..config(dir.path()) };
    let (member, mut client) = start(config.clone()).await;
    for number in 0..400 {
        client.put(format!("k{:03}", number % 100), format!("v{number}"), None).await.unwrap();
    }
    // A snapshot is taken in the background.
    let checkpoint = || {
        std::fs::read_dir(dir.path().join("data/member/snap"))
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("checkpoint-"))
    };
    for _ in 0..1000 {
        if checkpoint() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(checkpoint(), "no snapshot was taken");
    member.shutdown().await;
    let (member, mut client) = start(config).await;
    let all = client.get("k", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(all.kvs().len(), 100);
    assert_eq!(all.kvs()[99].value_str().unwrap(), "v399");
    assert_eq!(all.header().unwrap().revision(), 401);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lease_takes_its_keys_along() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(config(dir.path())).await;
    let lease = client.lease_grant(1, None).await.unwrap();
    assert_eq!(lease.ttl(), 2, "etcd's smallest time to live");
    let options = PutOptions::new().with_lease(lease.id());
    client.put("a", "1", Some(options.clone())).await.unwrap();
    let mut watch = client.watch("a", Some(WatchOptions::new())).await.unwrap();
    client.put("b", "1", Some(options)).await.unwrap();
    let deleted = async {
        loop {
            let response = watch.message().await.unwrap().unwrap();
            if let Some(event) = response.events().first() {
                return event.event_type();
            }
        }
    };
    let deleted = tokio::time::timeout(Duration::from_secs(30), deleted).await.unwrap();
    assert_eq!(deleted, etcd_client::EventType::Delete);
    assert_eq!(client.get("b", None).await.unwrap().count(), 0);
    assert_eq!(client.leases().await.unwrap().leases().len(), 0);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_physical_compaction_returns_when_history_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(config(dir.path())).await;
    for number in 0..50 {
        client.put("k", number.to_string(), None).await.unwrap();
    }
    client.compact(40, Some(CompactionOptions::new().with_physical())).await.unwrap();
    let old = client.get("k", Some(GetOptions::new().with_revision(39))).await.unwrap_err();
    assert!(old.to_string().contains("mvcc: required revision has been compacted"), "{old}");
    let kept = client.get("k", Some(GetOptions::new().with_revision(40))).await.unwrap();
    assert_eq!(kept.kvs()[0].value_str().unwrap(), "38");
    member.shutdown().await;
}

/// Puts until one is refused; gives the refusal.
async fn fill(client: &mut Client, value: &str) -> String {
    for number in 0..20 {
        if let Err(error) = client.put(format!("k{number}"), value, None).await {
            return error.to_string();
        }
    }
    panic!("4 MiB do not hold 10 MB");
}

async fn alarms(client: &mut Client) -> Vec<(u64, AlarmType)> {
    let answer = client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    answer.alarms().iter().map(|alarm| (alarm.member_id(), alarm.alarm())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_refuses_puts_until_a_compaction_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let small = Config { quota_bytes: 4 << 20, ..config(dir.path()) };
    let (member, mut client) = start(small.clone()).await;
    let value = "x".repeat(500_000);
    let full = "etcdserver: mvcc: database space exceeded";
    let refused = fill(&mut client, &value).await;
    assert!(refused.contains(full), "{refused}");
    let member_id = client.status().await.unwrap().header().unwrap().member_id();
    assert_eq!(alarms(&mut client).await, [(member_id, AlarmType::Nospace)]);
    let (status, body) = get(&member, "/health").await;
    assert_eq!((status, body.trim()), (503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}"));
    assert_eq!(get(&member, "/health?exclude=NOSPACE").await.0, 200);
    // Everything that may need room is refused, however small, and still there is one alarm.
    let put = TxnOp::put("k", "v", None);
    for refused in [
        client.put("k", "v", None).await.map(drop),
        client.txn(Txn::new().and_then([put.clone()])).await.map(drop),
        client.txn(Txn::new().and_then([TxnOp::txn(Txn::new().or_else([put]))])).await.map(drop),
        client.lease_grant(60, None).await.map(drop),
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(full), "{refused}");
    }
    assert_eq!(alarms(&mut client).await.len(), 1);
    // It survives a restart. Reads, deletes and compaction go on.
    member.shutdown().await;
    let (member, mut client) = start(small).await;
    assert!(client.put("k", "v", None).await.is_err());
    assert_eq!(client.get("k0", None).await.unwrap().kvs().len(), 1);
    let in_use = client.status().await.unwrap().db_size();
    assert!(in_use > 3 << 20, "{in_use}");
    client.txn(Txn::new().and_then([TxnOp::delete("k0", None)])).await.unwrap();
    let all = DeleteOptions::new().with_prefix();
    let deleted = client.delete("k", Some(all)).await.unwrap();
    let revision = deleted.header().unwrap().revision();
    client.defragment().await.unwrap();
    assert_eq!(alarms(&mut client).await.len(), 1, "history still takes the room");
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
    // Nobody has to disarm anything.
    for _ in 0..2000 {
        if alarms(&mut client).await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.put("k0", value, None).await.unwrap();
    assert_eq!(get(&member, "/health").await.0, 200);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disarmed_alarm_is_raised_again_by_the_next_put_that_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(Config { quota_bytes: 4 << 20, ..config(dir.path()) }).await;
    let value = "x".repeat(500_000);
    fill(&mut client, &value).await;
    let raised = alarms(&mut client).await;
    let mut raised_by = AlarmOptions::new();
    raised_by.with_member(raised[0].0);
    let disarmed = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(raised_by)).await;
    assert_eq!(disarmed.unwrap().alarms().len(), 1);
    client.put("small", "fits", None).await.unwrap();
    client.put("large", value, None).await.unwrap_err();
    assert_eq!(alarms(&mut client).await, raised);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limit_get_etcds_error() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(config(dir.path())).await;
    let error = client.put("k", "x".repeat(1_572_864), None).await.unwrap_err().to_string();
    assert!(error.contains("etcdserver: request is too large"), "{error}");
    // Far beyond it, gRPC itself refuses, in the words of etcd's library.
    let error = client.put("k", "x".repeat(3_000_000), None).await.unwrap_err().to_string();
    assert!(
        error.contains("grpc: received message larger than max (3000008 vs. 2097152)"),
        "{error}"
    );
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_answers_as_etcd_does() {
    let dir = tempfile::tempdir().unwrap();
    let (member, _client) = start(config(dir.path())).await;
    let version = "{\"etcdserver\":\"3.6.14\",\"etcdcluster\":\"3.6.0\",\"storage\":\"3.6.0\"}";
    for (path, status, body) in [
        ("/health", 200, "{\"health\":\"true\",\"reason\":\"\"}"),
        ("/health?serializable=true", 200, "{\"health\":\"true\",\"reason\":\"\"}"),
        ("/livez", 200, "ok\n"),
        ("/livez?verbose", 200, "[+]serializable_read ok\nok\n"),
        ("/livez/serializable_read", 200, "ok\n"),
        ("/livez/linearizable_read", 404, "404 page not found\n"),
        ("/readyz", 200, "ok\n"),
        (
            "/readyz?verbose&exclude=data_corruption&exclude=unknown",
            200,
            "[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
        ),
        ("/readyz/linearizable_read?verbose", 200, "[+]linearizable_read ok\nok\n"),
        ("/version", 200, version),
        ("/", 404, "404 page not found\n"),
        ("/livezz", 404, "404 page not found\n"),
        ("/v2/keys", 404, "404 page not found\n"),
    ] {
        assert_eq!(get(&member, path).await, (status, body.to_owned()), "{path}");
    }
    let refused = http(&member, "POST", "/health").await;
    assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
    assert!(refused.contains("allow: GET"), "{refused}");
    let other = Config {
        listen_peer_urls: vec!["http://127.0.0.1:0".into()],
        ..self::config(&dir.path().join("other"))
    };
    Member::start(other).await.unwrap().shutdown().await;
    let (_, metrics) = get(&member, "/metrics").await;
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_version{server_version=\"3.6.14\"} 1",
        "etcd_server_quota_backend_bytes 2147483648",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_for_its_owner_only_and_goes_away() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client.sock");
    let url = format!("unix://{}", path.display());
    let config = Config { listen_client_urls: vec![url.clone()], ..config(dir.path()) };
    let member = Member::start(config).await.unwrap();
    assert_eq!(member.client_urls(), [url]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    member.shutdown().await;
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_one_clear_line_and_damages_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(config(dir.path())).await;
    client.put("a", "1", None).await.unwrap();
    let locked = Member::start(config(dir.path())).await.err().unwrap().to_string();
    let data = dir.path().join("data");
    assert_eq!(locked, format!("data folder {} is locked by another process", data.display()));
    let address = member.client_addrs()[0];
    let elsewhere = dir.path().join("elsewhere");
    let taken = Config {
        data_dir: elsewhere.clone(),
        listen_client_urls: vec![format!("http://{address}")],
        ..Config::default()
    };
    let taken = Member::start(taken).await.err().unwrap().to_string();
    assert_eq!(taken, format!("listen tcp {address}: bind: address already in use"));
    assert!(!elsewhere.join("member").exists(), "data was begun");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let unusable = Config { data_dir: file.clone(), ..config(dir.path()) };
    let unusable = Member::start(unusable).await.err().unwrap().to_string();
    let expected = format!("data folder {} cannot be used: File exists", file.display());
    assert!(unusable.starts_with(&expected), "{unusable}");
    assert_eq!(client.get("a", None).await.unwrap().kvs()[0].value_str().unwrap(), "1");
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_an_error_that_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(config(dir.path())).await;
    for number in 0..10 {
        client.put("k", number.to_string(), None).await.unwrap();
    }
    member.shutdown().await;
    let path = dir.path().join("data/member/wal/0000000000000001.wal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[600] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Member::start(config(dir.path())).await.err().unwrap().to_string();
    let expected = format!("raft log: {} is corrupt at offset ", path.display());
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the damaged file was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_an_error_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(config(dir.path())).await;
    client.put("k", "v", None).await.unwrap();
    member.shutdown().await;
    std::fs::remove_dir_all(dir.path().join("data/member/wal")).unwrap();
    let error = Member::start(config(dir.path())).await.err().unwrap().to_string();
    let expected = "consensus cannot start: the state is at entry 3, but the raft log is empty";
    assert_eq!(error, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_snapshot_has_the_length_and_hash_that_tools_look_for() {
    use ring::digest::{SHA256, digest};
    let dir = tempfile::tempdir().unwrap();
    let (member, mut client) = start(config(dir.path())).await;
    for number in 0..500 {
        client.put(format!("k{number}"), "v".repeat(300), None).await.unwrap();
    }
    let mut stream = client.snapshot().await.unwrap();
    let mut bytes = Vec::new();
    let mut remaining = u64::MAX;
    while let Some(blob) = stream.message().await.unwrap() {
        assert!(blob.remaining_bytes() < remaining || blob.remaining_bytes() == 0);
        remaining = blob.remaining_bytes();
        bytes.extend_from_slice(blob.blob());
    }
    assert_eq!((remaining, bytes.len() % 512), (0, 32));
    let (content, hash) = bytes.split_at(bytes.len() - 32);
    assert_eq!(digest(&SHA256, content).as_ref(), hash);
    member.shutdown().await;
}

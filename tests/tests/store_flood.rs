//! Rows E6, E10 and E15 of the list of hostile inputs (`docs/hostile.md`) at full size: what a
//! member holds in memory stays bounded, and other clients are served all the while.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the memory is a result")]

use std::time::Duration;

use bytes::Bytes;
use kijabi_base::tasks;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::auth_client::AuthClient;
use kijabi_proto::etcdserverpb::kv_client::KvClient;
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::etcdserverpb::watch_client::WatchClient;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use kijabi_tests::etcd::{Client, Kind, Member};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// What a member may hold in memory, a million keys included, whatever is asked of it.
const MEMORY_MAX: u64 = 512 << 20;
/// How long another client may wait for an answer meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most memory that the member has had so far, in bytes.
fn peak(member: &mut Member) -> u64 {
    let status = format!("/proc/{}/status", member.program().pid());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn put(key: &str, value: Vec<u8>) -> pb::PutRequest {
    let key = Bytes::from(key.to_owned());
    pb::PutRequest { key, value: value.into(), ..Default::default() }
}

/// Another client writes and reads, in time.
async fn goes_on(client: &Client) {
    let both = async {
        client.kv().put(put("other", Vec::new())).await.unwrap();
        let key = Bytes::from_static(b"other");
        let range = pb::RangeRequest { key, ..Default::default() };
        assert_eq!(client.kv().range(range).await.unwrap().into_inner().count, 1);
    };
    tokio::time::timeout(PATIENCE, both).await.expect("others are served");
}

/// E6: a thousand ranges over a million keys at once, some of whose clients take all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_ranges_over_a_million_keys_are_bounded() {
    const KEYS: usize = 1_000_000;
    const READS: usize = 1_000;
    const TAKEN: usize = 16;
    let mut member = Member::start(Kind::Ours);
    let client = member.client().await;
    for first in (0..KEYS).step_by(125 * 16) {
        let txns = (0..16).map(|txn| {
            let keys = first + txn * 125..first + (txn + 1) * 125;
            let put = |at| Op::RequestPut(put(&format!("k{at:07}"), vec![b'v'; 16]));
            let success = keys.map(|at| pb::RequestOp { request: Some(put(at)) }).collect();
            let mut kv = client.kv();
            async move { kv.txn(pb::TxnRequest { success, ..Default::default() }).await.unwrap() }
        });
        futures::future::join_all(txns).await;
    }
    let everything = pb::RangeRequest {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"l"),
        ..Default::default()
    };
    let before = peak(&mut member);
    let reads: Vec<_> = (0..READS)
        .map(|number| {
            // Most give up when the head says how much it is.
            let limit = if number % (READS / TAKEN) == 0 { 256 << 20 } else { 4 << 20 };
            let channel = client.channel();
            let mut kv = KvClient::new(channel).max_decoding_message_size(limit);
            let request = everything.clone();
            tasks::spawn("read", async move {
                match kv.range(request).await {
                    Ok(answer) => answer.into_inner().kvs.len() == KEYS,
                    Err(status) => {
                        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted)
                    }
                }
            })
        })
        .collect();
    let other = member.client().await;
    goes_on(&other).await;
    for read in reads {
        assert!(read.await.unwrap(), "neither an answer nor a refusal");
    }
    goes_on(&other).await;
    let peak = peak(&mut member);
    println!("{} MiB, {} of them before the reads", peak >> 20, before >> 20);
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
}

/// E10: a stream of 10^5 watches on one key, whose client reads no event.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_watches_that_nobody_reads_are_bounded() {
    const WATCHES: usize = 100_000;
    const PUTS: usize = 300;
    let mut member = Member::start(Kind::Ours);
    let client = member.client().await;
    let (sender, receiver) = mpsc::channel(1_000);
    let create = || {
        let key = Bytes::from_static(b"k");
        let request = pb::WatchCreateRequest { key, ..Default::default() };
        pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
    };
    let sending = sender.clone();
    let _sending = tasks::spawn("creates", async move {
        for _ in 0..WATCHES {
            if sending.send(create()).await.is_err() {
                return;
            }
        }
    });
    let opened = WatchClient::new(client.channel()).watch(ReceiverStream::new(receiver)).await;
    let mut unread = opened.unwrap().into_inner();
    for _ in 0..WATCHES {
        assert!(unread.message().await.unwrap().unwrap().created);
    }
    // From here on nobody reads it.
    let other = member.client().await;
    let mut read = other.watch(&[create()]).await.unwrap();
    assert!(read.next().await.unwrap().created);
    for _ in 0..PUTS {
        let mut kv = other.kv();
        let writing = tokio::time::timeout(PATIENCE, kv.put(put("k", vec![b'v'; 4096])));
        writing.await.expect("others are served").unwrap();
    }
    let mut seen = 0;
    while seen < PUTS {
        seen += read.next().await.unwrap().events.len();
    }
    goes_on(&other).await;
    drop(sender);
    let peak = peak(&mut member);
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
}

/// E15: ten thousand wrong logins at once cost neither the answer nor the other clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_logins_is_answered_or_turned_away() {
    const LOGINS: usize = 10_000;
    let mut member = Member::start_with(Kind::Ours, &["--bcrypt-cost=8"]);
    let client = member.client().await;
    let mut auth = AuthClient::new(client.channel());
    let (name, password) = ("root".to_owned(), "right".to_owned());
    let user = pb::AuthUserAddRequest { name: name.clone(), password, ..Default::default() };
    auth.user_add(user).await.unwrap();
    auth.role_add(pb::AuthRoleAddRequest { name: name.clone() }).await.unwrap();
    let grant = pb::AuthUserGrantRoleRequest { user: name.clone(), role: name };
    auth.user_grant_role(grant).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    let login = |name: &str, password: &str| {
        let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
        let mut auth = auth.clone();
        async move { auth.authenticate(request).await }
    };
    let flood: Vec<_> = (0..LOGINS)
        .map(|number| {
            let (name, password) = [
                ("root", "wrong".to_owned()),
                ("nobody", "right".to_owned()),
                ("root", String::new()),
                ("root", "x".repeat(10_000)),
            ][number % 4]
                .clone();
            tasks::spawn("login", login(name, &password))
        })
        .collect();
    let mut checked = 0;
    for answer in flood {
        let status = answer.await.unwrap().unwrap_err();
        let failed = "etcdserver: authentication failed, invalid user ID or password";
        match (status.code(), status.message()) {
            (Code::InvalidArgument, text) if text == failed => checked += 1,
            (Code::ResourceExhausted, "etcdserver: too many requests")
            | (Code::Unavailable, "etcdserver: request timed out") => {}
            _ => panic!("{status}"),
        }
    }
    assert!(checked > 0, "nobody was answered");
    let right = login("root", "right").await.unwrap().into_inner();
    assert!(!right.token.is_empty());
    let peak = peak(&mut member);
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
}

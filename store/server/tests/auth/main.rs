//! Who may call what: each RPC by each kind of caller, on one member and on three.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod backups;
mod beside_etcd;
mod certificates;
mod replay;
mod rpcs;
#[path = "../support/mod.rs"]
mod support;
mod wire;
mod world;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kijabi_proto::etcdserverpb as pb;
use prost::Message as _;
use rpcs::{Need, Row, rows};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};
use wire::Wire;
use world::{AUTH, PASSWORD, World, lease, log_in, revoke_role};

/// How auth refuses.
const NO_NAME: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const BAD_TOKEN: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");
const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const OLD: (Code, &str) = (Code::InvalidArgument, "etcdserver: revision of auth store is old");

type Refusal = Option<(Code, &'static str)>;

/// How auth refused; `None` if it did not, whatever else the answer is.
fn refusal(row: &Row, answer: Result<Option<bytes::Bytes>, Status>) -> Refusal {
    let known = |code: Option<Code>, text: &str| {
        let all = [NO_NAME, BAD_TOKEN, DENIED, OLD];
        all.into_iter().find(|(c, t)| *t == text && code.is_none_or(|code| code == *c))
    };
    match answer {
        // Lock and Election pass on texts alone, as etcd's do.
        Err(status) if row.path.starts_with("/v3") => known(None, status.message()),
        Err(status) => known(Some(status.code()), status.message()),
        // A watch is refused in its first answer.
        Ok(Some(bytes)) if row.path.ends_with("Watch/Watch") => {
            let response = pb::WatchResponse::decode(bytes).unwrap();
            let (_, text) = response.cancel_reason.split_once(" desc = ")?;
            assert!(response.created && response.canceled && response.watch_id == -1);
            known(None, text)
        }
        Ok(_) => None,
    }
}

/// Asks every RPC as one caller, and compares with what each kind of need must answer.
async fn check(
    wire: &Wire,
    who: &str,
    token: Option<&str>,
    lease: i64,
    expected: impl Fn(&Row) -> Refusal,
) {
    for row in rows(lease) {
        let answer = wire.ask(&row.path, &row.message, token).await;
        let shown = format!("{who} {} {answer:?}", row.path);
        assert_eq!(refusal(&row, answer), expected(&row), "{shown}");
    }
}

#[test]
fn every_rpc_of_the_protocol_is_asked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let files = ["etcd/rpc.proto", "etcd/lock.proto", "etcd/election.proto"];
    let mut served = BTreeSet::new();
    for file in &protox::compile(files, [root]).unwrap().file {
        for service in &file.service {
            let of = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            served.extend(service.method.iter().map(|method| of(method.name())));
        }
    }
    let asked: BTreeSet<String> = rows(1).into_iter().map(|row| row.path).collect();
    assert_eq!(asked, served);
}

/// E13.
#[tokio::test(flavor = "multi_thread")]
async fn each_rpc_answers_each_caller_as_its_need_says() {
    let world = World::start(|_, _| {}).await;
    let wire = &world.wire;
    let (root, alice, bob) =
        (log_in(wire, "root").await, log_in(wire, "alice").await, log_in(wire, "bob").await);
    let (carol, dave) = (log_in(wire, "carol").await, log_in(wire, "dave").await);
    // Carol's role is taken away; Dave is deleted, and with him his token.
    revoke_role(wire, "carol", &root).await;
    let path = format!("{AUTH}/UserDelete");
    let delete = pb::AuthUserDeleteRequest { name: "dave".into() };
    let _: pb::AuthUserDeleteResponse = wire.done(&path, &delete, Some(&root)).await;

    let lease = lease(wire, &root).await;
    check(wire, "nobody", None, lease, |row| match row.need {
        Need::Open | Need::Any => None,
        Need::Login | Need::Keys | Need::Own | Need::Admin => Some(NO_NAME),
    })
    .await;
    let longest = "x".repeat(10_000);
    let made_up = format!("{}.18446744073709551615", alice.split_once('.').unwrap().0);
    assert_ne!(made_up, alice);
    for (who, token) in [
        ("an empty token", ""),
        ("no token of ours", "nonsense"),
        ("an unknown token", "abcdefghijklmnop.7"),
        ("an unknown token of the future", "abcdefghijklmnop.18446744073709551615"),
        ("a long token", &longest),
        ("a user that is gone", &dave),
    ] {
        check(wire, who, Some(token), lease, |row| match row.need {
            Need::Open => None,
            _ => Some(BAD_TOKEN),
        })
        .await;
    }
    for (who, token) in [("no role", &bob), ("a role taken away", &carol)] {
        check(wire, who, Some(token), lease, |row| match row.need {
            Need::Open | Need::Any | Need::Login => None,
            Need::Keys | Need::Own | Need::Admin => Some(DENIED),
        })
        .await;
    }
    check(wire, "a role with the keys", Some(&alice), lease, |row| match row.need {
        Need::Open | Need::Any | Need::Login | Need::Keys => None,
        Need::Own | Need::Admin => Some(DENIED),
    })
    .await;
    check(wire, "root", Some(&root), lease, |_| None).await;
    world.member.shutdown().await;
}

/// E13 and E14: a signed token outlives changes of users and roles, but not what it may do.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_old_auth_revision_is_good_for_no_keys() {
    let world = World::start(|config, dir| {
        let key = dir.join("jwt.key");
        std::fs::write(&key, "a secret of the members").unwrap();
        config.auth_token = format!("jwt,sign-method=HS256,priv-key={}", key.display());
    })
    .await;
    let wire = &world.wire;
    let (root, alice) = (log_in(wire, "root").await, log_in(wire, "alice").await);
    let lease = lease(wire, &root).await;
    revoke_role(wire, "carol", &root).await;
    check(wire, "alice with an old token", Some(&alice), lease, |row| match row.need {
        Need::Open | Need::Any | Need::Login => None,
        Need::Keys => Some(OLD),
        Need::Own | Need::Admin => Some(DENIED),
    })
    .await;
    // Whether somebody has the role root is looked up as it is now.
    let of_leases = |row: &Row| row.path.contains("Lease/");
    check(wire, "root with an old token", Some(&root), lease, |row| match row.need {
        Need::Keys if !of_leases(row) && !row.path.starts_with("/v3") => Some(OLD),
        // Auth is off by the time of these.
        _ => None,
    })
    .await;
    world.member.shutdown().await;
}

/// etcd replicates logins: a token of one member is good at all, and so is its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_member_is_good_at_the_others_at_once() {
    let cluster = support::Cluster::start_with(3, |config| config.bcrypt_cost = 4).await;
    let mut wires = Vec::new();
    for number in 0..3 {
        wires.push(Wire::connect(&cluster.member(number).client_urls()[0]).await);
    }
    world::set_up(&wires[0]).await;
    let put = pb::PutRequest { key: "k/a".into(), value: "v".into(), ..Default::default() };
    let range = pb::RangeRequest { key: "k/a".into(), ..Default::default() };
    for round in 0..20 {
        for login in 0..3 {
            let token = log_in(&wires[login], "alice").await;
            for wire in &wires {
                let _: pb::PutResponse =
                    wire.done("/etcdserverpb.KV/Put", &put, Some(&token)).await;
                let read: pb::RangeResponse =
                    wire.done("/etcdserverpb.KV/Range", &range, Some(&token)).await;
                assert_eq!(read.count, 1, "round {round}");
            }
        }
    }
    let (root, alice) = (log_in(&wires[1], "root").await, log_in(&wires[2], "alice").await);
    revoke_role(&wires[0], "alice", &root).await;
    for wire in &wires {
        for (path, message) in [
            ("/etcdserverpb.KV/Put", put.encode_to_vec()),
            ("/etcdserverpb.KV/Range", range.encode_to_vec()),
        ] {
            // A member that has not heard of it yet says that its auth revision is old.
            let status = wire.ask(path, &message, Some(&alice)).await.unwrap_err();
            let said = (status.code(), status.message());
            assert!([DENIED, OLD].contains(&said), "{path} {status:?}");
        }
    }
    cluster.shutdown().await;
}

/// E16.
#[tokio::test(flavor = "multi_thread")]
async fn no_password_and_no_token_is_ever_written_down() {
    let logged = Logged::default();
    let lines = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || lines.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let world = World::start(|_, _| {}).await;
    let wire = &world.wire;
    let token = log_in(wire, "alice").await;
    let put = pb::PutRequest { key: "k/a".into(), ..Default::default() };
    let _: pb::PutResponse = wire.done("/etcdserverpb.KV/Put", &put, Some(&token)).await;
    let wrong = pb::AuthenticateRequest { name: "alice".into(), password: format!("{PASSWORD}x") };
    wire.ask(&format!("{AUTH}/Authenticate"), &wrong.encode_to_vec(), None).await.unwrap_err();
    let metrics = metrics(&world).await;
    let debug = debug_texts(&token);
    world.member.shutdown().await;

    let (secret, _) = token.split_once('.').unwrap();
    let mut places = vec![
        ("the log".to_owned(), logged.0.lock().unwrap().clone()),
        ("the metrics".to_owned(), metrics),
        ("Debug".to_owned(), debug.into_bytes()),
    ];
    files(&world.dir.path().join("data"), &mut places);
    assert!(places.len() > 5, "the data folder could not be read");
    for (place, content) in &places {
        for what in [PASSWORD, secret] {
            let found = content.windows(what.len()).any(|window| window == what.as_bytes());
            assert!(!found, "{what:?} is in {place}");
        }
    }
    // The test itself would find it.
    assert!(places.iter().any(|(_, content)| content.windows(3).any(|w| w == b"k/a")));
}

/// What the messages with secrets say of themselves.
fn debug_texts(token: &str) -> String {
    let (name, password) = (String::from("alice"), PASSWORD.to_owned());
    let login = pb::AuthenticateRequest { name: name.clone(), password: password.clone() };
    let answer = pb::AuthenticateResponse { header: None, token: token.to_owned() };
    let user = pb::AuthUserAddRequest {
        name: name.clone(),
        password: password.clone(),
        hashed_password: password.clone(),
        options: None,
    };
    let change = pb::AuthUserChangePasswordRequest {
        name,
        password: password.clone(),
        hashed_password: password.clone(),
    };
    let row = kijabi_proto::authpb::User { password: password.into(), ..Default::default() };
    format!("{login:?} {answer:?} {user:?} {change:?} {row:?}")
}

async fn metrics(world: &World) -> Vec<u8> {
    let mut stream = tokio::net::TcpStream::connect(world.member.client_addrs()[0]).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

/// Log lines in memory.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

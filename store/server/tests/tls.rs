//! TLS of the listeners: whom they let in, and files that change while they run.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::path::Path;
use std::time::Duration;

use kijabi_server::config::{TlsFiles, TlsLimits, TlsVersion};
use kijabi_server::{Config, Member};
use rustls::ProtocolVersion;
use support::Cluster;
use support::authority::{Authority, Odd, Pair, replace};
use support::secure::{Client, client_hello, raw};
use tokio::io::AsyncReadExt as _;

const HERE: &[&str] = &["127.0.0.1", "localhost"];

fn files(ca: &Authority, ca_name: &str, server: &Pair) -> TlsFiles {
    TlsFiles {
        cert_file: Some(server.cert.clone()),
        key_file: Some(server.key.clone()),
        trusted_ca_file: Some(ca.file(ca_name)),
        client_cert_auth: true,
        ..TlsFiles::default()
    }
}

fn config(dir: &Path) -> Config {
    Config {
        data_dir: dir.join("data"),
        listen_client_urls: vec!["https://127.0.0.1:0".into()],
        ..Config::default()
    }
}

fn refused(result: Result<support::secure::Answer, String>, what: &str) {
    assert!(result.is_err(), "{what}: {result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_in_with_a_good_certificate_only() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, other) =
        (Authority::new(dir.path(), "ca"), Authority::new(&dir.path().join("b"), "ca"));
    let server = ca.issue("server", 1, HERE, Odd::Nothing);
    let crl = dir.path().join("crl");
    ca.revoke(&crl, &[13, 0xdead_beef], false);
    let mut client_tls = files(&ca, "ca", &server);
    client_tls.crl_file = Some(crl.clone());
    let member = Member::start(Config { client_tls, ..config(dir.path()) }).await.unwrap();
    let (address, trusted) = (member.client_addrs()[0], ca.file("ca"));
    let good = ca.issue("good", 10, &[], Odd::Nothing);
    let get = async |pair: Option<&Pair>| Client::new(&trusted, pair).get(address, "/health").await;

    let answer = get(Some(&good)).await.unwrap();
    assert_eq!(answer.status, "HTTP/1.1 200 OK");
    assert_eq!(answer.version, ProtocolVersion::TLSv1_3);
    refused(get(None).await, "no certificate");
    for (what, pair) in [
        ("expired", ca.issue("expired", 11, &[], Odd::Expired)),
        ("not yet", ca.issue("not-yet", 12, &[], Odd::NotYet)),
        ("revoked", ca.issue("revoked", 13, &[], Odd::Nothing)),
        ("for servers", ca.issue("for-servers", 14, &[], Odd::ForServers)),
        ("for code", ca.issue("for-code", 15, &[], Odd::ForCode)),
        ("of another authority", other.issue("good", 10, &[], Odd::Nothing)),
    ] {
        refused(get(Some(&pair)).await, what);
    }

    // What is revoked while the member runs is refused from the next connection on.
    ca.revoke(&crl, &[10], true);
    refused(get(Some(&good)).await, "revoked later");
    // A broken list leaves the one before.
    replace(&crl, "nonsense");
    refused(get(Some(&good)).await, "still revoked");
    ca.revoke(&crl, &[], false);
    assert_eq!(get(Some(&good)).await.unwrap().status, "HTTP/1.1 200 OK");
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_authorities_change_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, new_ca) =
        (Authority::new(dir.path(), "ca"), Authority::new(&dir.path().join("b"), "ca"));
    let (first, second) =
        (ca.issue("server", 1, HERE, Odd::Nothing), ca.issue("server", 2, HERE, Odd::Nothing));
    let live = Pair { cert: dir.path().join("live.crt"), key: dir.path().join("live.key") };
    let trusted = dir.path().join("trusted.crt");
    let copy = |from: &Path, to: &Path| replace(to, &std::fs::read_to_string(from).unwrap());
    copy(&first.cert, &live.cert);
    copy(&first.key, &live.key);
    copy(&ca.file("ca"), &trusted);
    let mut client_tls = files(&ca, "ca", &live);
    client_tls.trusted_ca_file = Some(trusted.clone());
    let member = Member::start(Config { client_tls, ..config(dir.path()) }).await.unwrap();
    let address = member.client_addrs()[0];
    let (old, new) =
        (ca.issue("old", 10, &[], Odd::Nothing), new_ca.issue("new", 10, &[], Odd::Nothing));
    let client = |own: &Pair| Client::new(&ca.file("ca"), Some(own));

    let before = client(&old).get(address, "/health").await.unwrap().leaf;
    // The certificate first: it does not fit the key, so the old pair stays in use.
    copy(&second.cert, &live.cert);
    assert_eq!(client(&old).get(address, "/health").await.unwrap().leaf, before);
    copy(&second.key, &live.key);
    assert_ne!(client(&old).get(address, "/health").await.unwrap().leaf, before);

    refused(client(&new).get(address, "/health").await, "not trusted yet");
    copy(&new_ca.file("ca"), &trusted);
    assert_eq!(client(&new).get(address, "/health").await.unwrap().status, "HTTP/1.1 200 OK");
    refused(client(&old).get(address, "/health").await, "not trusted any more");
    std::fs::remove_file(&trusted).unwrap();
    assert_eq!(client(&new).get(address, "/health").await.unwrap().status, "HTTP/1.1 200 OK");
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_suites_are_those_of_the_settings() {
    const SUITE: &str = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let server = ca.issue("server", 1, HERE, Odd::Nothing);
    let mut client_tls = files(&ca, "ca", &server);
    (client_tls.trusted_ca_file, client_tls.client_cert_auth) = (None, false);
    let tls = TlsLimits { cipher_suites: vec![SUITE.into()], ..TlsLimits::default() };
    let chosen = Config { client_tls: client_tls.clone(), tls, ..config(dir.path()) };
    let member = Member::start(chosen).await.unwrap();
    let address = member.client_addrs()[0];
    let old = Client::with_versions(&ca.file("ca"), None, &[&rustls::version::TLS12]);
    let answer = old.get(address, "/version").await.unwrap();
    assert_eq!((answer.version, answer.suite.as_str()), (ProtocolVersion::TLSv1_2, SUITE));
    let mut modern = Client::new(&ca.file("ca"), None);
    for offered in [&[&b"h2"[..], b"http/1.1"][..], &[b"http/1.1"]] {
        modern.config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let answer = modern.get(address, "/version").await.unwrap();
        assert_eq!(answer.alpn.as_deref(), Some(offered[0]));
    }

    // TLS 1.1; TLS 1.2 with AES-CBC and RSA; and a suite that is not among those chosen.
    for hello in [
        client_hello([3, 2], &[[0xc0, 0x0a]]),
        client_hello([3, 3], &[[0x00, 0x2f], [0x00, 0x05]]),
        client_hello([3, 3], &[[0xc0, 0x2b]]),
    ] {
        let answer = raw(address, &hello).await.unwrap();
        assert_eq!(answer.first(), Some(&21), "an alert and no handshake: {answer:?}");
    }
    member.shutdown().await;

    let tls = TlsLimits { min_version: TlsVersion::V13, ..TlsLimits::default() };
    let strict = Config { client_tls, tls, ..config(dir.path()) };
    let member = Member::start(strict).await.unwrap();
    let address = member.client_addrs()[0];
    refused(old.get(address, "/version").await, "TLS 1.2");
    let modern = Client::new(&ca.file("ca"), None);
    assert_eq!(modern.get(address, "/version").await.unwrap().version, ProtocolVersion::TLSv1_3);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_in_by_name_and_address() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let server = ca.issue("server", 1, HERE, Odd::Nothing);
    let start = async |number: u32, change: fn(&mut TlsFiles)| {
        let mut peer_tls = files(&ca, "ca", &server);
        change(&mut peer_tls);
        let config = Config {
            data_dir: dir.path().join(format!("data{number}")),
            listen_client_urls: vec!["http://127.0.0.1:0".into()],
            listen_peer_urls: vec!["https://127.0.0.1:0".into()],
            peer_tls,
            ..Config::default()
        };
        Member::start(config).await.unwrap()
    };
    let get = async |member: &Member, pair: &Pair| {
        Client::new(&ca.file("ca"), Some(pair)).get(member.peer_addrs()[0], "/version").await
    };
    let (plain, here, there) = (
        ca.issue("peer", 10, &[], Odd::Nothing),
        ca.issue("peer", 11, &["127.0.0.1"], Odd::Nothing),
        ca.issue("peer", 12, &["10.1.2.3"], Odd::Nothing),
    );
    let stranger = ca.issue("stranger", 13, &["127.0.0.1"], Odd::Nothing);

    let member = start(0, |_| {}).await;
    assert!(get(&member, &plain).await.is_ok() && get(&member, &here).await.is_ok());
    refused(get(&member, &there).await, "from another address");
    member.shutdown().await;

    let member = start(1, |files| files.skip_client_san_verification = true).await;
    assert!(get(&member, &there).await.is_ok());
    member.shutdown().await;

    let member = start(2, |files| files.allowed_cns = vec!["other".into(), "peer".into()]).await;
    assert!(get(&member, &here).await.is_ok());
    refused(get(&member, &stranger).await, "another common name");
    member.shutdown().await;

    let member = start(3, |files| files.allowed_hostnames = vec!["localhost".into()]).await;
    assert!(get(&member, &server).await.is_ok());
    refused(get(&member, &here).await, "for no allowed host");
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_made_if_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let client_tls = TlsFiles { auto: true, ..TlsFiles::default() };
    let auto = Config { client_tls, ..config(dir.path()) };
    let mut leaves = Vec::new();
    for _ in 0..2 {
        let member = Member::start(auto.clone()).await.unwrap();
        let made = dir.path().join("data/fixtures/client/cert.pem");
        let answer =
            Client::new(&made, None).get(member.client_addrs()[0], "/health").await.unwrap();
        assert_eq!(answer.status, "HTTP/1.1 200 OK");
        leaves.push(answer.leaf);
        member.shutdown().await;
        member.wait().await.unwrap();
    }
    assert_eq!(leaves[0], leaves[1], "made once");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_no_tls_or_nothing_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let server = ca.issue("server", 1, HERE, Odd::Nothing);
    let client_tls = files(&ca, "ca", &server);
    let mut both = Config { client_tls, ..config(dir.path()) };
    both.listen_client_urls.push("http://127.0.0.1:0".into());
    let member = Member::start(both).await.unwrap();
    let (secure, plain) = (member.client_addrs()[0], member.client_addrs()[1]);
    let answer = raw(secure, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");

    // Silence, half a handshake, half a preface: all end by themselves.
    let hello = client_hello([3, 3], &[[0xc0, 0x2b]]);
    let (a, b, c, d) = tokio::join!(
        raw(secure, b""),
        raw(secure, &hello[..20]),
        raw(plain, b""),
        raw(plain, b"PRI * HTTP/2.0\r\n"),
    );
    for ended in [a, b, c, d] {
        ended.unwrap();
    }
    // And many at once hold nobody up.
    let mut silent = Vec::new();
    for _ in 0..1_500 {
        silent.push(tokio::net::TcpStream::connect(secure).await.unwrap());
    }
    let good = ca.issue("good", 10, &[], Odd::Nothing);
    let answer = Client::new(&ca.file("ca"), Some(&good)).get(secure, "/health").await.unwrap();
    assert_eq!(answer.status, "HTTP/1.1 200 OK");
    // The oldest had to give way.
    let mut first = silent.remove(0);
    let ended = tokio::time::timeout(Duration::from_secs(5), first.read(&mut [0; 64])).await;
    assert!(ended.is_ok());
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let (one, two) = (ca.issue("a", 1, HERE, Odd::Nothing), ca.issue("b", 2, HERE, Odd::Nothing));
    let missing = dir.path().join("missing");
    let good = files(&ca, "ca", &one);
    for (client_tls, expected) in [
        (
            TlsFiles { cert_file: Some(missing.clone()), ..good.clone() },
            format!("open {}: no such file or directory", missing.display()),
        ),
        (
            TlsFiles { key_file: Some(two.key), ..good.clone() },
            format!("{}: keys may not be consistent", one.cert.display()),
        ),
        (
            TlsFiles { crl_file: Some(one.cert.clone()), ..good.clone() },
            format!("{}: no revocation list", one.cert.display()),
        ),
        (
            TlsFiles { trusted_ca_file: None, ..good.clone() },
            "client certificate authentication: client certificates need a trusted CA file".into(),
        ),
        (TlsFiles::default(), "listen TLS 127.0.0.1:0: bind: KeyFile and CertFile".into()),
    ] {
        let error = Member::start(Config { client_tls, ..config(dir.path()) }).await.err().unwrap();
        assert!(error.is_usage());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_speak_tls_among_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let (server, own) =
        (ca.issue("server", 1, HERE, Odd::ForServers), ca.issue("client", 2, HERE, Odd::Nothing));
    let mut with_files = files(&ca, "ca", &server);
    // What is shown to the others is another certificate than the listener's.
    (with_files.client_cert_file, with_files.client_key_file) = (Some(own.cert), Some(own.key));
    with_files.allowed_cns = vec!["client".into(), "server".into()];
    let made = TlsFiles { auto: true, ..TlsFiles::default() };
    for peer_tls in [with_files, made] {
        let cluster = Cluster::start_with(3, |config| {
            let secure = |text: &String| text.replace("http://", "https://");
            config.listen_peer_urls = config.listen_peer_urls.iter().map(secure).collect();
            config.initial_advertise_peer_urls = config.listen_peer_urls.clone();
            config.initial_cluster = secure(&config.initial_cluster);
            config.peer_tls = peer_tls.clone();
        })
        .await;
        cluster.leader().await;
        for number in 0..3 {
            let mut client = cluster.client(number).await;
            client.put("k", number.to_string(), None).await.unwrap();
            let read = cluster.client((number + 1) % 3).await.get("k", None).await.unwrap();
            assert_eq!(read.kvs()[0].value(), number.to_string().as_bytes());
        }
        cluster.shutdown().await;
    }
}

//! Logins by a client certificate's common name.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use kijabi_server::Member;
use kijabi_server::config::TlsFiles;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use crate::rpcs::{Need, rows};
use crate::support::authority::{Authority, Odd};
use crate::support::secure::Client;
use crate::wire::Wire;
use crate::{BAD_TOKEN, DENIED, NO_NAME, check, refusal, world};

const HERE: &[&str] = &["127.0.0.1", "localhost"];

/// A client that shows a certificate with this name.
async fn named(ca: &Authority, ca_file: &Path, address: SocketAddr, name: &str) -> Wire {
    let pair = ca.issue(name, 100, &[], Odd::Nothing);
    let mut config = Client::new(ca_file, Some(&pair)).config;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let host = "localhost".try_into().unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(host, stream).await?))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    Wire::over(endpoint.connect_with_connector(connect).await.unwrap())
}

/// E13, for callers with a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_login_unless_a_token_or_a_gateway_stands_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let server = ca.issue("server", 1, HERE, Odd::Nothing);
    let mut config = world::config(dir.path());
    config.listen_client_urls = vec!["https://127.0.0.1:0".into()];
    config.client_tls = TlsFiles {
        cert_file: Some(server.cert.clone()),
        key_file: Some(server.key.clone()),
        trusted_ca_file: Some(ca.file("ca")),
        client_cert_auth: true,
        ..TlsFiles::default()
    };
    let member = Member::start(config).await.unwrap();
    let (ca_file, address) = (ca.file("ca"), member.client_addrs()[0]);
    let mut root = named(&ca, &ca_file, address, "root").await;
    world::set_up(&root).await;
    let token = world::log_in(&root, "root").await;
    let lease = world::lease(&root, &token).await;

    let alice = named(&ca, &ca_file, address, "alice").await;
    check(&alice, "the certificate of alice", None, lease, |row| match row.need {
        Need::Open | Need::Any | Need::Login | Need::Keys => None,
        Need::Own | Need::Admin => Some(DENIED),
    })
    .await;
    check(&alice, "a bad token before a certificate", Some("x"), lease, |row| match row.need {
        Need::Open => None,
        _ => Some(BAD_TOKEN),
    })
    .await;
    // Alice has revoked the first one.
    let lease = world::lease(&root, &token).await;
    let ghost = named(&ca, &ca_file, address, "ghost").await;
    for row in rows(lease) {
        let answer = ghost.ask(&row.path, &row.message, None).await;
        match row.need {
            Need::Own | Need::Admin => {
                let text = answer.unwrap_err().message().to_owned();
                assert_eq!(text, "etcdserver: user name not found", "{}", row.path);
            }
            Need::Keys => assert_eq!(refusal(&row, answer), Some(DENIED), "{}", row.path),
            Need::Open | Need::Any | Need::Login => assert_eq!(refusal(&row, answer), None),
        }
    }
    root.through_gateway = true;
    check(&root, "a gateway's certificate", None, lease, |row| match row.need {
        Need::Open | Need::Any => None,
        Need::Login | Need::Keys | Need::Own | Need::Admin => Some(NO_NAME),
    })
    .await;
    root.through_gateway = false;
    let lease = world::lease(&root, &token).await;
    check(&root, "the certificate of root", None, lease, |_| None).await;
    member.shutdown().await;
}

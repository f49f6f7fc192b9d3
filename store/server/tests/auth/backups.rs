//! Backups of a member with TLS and with auth on: who may save one, and what it brings along.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kijabi_server::Member;
use kijabi_server::backup::{Endpoint, HashCheck, Import, NewMember, hash_of_endpoint, save};
use kijabi_server::config::TlsFiles;

use crate::support::authority::{Authority, Odd, Pair};
use crate::wire::Wire;
use crate::world::{self, PASSWORD, World, log_in};
use crate::{DENIED, NO_NAME};

const HERE: &[&str] = &["127.0.0.1", "localhost"];

fn endpoint(url: &str, user: Option<&str>) -> Endpoint {
    Endpoint {
        url: url.to_owned(),
        cacert: None,
        cert: None,
        key: None,
        user: user.map(|name| (name.to_owned(), format!("{PASSWORD}{name}"))),
        dial_timeout: Duration::from_secs(10),
    }
}

fn with_tls(url: &str, ca: PathBuf, pair: Option<&Pair>) -> Endpoint {
    let cert = pair.map(|pair| pair.cert.clone());
    let key = pair.map(|pair| pair.key.clone());
    Endpoint { cacert: Some(ca), cert, key, ..endpoint(url, None) }
}

/// Why a backup could not be saved; nothing of it is left.
async fn refusal(from: &Endpoint, to: &Path) -> String {
    let refused = save(from, to).await.unwrap_err().to_string();
    assert!(!to.exists() && !to.with_extension("part").exists());
    refused
}

/// With simple tokens and with ones that are signed.
#[tokio::test(flavor = "multi_thread")]
async fn only_root_saves_a_backup_and_users_and_roles_come_along() {
    for jwt in [false, true] {
        let world = World::start(|config, dir| {
            if jwt {
                let key = dir.join("jwt.key");
                std::fs::write(&key, [7; 64]).unwrap();
                config.auth_token = format!("jwt,sign-method=HS256,priv-key={}", key.display());
            }
        })
        .await;
        let root = log_in(&world.wire, "root").await;
        world::lease(&world.wire, &root).await;
        let url = world.member.client_urls()[0].clone();
        let file = world.dir.path().join("backup");
        let wrong = Endpoint {
            user: Some(("root".into(), "wrong".into())),
            ..endpoint(&url, Some("root"))
        };
        for (from, text) in [
            (endpoint(&url, None), NO_NAME.1),
            (endpoint(&url, Some("alice")), DENIED.1),
            (wrong, "etcdserver: authentication failed, invalid user ID or password"),
        ] {
            let refused = refusal(&from, &file).await;
            assert!(refused.contains(text), "{refused}");
        }
        let saved = save(&endpoint(&url, Some("root")), &file).await.unwrap();
        let hash = hash_of_endpoint(&endpoint(&url, Some("root")), 0).await.unwrap();
        assert_eq!(hash.revision, saved.status.revision);
        world.member.shutdown().await;

        let dir = tempfile::tempdir().unwrap();
        let new = NewMember {
            name: "default".into(),
            initial_cluster: "default=http://localhost:2380".into(),
            initial_cluster_token: "etcd-cluster".into(),
            initial_advertise_peer_urls: "http://localhost:2380".into(),
            data_dir: dir.path().join("data"),
            wal_dir: None,
            bump_revision: 0,
            mark_compacted: false,
        };
        let import = Import { path: file, wal_dir: None, check: HashCheck::Required };
        new.make(&import.open().unwrap()).unwrap();
        let member = Member::start(world::config(dir.path())).await.unwrap();
        let wire = Wire::connect(&format!("http://{}", member.client_addrs()[0])).await;
        let refused = wire.ask("/etcdserverpb.Maintenance/HashKV", &[], None).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), NO_NAME);
        log_in(&wire, "alice").await;
        let url = member.client_urls()[0].clone();
        let restored = hash_of_endpoint(&endpoint(&url, Some("root")), 0).await.unwrap();
        assert_eq!(restored.hash, hash.hash);
        member.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_over_tls_needs_the_right_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, other) = (Authority::new(dir.path(), "ca"), Authority::new(dir.path(), "other"));
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
    let url = member.client_urls()[0].clone();
    let file = dir.path().join("backup");
    let (own, foreign) =
        (ca.issue("root", 2, &[], Odd::Nothing), other.issue("root", 3, &[], Odd::Nothing));
    for from in [
        with_tls(&url, ca.file("ca"), None),
        with_tls(&url, ca.file("ca"), Some(&foreign)),
        with_tls(&url, other.file("other"), Some(&own)),
        endpoint(&url.replace("https:", "http:"), None),
    ] {
        refusal(&from, &file).await;
    }
    let settings = refusal(&endpoint(&url, None), &file).await;
    assert!(settings.contains("an https endpoint needs --cacert"), "{settings}");
    let from = with_tls(&url, ca.file("ca"), Some(&own));
    save(&from, &file).await.unwrap();
    // Without a scheme, a CA tells that it is TLS.
    let bare = Endpoint { url: url.replace("https://", ""), ..from };
    assert_eq!(hash_of_endpoint(&bare, 0).await.unwrap().revision, 1);
    member.shutdown().await;
}

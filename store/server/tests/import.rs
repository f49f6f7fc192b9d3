//! Data that real etcd 3.5 and 3.6 members left behind, imported: the new member answers what the
//! old one did.
//!
//! `data/import/` holds folders of members that were killed, with most of it in the log only,
//! snapshot files, and the old members' own answers; its README says how they were recorded.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod web;

use std::path::Path;
use std::process::Command;

use http::HeaderValue;
use kijabi_server::Member;
use kijabi_server::backup::{HashCheck, Import, NewMember};
use serde_json::{Value, json};
use web::{ask, config, post, read, send};

/// Unpacks a recording into a folder.
fn unpacked(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import");
    let archive = archive.join(format!("{name}.tar.xz"));
    let status = Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(dir.path()).status();
    assert!(status.unwrap().success(), "cannot unpack {}", archive.display());
    dir
}

/// A member made of `from` in a folder of its own.
async fn imported(from: &Path, dir: &Path, check: HashCheck) -> Member {
    let target = config(dir);
    let member = NewMember {
        name: "default".into(),
        initial_cluster: "default=http://localhost:2380".into(),
        initial_cluster_token: "etcd-cluster".into(),
        initial_advertise_peer_urls: "http://localhost:2380".into(),
        data_dir: target.data_dir.clone(),
        wal_dir: None,
        bump_revision: 0,
        mark_compacted: false,
    };
    let import = Import { path: from.to_owned(), wal_dir: None, check };
    let made = member.make(&import.open().unwrap()).unwrap();
    assert!(from.is_file() || made.replayed > 20, "{made:?}");
    Member::start(target).await.unwrap()
}

/// Logs in and gives the token.
async fn token(member: &Member, name: &str) -> HeaderValue {
    let password = match name {
        "root" => "rootpw",
        "dora" => "secret2",
        other => &format!("{other}pw"),
    };
    let login = json!({"name": name, "password": password});
    let (status, answer) = ask(member, "/v3/auth/authenticate", &login).await;
    assert_eq!(status, 200, "{name}: {answer}");
    HeaderValue::from_str(answer["token"].as_str().unwrap()).unwrap()
}

/// What must be the same: not the ids of the cluster, nor the time that leases have left.
fn comparable(mut answer: Value) -> Value {
    if answer.get("code").is_some() {
        return json!({"code": answer["code"], "message": answer["message"]});
    }
    let fields = answer.as_object_mut().unwrap();
    fields.remove("token");
    // 3.5 does not say it.
    fields.remove("hash_revision");
    if let Some(header) = fields.get_mut("header") {
        *header = json!({"revision": header["revision"]});
    }
    if let Some(left) = fields.get_mut("TTL") {
        *left = json!(left.as_str().is_some_and(|left| left != "-1"));
    }
    for name in ["leases", "keys"] {
        if let Some(Value::Array(rows)) = fields.get_mut(name) {
            rows.sort_by_key(Value::to_string);
        }
    }
    answer
}

/// Compares all answers of the old member with those of the new one.
async fn compare(member: &Member, answers: &Path) {
    let mut differences = Vec::new();
    let mut logins: Vec<(String, HeaderValue)> = Vec::new();
    let lines = std::fs::read_to_string(answers).unwrap();
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let path = case["path"].as_str().unwrap();
        let mut request = post(path, &case["body"]);
        if let Some(user) = case["user"].as_str() {
            if !logins.iter().any(|(name, _)| name == user) {
                logins.push((user.to_owned(), token(member, user).await));
            }
            let (_, token) = logins.iter().find(|(name, _)| name == user).unwrap();
            request.headers_mut().insert("authorization", token.clone());
        }
        let (_, _, body) = read(send(member, request).await).await;
        let ours = comparable(serde_json::from_str(&body).unwrap());
        let theirs = comparable(case["answer"].clone());
        if ours != theirs {
            let body = &case["body"];
            differences.push(format!("{path} {body}\n  etcd: {theirs}\n  ours: {ours}"));
        }
    }
    assert!(lines.lines().count() >= 40, "nothing was compared");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The folder of the killed member and the snapshot of its successor.
async fn both(name: &str) {
    let files = unpacked(name);
    let answers = files.path().join("answers.json");
    for (from, check) in [("data", HashCheck::Skipped), ("snapshot.db", HashCheck::Required)] {
        let dir = tempfile::tempdir().unwrap();
        let member = imported(&files.path().join(from), dir.path(), check).await;
        compare(&member, &answers).await;
        member.shutdown().await;
        if from != "data" {
            continue;
        }
        // It is the same after a start that nothing was imported for.
        let member = Member::start(config(dir.path())).await.unwrap();
        compare(&member, &answers).await;
        member.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_5() {
    both("etcd-3.5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_6() {
    both("etcd-3.6").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_5_with_snapshots_of_the_old_store() {
    both("etcd-3.5-snapshots").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_6_with_snapshots_of_the_old_store() {
    both("etcd-3.6-snapshots").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_3_6_on_data_of_3_5() {
    both("etcd-3.5-then-3.6").await;
}

//! etcdctl of etcd 3.4 and more than one member, in this process: every subcommand of `member`,
//! `move-leader`, and what `--cluster` asks each of.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use support::{Cluster, eventually};
use tokio::process::Command;

/// Runs etcdctl; standard output, or standard error if it failed.
async fn etcdctl(endpoints: &[String], arguments: &[&str]) -> Result<String, String> {
    let run = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", endpoints.join(",")))
        .args(arguments)
        .output();
    let output = run.await.expect("etcdctl is installed");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// The value of `NAME="value"` in what `member add` prints.
fn setting(printed: &str, name: &str) -> String {
    let line = printed.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    line.unwrap_or_else(|| panic!("no {name} in {printed}")).trim_matches('"').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_adds_starts_promotes_updates_and_removes_a_member() {
    let mut cluster = Cluster::start(1).await;
    let endpoints = cluster.member(0).client_urls();
    let list = etcdctl(&endpoints, &["member", "list"]).await.unwrap();
    let own = cluster.configs[0].listen_peer_urls[0].clone();
    let fields: Vec<&str> = list.trim().split(", ").collect();
    assert_eq!(fields[1..4], ["started", "m0", &own], "{list}");

    let mut config = Cluster::prepare(1, |_| {}).configs.remove(0);
    let url = config.listen_peer_urls[0].clone();
    let flag = format!("--peer-urls={url}");
    let added = etcdctl(&endpoints, &["member", "add", "m1", &flag, "--learner"]).await.unwrap();
    assert_eq!(setting(&added, "ETCD_INITIAL_CLUSTER_STATE"), "existing");
    let id = added.split_whitespace().nth(1).unwrap().to_owned();
    let early = etcdctl(&endpoints, &["member", "promote", &id]).await.unwrap_err();
    assert!(early.contains("can only promote a learner member which is in sync"), "{early}");
    let list = etcdctl(&endpoints, &["member", "list"]).await.unwrap();
    assert!(list.contains(&format!("{id}, unstarted, , {url}, , true")), "{list}");

    config.name = setting(&added, "ETCD_NAME");
    config.initial_cluster = setting(&added, "ETCD_INITIAL_CLUSTER");
    config.initial_cluster_existing = true;
    config.data_dir = cluster.dir.path().join("m1");
    cluster.configs.push(config);
    cluster.members.push(None);
    cluster.restart(1).await;
    let status = &["endpoint", "status", "--write-out=json"];
    let learner = etcdctl(&cluster.member(1).client_urls(), status).await.unwrap();
    assert!(learner.contains("\"isLearner\":true"), "{learner}");
    eventually("the learner is promoted", || async {
        etcdctl(&endpoints, &["member", "promote", &id]).await.is_ok()
    })
    .await;

    let moved = format!("--peer-urls={url},http://127.0.0.1:1");
    etcdctl(&endpoints, &["member", "update", &id, &moved]).await.unwrap();
    let list = etcdctl(&endpoints, &["member", "list"]).await.unwrap();
    assert!(list.contains(&format!("{id}, started, m1, http://127.0.0.1:1,{url}, ")), "{list}");
    eventually("the member may be removed", || async {
        etcdctl(&endpoints, &["member", "remove", &id]).await.is_ok()
    })
    .await;
    let again = etcdctl(&endpoints, &["member", "remove", &id]).await.unwrap_err();
    assert!(again.contains("member not found"), "{again}");
    let removed = cluster.members[1].take().unwrap();
    tokio::time::timeout(support::PATIENCE, removed.wait()).await.expect("it stops").unwrap();
    assert_eq!(etcdctl(&endpoints, &["put", "a", "b"]).await.unwrap().trim(), "OK");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_asks_each_of_three_and_moves_the_leader() {
    let cluster = Cluster::start(3).await;
    let led_by = cluster.leader().await;
    let (first, next) = (cluster.member(led_by).client_urls(), (led_by + 1) % 3);
    let all: Vec<String> = (0..3).flat_map(|at| cluster.member(at).client_urls()).collect();
    etcdctl(&first, &["put", "a", "b"]).await.unwrap();

    let status = etcdctl(&first, &["endpoint", "status", "--cluster"]).await.unwrap();
    assert_eq!(status.lines().count(), 3, "{status}");
    let leads = |line: &&str| line.split(", ").nth(4) == Some("true");
    let leaders: Vec<&str> = status.lines().filter(leads).collect();
    assert_eq!(leaders.len(), 1, "{status}");
    assert!(leaders[0].starts_with(&first[0]), "{status}");
    let health = &["endpoint", "health", "--cluster", "--write-out=json"];
    let health = etcdctl(&first, health).await.unwrap();
    assert_eq!(health.matches("\"health\":true").count(), 3, "{health}");
    let hashes = etcdctl(&first, &["endpoint", "hashkv", "--cluster", "--rev=2"]).await.unwrap();
    let mut hashes: Vec<&str> = hashes.lines().filter_map(|line| line.split(", ").nth(1)).collect();
    assert_eq!(hashes.len(), 3, "{hashes:?}");
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "{hashes:?}");
    let defragmented = etcdctl(&first, &["defrag", "--cluster"]).await.unwrap();
    assert_eq!(defragmented.matches("Finished defragmenting").count(), 3, "{defragmented}");

    let list = etcdctl(&first, &["member", "list"]).await.unwrap();
    let name = format!("m{next}");
    let line = list.lines().find(|line| line.split(", ").nth(2) == Some(&name)).unwrap();
    let id = line.split(", ").next().unwrap();
    // Only the leader moves it.
    let other = etcdctl(&cluster.member(next).client_urls(), &["move-leader", id]).await;
    assert!(other.unwrap_err().contains("no leader endpoint given"));
    let moved = etcdctl(&all, &["move-leader", id]).await.unwrap();
    assert!(moved.contains("Leadership transferred from"), "{moved}");
    assert_eq!(cluster.leader().await, next);
    cluster.shutdown().await;
}

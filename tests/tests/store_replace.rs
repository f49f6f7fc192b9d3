//! A member that has lost its disk is replaced by one command, while clients write.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kijabi_base::{clock, tasks};
use kijabi_proto::etcdserverpb as pb;
use kijabi_tests::etcd::Client;
use kijabi_tests::faults::{Cluster, ClusterProgram};
use kijabi_tests::process::succeed;

const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(100);
/// Keys there are before, more than the log keeps.
const BEFORE: usize = 3_000;

async fn put(client: &Client, key: String) -> Result<(), tonic::Status> {
    let value = vec![b'x'; 512].into();
    let request = pb::PutRequest { key: key.into_bytes().into(), value, ..Default::default() };
    client.kv().put(request).await.map(|_| ())
}

/// Writes through one member until it is told to stop; returns what was acknowledged.
async fn load(client: Client, writer: usize, stop: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("load/{writer}/{number:06}");
        if put(&client, key.clone()).await.is_ok() {
            acknowledged.insert(key);
        }
    }
    acknowledged
}

fn etcdctl(cluster: &Cluster, members: &[usize], arguments: &[&str]) -> String {
    let endpoints: Vec<String> = members.iter().map(|member| cluster.endpoint(*member)).collect();
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").arg("--endpoints").arg(endpoints.join(",")).args(arguments);
    succeed(&mut command)
}

/// The line of `etcdctl member list` about a member: id, status, name, peer URL, client URL, whether
/// it is a learner.
fn listed(cluster: &Cluster, asked: usize, name: &str) -> Vec<String> {
    let list = etcdctl(cluster, &[asked], &["member", "list"]);
    let row = |line: &str| line.split(", ").map(str::to_owned).collect::<Vec<String>>();
    let rows: Vec<Vec<String>> = list.lines().map(row).collect();
    if rows.len() != 3 {
        return Vec::new();
    }
    rows.into_iter().find(|row| row.get(2).is_some_and(|own| own == name)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_its_disk_is_replaced_by_one_command_under_load() {
    let flags = ["--snapshot-count=500", "--snapshot-catchup-entries=100"];
    let mut cluster = Cluster::start(ClusterProgram::Kijabi, 3, &flags).await;
    let lost = (cluster.leader().await.unwrap() + 1) % 3;
    let (other, third) = ((lost + 1) % 3, (lost + 2) % 3);
    let client = cluster.connect(other).await.unwrap();
    let filling = (0..BEFORE).map(|number| put(&client, format!("before/{number:06}")));
    for written in futures::future::join_all(filling).await {
        written.unwrap();
    }
    let name = format!("m{lost}");
    let before = listed(&cluster, other, &name);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in [other, third] {
        let client = cluster.connect(writer).await.unwrap();
        writers.push(tasks::spawn("load", load(client, writer, Arc::clone(&stop))));
    }

    // A member that is there is not replaced.
    let refused = cluster.replace(lost, &[other, third]);
    assert!(refused.contains("has data"), "{refused}");
    cluster.kill(lost);
    cluster.wipe(lost);
    cluster.replace(lost, &[other, third]);
    let deadline = clock::now() + LIMIT;
    let after = loop {
        // etcdctl waits for the members that it asks.
        let row = listed(&cluster, other, &name);
        if row.get(1).is_some_and(|status| status == "started")
            && row.last().is_some_and(|learner| learner == "false")
            && cluster.serves(lost).await
        {
            break row;
        }
        assert!(clock::now() < deadline, "{row:?}: {}", cluster.output(lost));
        tokio::time::sleep(INTERVAL).await;
    };
    assert_ne!(after[0], before[0], "under its old id it could vote twice");
    assert_eq!(after[2..5], before[2..5], "name and URLs stay");
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        let own = writer.await.unwrap();
        assert!(!own.is_empty(), "nobody wrote meanwhile");
        acknowledged.extend(own);
    }

    // Without it there would be no quorum now, and it has everything.
    cluster.kill(other);
    let deadline = clock::now() + LIMIT;
    while !cluster.serves(lost).await {
        assert!(clock::now() < deadline, "{}", cluster.output(lost));
        tokio::time::sleep(INTERVAL).await;
    }
    let everything = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        keys_only: true,
        ..Default::default()
    };
    let client = cluster.connect(lost).await.unwrap();
    let found = client.kv().range(everything).await.unwrap().into_inner();
    let found: BTreeSet<String> =
        found.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect();
    assert_eq!(found.iter().filter(|key| key.starts_with("before/")).count(), BEFORE);
    assert!(found.is_superset(&acknowledged));
    // It runs on as any other: a restart with its usual flags finds what it needs.
    cluster.kill(lost);
    cluster.launch(lost);
    cluster.launch(other);
    cluster.wait_until_served().await;
    let health = etcdctl(&cluster, &[lost, other, third], &["endpoint", "status", "-w", "simple"]);
    assert_eq!(health.lines().count(), 3, "{health}");
}

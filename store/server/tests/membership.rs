//! Members come and go while clients write.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;
mod web;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{Client, GetOptions, MemberAddOptions, MemberRemoveResponse};
use http::Method;
use kijabi_base::{clock, tasks};
use kijabi_server::{Config, Member};
use parking_lot::Mutex;
use support::{Cluster, PATIENCE, eventually};
use tokio::task::JoinHandle;

/// Members that may change quickly: nobody has to be connected for seconds first.
fn lenient(config: &mut Config) {
    config.strict_reconfig_check = false;
}

fn text(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    }
}

async fn id_of(cluster: &Cluster, number: usize) -> u64 {
    let status = cluster.client(number).await.status().await.unwrap();
    status.header().unwrap().member_id()
}

/// Removes a member. Those that have joined only just vote as soon as they have caught up; until
/// then the last voter stays.
async fn remove(client: &mut Client, id: u64) -> MemberRemoveResponse {
    let deadline = clock::now() + PATIENCE;
    loop {
        match client.member_remove(id).await {
            Ok(left) => return left,
            Err(error) => {
                let text = text(&error);
                let passing = text.contains("not enough started members");
                assert!(passing && clock::now() < deadline, "{text}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Adds a member through another one and starts it. It is the last one of `cluster` then.
async fn grow(cluster: &mut Cluster, through: usize, learner: bool) -> u64 {
    let number = cluster.configs.len();
    let url = add_config(cluster);
    let mut client = cluster.client(through).await;
    let options = MemberAddOptions::new();
    let options = if learner { options.with_is_learner() } else { options };
    let added = client.member_add([url.clone()], Some(options)).await.unwrap();
    let member = added.member().unwrap();
    assert_eq!((member.name(), member.peer_urls()), ("", &[url][..]));
    assert_eq!(member.is_learner(), learner);
    let id = member.id();
    name_all(cluster, number, added.member_list());
    start(cluster, number).await;
    id
}

/// A configuration for one more member; its peer URL.
fn add_config(cluster: &mut Cluster) -> String {
    let number = cluster.configs.len();
    let mut config = Cluster::prepare(1, |_| {}).configs.remove(0);
    let model = &cluster.configs[0];
    config.name = format!("m{number}");
    config.data_dir = cluster.dir.path().join(format!("m{number}"));
    config.initial_cluster_existing = true;
    config.strict_reconfig_check = model.strict_reconfig_check;
    config.max_learners = model.max_learners;
    let url = config.listen_peer_urls[0].clone();
    cluster.configs.push(config);
    cluster.members.push(None);
    url
}

/// Tells the member that joins who the members are.
fn name_all(cluster: &mut Cluster, number: usize, members: &[etcd_client::Member]) {
    let name = cluster.configs[number].name.clone();
    let pairs = members.iter().map(|member| {
        let name = if member.name().is_empty() { &name } else { member.name() };
        format!("{name}={}", member.peer_urls()[0])
    });
    cluster.configs[number].initial_cluster = pairs.collect::<Vec<_>>().join(",");
}

async fn start(cluster: &mut Cluster, number: usize) {
    let member = Member::start(cluster.configs[number].clone()).await.unwrap();
    cluster.members[number] = Some(member);
}

/// The error of a start that must fail.
async fn start_error(config: Config) -> String {
    match Member::start(config).await {
        Ok(_) => panic!("the member started"),
        Err(error) => error.to_string(),
    }
}

/// Raft's voters, as far as a client can tell: the members that are no learners.
async fn listed(cluster: &Cluster, through: usize) -> Vec<(u64, bool)> {
    let list = cluster.client(through).await.member_list().await.unwrap();
    list.members().iter().map(|member| (member.id(), member.is_learner())).collect()
}

/// Clients that write all the time, each write once, to whichever members there are.
struct Load {
    urls: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<BTreeSet<String>>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        let urls = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let load = Self { urls, stop, writers: Vec::new() };
        load.follow(cluster);
        let writer =
            |writer| tasks::spawn("test", write(writer, load.urls.clone(), load.stop.clone()));
        let writers = (0..4).map(writer).collect();
        Self { writers, ..load }
    }

    /// The members that run now are the ones to write to.
    fn follow(&self, cluster: &Cluster) {
        let running = cluster.running().into_iter();
        *self.urls.lock() = running.flat_map(|n| cluster.member(n).client_urls()).collect();
    }

    /// Stops writing; returns what was acknowledged.
    async fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = BTreeSet::new();
        for writer in self.writers {
            acknowledged.extend(writer.await.unwrap());
        }
        acknowledged
    }
}

async fn write(
    writer: usize,
    urls: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let url = {
            let urls = urls.lock();
            urls[number % urls.len()].clone()
        };
        number += 1;
        let Ok(mut client) = Client::connect([url], None).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        for _ in 0..50 {
            number += 1;
            let key = format!("load/{writer}/{number:06}");
            if client.put(key.clone(), "x", None).await.is_err() {
                break;
            }
            acknowledged.insert(key);
        }
    }
    acknowledged
}

/// What there is of the load's writes, read through one member.
async fn written(cluster: &Cluster, through: usize) -> BTreeSet<String> {
    let mut client = cluster.client(through).await;
    let options = GetOptions::new().with_prefix().with_keys_only();
    let all = client.get("load/", Some(options)).await.unwrap();
    all.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_to_five_and_shrinks_to_one_under_load_and_loses_nothing() {
    let mut cluster = Cluster::start_with(1, lenient).await;
    let load = Load::start(&cluster);
    for size in 2..=5 {
        grow(&mut cluster, size - 2, false).await;
        load.follow(&cluster);
        assert_eq!(listed(&cluster, 0).await.len(), size);
    }
    // Each one that has joined takes part: with two of the five gone, the others still agree.
    for number in 0..4 {
        let id = id_of(&cluster, number).await;
        // Through another one that stays, so that a leader is removed through a follower.
        let mut client = cluster.client(4).await;
        let left = remove(&mut client, id).await;
        assert_eq!(left.members().len(), 4 - number);
        assert!(left.members().iter().all(|member| member.id() != id));
        // The one that was removed finds out and stops by itself, without an error.
        let removed = cluster.members[number].take().unwrap();
        load.follow(&cluster);
        tokio::time::timeout(PATIENCE, removed.wait()).await.expect("it stops").unwrap();
    }
    let acknowledged = load.end().await;
    assert!(acknowledged.len() > 100, "only {} writes", acknowledged.len());
    let there = written(&cluster, 4).await;
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {:?}",
        lost.len(),
        acknowledged.len(),
        lost.first()
    );
    let error = start_error(cluster.configs[0].clone()).await;
    assert!(error.contains("permanently removed from the cluster"), "{error}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_learns_and_is_promoted_when_it_has_caught_up() {
    let mut cluster = Cluster::start_with(1, lenient).await;
    let mut client = cluster.client(0).await;
    for number in 0..50 {
        client.put(format!("load/{number}"), "x", None).await.unwrap();
    }
    let url = add_config(&mut cluster);
    let options = MemberAddOptions::new().with_is_learner();
    let added = client.member_add([url], Some(options.clone())).await.unwrap();
    let id = added.member().unwrap().id();
    assert!(added.member_list().iter().any(|member| member.id() == id && member.is_learner()));
    let early = client.member_promote(id).await.unwrap_err();
    assert_eq!(
        text(&early),
        "etcdserver: can only promote a learner member which is in sync with leader"
    );
    let second = client.member_add(["http://127.0.0.1:1"], Some(options)).await.unwrap_err();
    assert_eq!(text(&second), "etcdserver: too many learner members in cluster");
    name_all(&mut cluster, 1, added.member_list());
    start(&mut cluster, 1).await;

    let mut learner = cluster.client(1).await;
    assert!(learner.status().await.unwrap().is_learner());
    let serializable = || GetOptions::new().with_prefix().with_serializable();
    assert_eq!(learner.get("load/", Some(serializable())).await.unwrap().count(), 50);
    let refused = learner.put("a", "b", None).await.unwrap_err();
    assert_eq!(text(&refused), "etcdserver: rpc not supported for learner");

    eventually("the leader sees that the learner has caught up", || {
        let mut client = client.clone();
        async move { client.member_promote(id).await.is_ok() }
    })
    .await;
    assert!(listed(&cluster, 0).await.iter().all(|(_, is_learner)| !is_learner));
    eventually("the learner knows that it is none any more", || {
        let mut learner = learner.clone();
        async move { !learner.status().await.unwrap().is_learner() }
    })
    .await;
    learner.put("a", "b", None).await.unwrap();
    let again = client.member_promote(id).await.unwrap_err();
    assert_eq!(text(&again), "etcdserver: can only promote a learner member");
    let own = id_of(&cluster, 0).await;
    let shown = web::read(web::send(cluster.member(0), web::empty(Method::GET, "/metrics")).await);
    let shown = shown.await.2;
    for line in [
        format!(r#"etcd_network_known_peers{{Local="{own:x}",Remote="{own:x}"}} 1"#),
        format!(r#"etcd_network_known_peers{{Local="{own:x}",Remote="{id:x}"}} 1"#),
        format!(r#"etcd_network_active_peers{{Local="{own:x}",Remote="{id:x}"}} 1"#),
        "etcd_server_learner_promote_successes 1".into(),
        r#"etcd_server_learner_promote_failures{Reason="etcdserver: can only promote a learner member"} 1"#.into(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not shown");
    }
    // It votes: without it, there is no quorum of two.
    cluster.stop(1).await;
    let options = etcd_client::ConnectOptions::new().with_timeout(Duration::from_secs(2));
    let urls = cluster.member(0).client_urls();
    let mut alone = Client::connect(urls, Some(options)).await.unwrap();
    assert!(alone.put("c", "d", None).await.is_err());
    cluster.restart(1).await;
    cluster.client(0).await.put("c", "d", None).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_endangers_the_quorum_is_refused() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (down, up) = ((leader + 1) % 3, (leader + 2) % 3);
    let (down_id, up_id) = (id_of(&cluster, down).await, id_of(&cluster, up).await);
    cluster.stop(down).await;
    // Asked on the follower, decided by the leader, which notices the silence after a moment. The
    // URL is taken, so that nothing is added before that.
    let taken = &cluster.configs[leader].listen_peer_urls;
    let add = || async {
        let added = cluster.client(up).await.member_add(taken.clone(), None).await;
        added.err().map(|error| text(&error))
    };
    let unhealthy = Some("etcdserver: unhealthy cluster".to_owned());
    eventually("adding is refused", || async { add().await == unhealthy }).await;
    let mut client = cluster.client(leader).await;
    let refused = client.member_remove(up_id).await.unwrap_err();
    assert_eq!(Some(text(&refused)), unhealthy);
    let client = cluster.client(up).await;
    eventually("the one that is down is removed", || {
        let mut client = client.clone();
        async move { client.member_remove(down_id).await.is_ok() }
    })
    .await;
    assert_eq!(listed(&cluster, up).await.len(), 2);
    let mut client = client;
    let again = client.member_remove(down_id).await.unwrap_err();
    assert_eq!(text(&again), "etcdserver: member not found");
    client.put("a", "b", None).await.unwrap();
    // The one that was down does not know; the others tell it.
    let restarted = tasks::spawn("test", Member::start(cluster.configs[down].clone()));
    let error = tokio::time::timeout(PATIENCE, restarted).await.unwrap().unwrap();
    let error = error.err().expect("it is no member any more").to_string();
    assert!(error.contains("permanently removed from the cluster"), "{error}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_moves_to_other_peer_urls() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let moving = (leader + 1) % 3;
    let id = id_of(&cluster, moving).await;
    let url = Cluster::prepare(1, |_| {}).configs[0].listen_peer_urls[0].clone();
    let mut client = cluster.client(leader).await;
    let taken = cluster.configs[leader].listen_peer_urls.clone();
    let refused = client.member_update(id, taken).await.unwrap_err();
    assert_eq!(text(&refused), "etcdserver: Peer URLs already exists");
    let updated = client.member_update(id, [url.clone()]).await.unwrap();
    let member = updated.members().iter().find(|member| member.id() == id).unwrap();
    assert_eq!(member.peer_urls(), std::slice::from_ref(&url));
    cluster.stop(moving).await;
    cluster.configs[moving].listen_peer_urls = vec![url];
    cluster.restart(moving).await;
    // Only if it is reached at its new place are two of three enough.
    cluster.stop((leader + 2) % 3).await;
    eventually("the moved member makes the quorum", || {
        let mut client = client.clone();
        async move { client.put("a", "b", None).await.is_ok() }
    })
    .await;
    assert_eq!(cluster.client(moving).await.get("a", None).await.unwrap().count(), 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_disk_was_wiped_is_replaced_under_load() {
    let mut cluster = Cluster::start_with(3, lenient).await;
    let wiped = (cluster.leader().await + 1) % 3;
    let through = (wiped + 1) % 3;
    let old_id = id_of(&cluster, wiped).await;
    cluster.stop(wiped).await;
    let load = Load::start(&cluster);
    std::fs::remove_dir_all(&cluster.configs[wiped].data_dir).unwrap();
    // Under its old id it could vote twice.
    let error = start_error(cluster.configs[wiped].clone()).await;
    assert_eq!(error, format!("member {old_id:x} has already been bootstrapped"));

    let mut client = cluster.client(through).await;
    client.member_remove(old_id).await.unwrap();
    let url = cluster.configs[wiped].listen_peer_urls.clone();
    let options = MemberAddOptions::new().with_is_learner();
    let added = client.member_add(url, Some(options)).await.unwrap();
    let new_id = added.member().unwrap().id();
    assert_ne!(new_id, old_id);
    name_all(&mut cluster, wiped, added.member_list());
    cluster.configs[wiped].initial_cluster_existing = true;
    start(&mut cluster, wiped).await;
    eventually("the new member has caught up", || {
        let mut client = client.clone();
        async move { client.member_promote(new_id).await.is_ok() }
    })
    .await;
    let acknowledged = load.end().await;
    // The others alone are no quorum of three; the new one has everything.
    cluster.stop(through).await;
    eventually("the new member serves", || async {
        let mut client = cluster.client(wiped).await;
        client.get("load/", Some(GetOptions::new().with_prefix().with_limit(1))).await.is_ok()
    })
    .await;
    assert!(written(&cluster, wiped).await.is_superset(&acknowledged));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_begins_anew_by_force() {
    let mut cluster = Cluster::start(3).await;
    for number in 0..3 {
        cluster.client(number).await.put(format!("k{number}"), "v", None).await.unwrap();
    }
    let id = id_of(&cluster, 1).await;
    for number in 0..3 {
        cluster.stop(number).await;
    }
    cluster.configs[1].force_new_cluster = true;
    cluster.restart(1).await;
    let mut client = cluster.client(1).await;
    let all = client.get("k", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(all.count(), 3);
    assert_eq!(listed(&cluster, 1).await, [(id, false)]);
    client.put("more", "v", None).await.unwrap();
    cluster.stop(1).await;
    cluster.configs[1].force_new_cluster = false;
    cluster.restart(1).await;
    assert_eq!(cluster.client(1).await.get("more", None).await.unwrap().count(), 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_does_not_fit_is_refused_with_etcds_texts() {
    let mut cluster = Cluster::start_with(1, lenient).await;
    let member = cluster.configs[0].listen_peer_urls[0].clone();
    add_config(&mut cluster);
    let joining = cluster.configs[1].clone();
    let with = |initial_cluster: String| Config { initial_cluster, ..joining.clone() };
    let own = &joining.listen_peer_urls[0];
    for (initial_cluster, expected) in [
        (format!("m0={member}"), "couldn't find local name \"m1\" in the initial cluster"),
        (format!("m0={own},m1={own}"), "has duplicate url"),
        (format!("m0={member},m1={own}"), "member count is unequal"),
        (format!("m1={own}"), "could not retrieve cluster information from the given URLs"),
    ] {
        let error = start_error(with(initial_cluster)).await;
        assert!(error.contains(expected), "{error}");
    }
    let mut client = cluster.client(0).await;
    let bad = client.member_add(["not a url"], None).await.unwrap_err();
    assert_eq!(text(&bad), "etcdserver: given member URLs are invalid");
    let same = client.member_add([member], None).await.unwrap_err();
    assert_eq!(text(&same), "etcdserver: Peer URLs already exists");
    let last = client.member_remove(id_of(&cluster, 0).await).await.unwrap_err();
    assert_eq!(
        text(&last),
        "etcdserver: re-configuration failed due to not enough started members"
    );
    cluster.shutdown().await;
}

//! Bugs that etcd once had, by their numbers: each scenario, and what must not come of it.
//!
//! Those about compaction (17780, 18089, 18667, 19179) are in `store/machine/tests`, where every
//! interleaving can be had; the acknowledgement before the disk (14370) is in `store/disk/src/wal/tests.rs`,
//! where power can be cut.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use kijabi_base::tasks::{self, Shutdown};
use kijabi_base::{clock, rng};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use kijabi_tests::etcd::{Kind, Member, WatchStream};
use kijabi_tests::faults::{Cluster, ClusterProgram};

const LIMIT: Duration = Duration::from_secs(40);

async fn cluster(flags: &[&str]) -> Cluster {
    Cluster::start(ClusterProgram::Kijabi, 3, flags).await
}

async fn client(cluster: &Cluster, member: usize) -> Client {
    Client::connect([cluster.endpoint(member)], None).await.unwrap()
}

/// Tries until it succeeds; for requests that may come while there is no leader.
async fn until<T, E: std::fmt::Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = clock::now() + LIMIT;
    loop {
        let error = match tokio::time::timeout(Duration::from_secs(3), ask()).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => format!("{error:?}"),
            Err(_) => "no answer".to_owned(),
        };
        assert!(clock::now() < deadline, "{what}: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn leader(cluster: &Cluster) -> usize {
    until("a leader", async || cluster.leader().await.ok_or("none")).await
}

fn create(key: &str, end: &str, start_revision: i64) -> pb::WatchRequest {
    let (key, range_end) = (key.as_bytes().to_vec().into(), end.as_bytes().to_vec().into());
    let request = pb::WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
}

fn progress() -> pb::WatchRequest {
    let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    pb::WatchRequest { request_union: Some(request) }
}

fn revisions(response: &pb::WatchResponse) -> Vec<i64> {
    response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect()
}

/// Revision and hash of every member, once all have applied the same.
async fn same_everywhere(cluster: &Cluster) {
    cluster.wait_until_served().await;
    let revision = client(cluster, 0).await.get("x", None).await.unwrap();
    let revision = revision.header().unwrap().revision();
    let mut hashes = BTreeSet::new();
    for member in 0..cluster.size() {
        let read = client(cluster, member).await.get("x", None).await.unwrap();
        assert_eq!(read.header().unwrap().revision(), revision, "member {member}");
        hashes.insert(client(cluster, member).await.hash_kv(revision).await.unwrap().hash());
    }
    assert_eq!(hashes.len(), 1, "members differ at {revision}");
}

/// Writes to `member` as fast as it answers until stopped; failures are nobody's business here.
fn load(cluster: &Cluster, member: usize, stop: &Shutdown) {
    let (endpoint, stop) = (cluster.endpoint(member), stop.clone());
    tasks::spawn("load", async move {
        for number in 0_u64.. {
            if stop.is_triggered() {
                return;
            }
            let Ok(mut client) = Client::connect([&endpoint], None).await else { continue };
            for next in number.. {
                let key = format!("k{}", next % 20);
                let put = client.put(key, next.to_string(), None);
                if stop.is_triggered()
                    || !matches!(tokio::time::timeout(Duration::from_secs(2), put).await, Ok(Ok(_)))
                {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// A crash under load left one member with another revision than the others.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_13766_members_agree_after_crashes_under_load() {
    let mut cluster = cluster(&["--snapshot-count=200", "--snapshot-catchup-entries=20"]).await;
    for round in 0..3 {
        let stop = Shutdown::new();
        for member in [0, 1, 2, 0, 1, 2] {
            load(&cluster, member, &stop);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let killed = if round == 2 { vec![0, 1, 2] } else { vec![round] };
        for member in &killed {
            cluster.kill(*member);
        }
        stop.trigger();
        for member in killed {
            cluster.launch(member);
        }
        same_everywhere(&cluster).await;
    }
}

/// A crash while defragmenting left a store that could not be opened, or an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_14685_a_crash_while_defragmenting_loses_nothing() {
    let mut cluster = Cluster::start(ClusterProgram::Kijabi, 1, &[]).await;
    let mut keys = 0;
    for round in 0..5 {
        let mut writer = client(&cluster, 0).await;
        for _ in 0..200 {
            writer.put(format!("k{keys:05}"), "x".repeat(2000), None).await.unwrap();
            keys += 1;
        }
        let mut other = writer.clone();
        let defragment =
            tasks::spawn("defragment", async move { other.defragment().await.is_ok() });
        tokio::time::sleep(Duration::from_millis(rng::below(40))).await;
        cluster.kill(0);
        let _ = defragment.await;
        cluster.launch(0);
        cluster.wait_until_served().await;
        let all = GetOptions::new().with_prefix().with_count_only();
        let count = client(&cluster, 0).await.get("k", Some(all)).await.unwrap().count();
        assert_eq!(count, keys, "round {round}");
    }
}

/// Progress was reported at a revision whose events were still on their way.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_15220_17507_progress_never_comes_before_its_events() {
    const WRITES: i64 = 1500;
    let member = Member::start(Kind::Ours);
    let watcher = member.client().await;
    // Many watches on one stream, some of which are still catching up.
    let first: Vec<_> = (0..20).map(|at| create("k", "l", 1 + at % 2)).collect();
    let mut stream = watcher.watch(&first).await.unwrap();
    let mut writer = Client::connect([member.endpoint()], None).await.unwrap();
    let writing = tasks::spawn("writer", async move {
        for number in 0..WRITES {
            writer.put(format!("k{}", number % 7), "x", None).await.unwrap();
        }
    });
    let (mut seen, mut promised) = ([1_i64; 20], 0);
    while promised < WRITES + 1 {
        assert!(stream.offer(progress()).await);
        // A request at a bad moment is not answered: ask again.
        let next = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        let Ok(response) = next else { continue };
        let response = response.unwrap();
        if response.watch_id == -1 {
            promised = response.header.unwrap().revision;
            assert!(seen.iter().all(|seen| *seen >= promised), "{promised}, but {seen:?}");
            continue;
        }
        for revision in revisions(&response) {
            let last = &mut seen[response.watch_id as usize];
            assert!(revision > promised && revision == *last + 1, "{revision} after {last}");
            *last = revision;
        }
    }
    writing.await.unwrap();
}

/// A watcher of a member that had been cut off and got a snapshot saw the past again, or a gap.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_15271_no_time_travel_after_a_partition_and_a_snapshot() {
    const WRITES: i64 = 400;
    let cluster = cluster(&["--snapshot-count=100", "--snapshot-catchup-entries=10"]).await;
    let led_by = leader(&cluster).await;
    let (apart, other) = ((led_by + 1) % 3, (led_by + 2) % 3);
    let mut writer = client(&cluster, other).await;
    for _ in 0..10 {
        writer.put("k", "before", None).await.unwrap();
    }
    let mut watcher = client(&cluster, apart).await;
    let now = watcher.get("k", None).await.unwrap().header().unwrap().revision();
    let options = || WatchOptions::new().with_start_revision(now + 1);
    let mut open = watcher.watch("k", Some(options())).await.unwrap();
    cluster.isolate(apart, true);
    for number in 0..WRITES {
        until("a write", async || writer.put("k", number.to_string(), None).await).await;
    }
    cluster.isolate(apart, false);
    let mut late = watcher.watch("k", Some(options())).await.unwrap();
    let last = writer.get("k", None).await.unwrap().kvs()[0].mod_revision();
    for (name, stream) in [("open", &mut open), ("late", &mut late)] {
        let mut next = now + 1;
        while next <= last {
            let response = tokio::time::timeout(LIMIT, stream.message()).await;
            for event in response.expect("an event in time").unwrap().unwrap().events() {
                assert_eq!(event.kv().unwrap().mod_revision(), next, "{name}");
                next += 1;
            }
        }
    }
}

/// An event was sent twice to a watcher that was just moved from catching up to the present.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_17247_no_event_comes_twice() {
    let member = Member::start(Kind::Ours);
    let mut writer = Client::connect([member.endpoint()], None).await.unwrap();
    let stop = Shutdown::new();
    let stopped = stop.clone();
    let writing = tasks::spawn("writer", async move {
        while !stopped.is_triggered() {
            writer.put("k", "x", None).await.unwrap();
        }
    });
    for _ in 0..30 {
        // From the first revision: it must catch up with a writer that goes on.
        let mut stream = member.client().await.watch(&[create("k", "", 1)]).await.unwrap();
        let mut next = 2;
        let behind = stream.next().await.unwrap().header.unwrap().revision;
        while next < behind + 20 {
            for revision in revisions(&stream.next().await.unwrap()) {
                assert_eq!(revision, next, "twice, or lost");
                next += 1;
            }
        }
    }
    stop.trigger();
    writing.await.unwrap();
}

/// Events were lost when many watches shared a connection whose client read slowly.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_17529_a_starved_stream_loses_nothing() {
    const WATCHES: usize = 60;
    const WRITES: i64 = 600;
    let member = Member::start(Kind::Ours);
    let watcher = member.client().await;
    let mut streams: Vec<WatchStream> = Vec::new();
    for _ in 0..3 {
        let first: Vec<_> = (0..WATCHES / 3).map(|_| create("k", "", 2)).collect();
        streams.push(watcher.watch(&first).await.unwrap());
    }
    // Nobody reads while this is written: 60 times 600 events of 4 KiB do not fit any buffer.
    let mut writer = Client::connect([member.endpoint()], None).await.unwrap();
    for _ in 0..WRITES {
        writer.put("k", "x".repeat(4096), None).await.unwrap();
    }
    for stream in &mut streams {
        let mut next = [2; WATCHES / 3];
        while next.iter().any(|next| *next <= WRITES + 1) {
            let response = stream.next().await.unwrap();
            for revision in revisions(&response) {
                let next = &mut next[response.watch_id as usize];
                assert_eq!(revision, *next, "watch {}", response.watch_id);
                *next += 1;
            }
        }
    }
}

/// A watch from a future revision got earlier events, and progress that it had not reached.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_20221_a_future_start_gets_nothing_earlier() {
    const START: i64 = 40;
    let cluster = cluster(&[]).await;
    for member in 0..3 {
        let mut writer = client(&cluster, member).await;
        let now = writer.get("k", None).await.unwrap().header().unwrap().revision();
        let watcher = cluster.connect(member).await.unwrap();
        let mut stream = watcher.watch(&[create("k", "", now + START)]).await.unwrap();
        assert!(stream.next().await.unwrap().created);
        for _ in 0..START + 5 {
            writer.put("k", "x", None).await.unwrap();
            assert!(stream.offer(progress()).await);
        }
        let mut next = now + START;
        while next <= now + START + 5 {
            let response = stream.next().await.unwrap();
            let header = response.header.unwrap().revision;
            assert!(header >= now + START, "{header} is before the start: {response:?}");
            for revision in revisions(&response) {
                assert_eq!(revision, next);
                next += 1;
            }
        }
    }
}

/// A leader that had been stopped, and did not know yet that there was another, answered a read.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_21417_no_stale_read_after_a_pause() {
    let mut cluster = cluster(&[]).await;
    for round in 0..5 {
        let paused = leader(&cluster).await;
        let mut reader = client(&cluster, paused).await;
        reader.get("k", None).await.unwrap();
        cluster.pause(paused, true);
        // This read waits in the stopped process.
        let mut waiting = reader.clone();
        let waiting = tasks::spawn("read", async move { waiting.get("early", None).await.is_ok() });
        let mut writer = client(&cluster, (paused + 1) % 3).await;
        let value = round.to_string();
        until("a write without the leader", async || writer.put("k", value.clone(), None).await)
            .await;
        cluster.pause(paused, false);
        let read = until("a read", async || reader.get("k", None).await).await;
        assert_eq!(read.kvs()[0].value_str().unwrap(), value, "round {round}");
        let _ = waiting.await;
    }
}

/// A read that was confirmed by one leader was answered from the state of another.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_21378_reads_are_current_while_the_leader_changes() {
    let mut cluster = cluster(&[]).await;
    let mut clients = Vec::new();
    for member in 0..3 {
        clients.push(client(&cluster, member).await);
    }
    let end = clock::now() + Duration::from_secs(4);
    let mut moved = 0;
    for number in 0_i64.. {
        if clock::now() >= end {
            break;
        }
        let (writer, reader) = (rng::below(3) as usize, rng::below(3) as usize);
        if number % 10 == 0 {
            let led_by = leader(&cluster).await;
            let to = cluster.status((led_by + 1) % 3).await;
            let to = to.and_then(|status| status.header).map_or(0, |header| header.member_id);
            moved += i32::from(clients[led_by].move_leader(to).await.is_ok());
        }
        if number % 50 == 25 {
            let led_by = leader(&cluster).await;
            cluster.kill(led_by);
            cluster.launch(led_by);
            moved += 1;
        }
        let value = number.to_string();
        let wrote = until("a write", async || clients[writer].put("k", value.clone(), None).await);
        let revision = wrote.await.header().unwrap().revision();
        let read = until("a read", async || clients[reader].get("k", None).await).await;
        assert!(read.header().unwrap().revision() >= revision, "written at {revision}: {read:?}");
        assert_eq!(read.kvs()[0].value_str().unwrap(), value);
    }
    assert!(moved > 0, "no leader was moved");
}

/// Every delete reaches a watcher, however it came about (the events' kinds, not only their number).
#[tokio::test(flavor = "multi_thread")]
async fn etcd_19179_a_delete_at_the_compacted_revision_is_seen() {
    let member = Member::start(Kind::Ours);
    let mut client = Client::connect([member.endpoint()], None).await.unwrap();
    for round in 0..20 {
        client.put("k", "x", None).await.unwrap();
        let deleted = client.delete("k", None).await.unwrap().header().unwrap().revision();
        client.put("other", "x", None).await.unwrap();
        let mut before = client.watch("k", Some(start(deleted))).await.unwrap();
        client.compact(deleted, None).await.unwrap();
        let mut after = client.watch("k", Some(start(deleted))).await.unwrap();
        for stream in [&mut before, &mut after] {
            let next = async {
                loop {
                    let response = stream.message().await.unwrap().unwrap();
                    assert!(!response.canceled(), "round {round}");
                    if let [event, ..] = response.events() {
                        return event.clone();
                    }
                }
            };
            let event = tokio::time::timeout(LIMIT, next).await.expect("an event in time");
            let got = (event.event_type(), event.kv().unwrap().mod_revision());
            assert_eq!(got, (EventType::Delete, deleted), "round {round}");
        }
    }
}

fn start(revision: i64) -> WatchOptions {
    WatchOptions::new().with_start_revision(revision)
}

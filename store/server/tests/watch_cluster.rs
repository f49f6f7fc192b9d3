//! Watches on a member that loses its leader, or that gets a snapshot.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use etcd_client::{CompactionOptions, EventType, WatchOptions, WatchStream};
use kijabi_base::tasks;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::watch_client::WatchClient;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use support::{Cluster, PATIENCE, eventually};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::{Code, Request, Status, Streaming};

/// A watch of everything, for a client that wants to know if there is no leader, or does not.
async fn watch_all(url: &str, needs_leader: bool) -> Result<Streaming<pb::WatchResponse>, Status> {
    let mut client = WatchClient::connect(url.to_owned()).await.unwrap();
    let create = pb::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // Never ends by itself: the client goes on listening.
    let requests = futures::StreamExt::chain(
        futures::stream::iter([create]),
        futures::stream::pending::<pb::WatchRequest>(),
    );
    let mut request = Request::new(requests);
    if needs_leader {
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    }
    Ok(client.watch(request).await?.into_inner())
}

async fn next(stream: &mut Streaming<pb::WatchResponse>) -> Result<pb::WatchResponse, Status> {
    let response = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time");
    response.map(|response| response.expect("a stream ends with an error"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_needs_a_leader_is_told_when_there_is_none() {
    let mut cluster = Cluster::start(3).await;
    let url = cluster.member(0).client_urls().remove(0);
    let mut needing = watch_all(&url, true).await.unwrap();
    let mut patient = watch_all(&url, false).await.unwrap();
    assert!(next(&mut needing).await.unwrap().created);
    assert!(next(&mut patient).await.unwrap().created);
    cluster.client(0).await.put("k", "v", None).await.unwrap();
    for stream in [&mut needing, &mut patient] {
        assert_eq!(next(stream).await.unwrap().events.len(), 1);
    }
    cluster.stop(1).await;
    cluster.stop(2).await;
    let told = next(&mut needing).await.unwrap_err();
    assert_eq!((told.code(), told.message()), (Code::Unavailable, "etcdserver: no leader"));
    // By then it is refused from the beginning.
    let refused = match watch_all(&url, true).await {
        Err(status) => status,
        Ok(mut stream) => next(&mut stream).await.unwrap_err(),
    };
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
    // The other one is still there when there is a leader again.
    cluster.restart(1).await;
    cluster.client(1).await.put("k", "w", None).await.unwrap();
    let response = next(&mut patient).await.unwrap();
    assert_eq!(&response.events[0].kv.as_ref().unwrap().value[..], b"w");
    // A move of the lead is no time without a leader.
    let mut needing = watch_all(&url, true).await.unwrap();
    assert!(next(&mut needing).await.unwrap().created);
    cluster.restart(2).await;
    let leader = cluster.leader().await;
    if leader != 0 {
        cluster.stop(leader).await;
    }
    cluster.client(0).await.put("k", "x", None).await.unwrap();
    let response = next(&mut needing).await.unwrap();
    assert_eq!(&response.events[0].kv.as_ref().unwrap().value[..], b"x");
    cluster.shutdown().await;
}

/// What the others send to the last member goes through a wire that can be cut.
async fn cluster_with_a_wire() -> (Cluster, watch::Sender<bool>) {
    let mut cluster = Cluster::prepare(3, |config| {
        config.snapshot_entries = 50;
        config.snapshot_catch_up_entries = 10;
    });
    let cut = watch::Sender::new(false);
    let last = &mut cluster.configs[2];
    let advertised = last.initial_advertise_peer_urls[0].trim_start_matches("http://").to_owned();
    let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    last.listen_peer_urls = vec![format!("http://{own}")];
    let listener = TcpListener::bind(advertised).await.unwrap();
    let is_cut = cut.subscribe();
    tasks::spawn("wire", async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut is_cut = is_cut.clone();
            tasks::spawn("carry", async move {
                let Ok(mut far) = TcpStream::connect(own).await else { return };
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = is_cut.wait_for(|cut| *cut) => {}
                }
            });
        }
    });
    let starting = cluster.configs.iter().cloned().map(kijabi_server::Member::start);
    let started = futures::future::join_all(starting).await;
    cluster.members = started.into_iter().map(|member| Some(member.unwrap())).collect();
    // It must not lead: a leader that is not heard is another story.
    if cluster.leader().await == 2 {
        let mut client = cluster.client(2).await;
        let heir = cluster.client(0).await.status().await.unwrap();
        client.move_leader(heir.header().unwrap().member_id()).await.unwrap();
    }
    (cluster, cut)
}

/// Revisions and values as a watch shows them, until `last`; or the compacted revision, if the watch
/// is canceled for that.
async fn follow(stream: &mut WatchStream, last: i64) -> (Vec<(i64, String)>, Option<i64>) {
    let mut seen = Vec::new();
    loop {
        let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time");
        let response = message.unwrap().expect("the stream goes on");
        if response.canceled() {
            return (seen, Some(response.compact_revision()));
        }
        for event in response.events() {
            assert_eq!(event.event_type(), EventType::Put);
            let kv = event.kv().unwrap();
            seen.push((kv.mod_revision(), kv.value_str().unwrap().to_owned()));
        }
        if seen.last().is_some_and(|(revision, _)| *revision >= last) {
            return (seen, None);
        }
    }
}

/// Cuts the last member off, writes, maybe compacts, and lets it come back by a snapshot; returns
/// what a watch on it has shown, and what was written.
#[allow(clippy::type_complexity, reason = "it is read once")]
async fn over_a_snapshot(
    compact: bool,
) -> ((Vec<(i64, String)>, Option<i64>), Vec<(i64, String)>, i64) {
    let (cluster, cut) = cluster_with_a_wire().await;
    let mut writer = cluster.client(0).await;
    let mut written = Vec::new();
    for number in 0..300 {
        if number == 20 {
            cut.send_replace(true);
        }
        let put = writer.put(format!("k{}", number % 7), format!("{number}"), None).await.unwrap();
        written.push((put.header().unwrap().revision(), format!("{number}")));
        if number == 10 {
            // In the middle, so that some is history for it and some is news.
            let far = cluster.client(2).await.get("k", None).await.unwrap();
            assert!(far.header().unwrap().revision() >= written[10].0);
        }
    }
    let last = written.last().unwrap().0;
    let mut behind = cluster.client(2).await;
    let options = WatchOptions::new().with_prefix().with_start_revision(2).with_prev_key();
    let mut stream = behind.watch("k", Some(options)).await.unwrap();
    // It lives before the snapshot comes: it has shown what the member has.
    let (mut seen, canceled) = follow(&mut stream, written[10].0).await;
    assert_eq!(canceled, None);
    if compact {
        writer.compact(last - 5, Some(CompactionOptions::new())).await.unwrap();
    }
    cut.send_replace(false);
    let (more, compacted) = follow(&mut stream, last).await;
    seen.extend(more);
    // It really was a snapshot: the log is not there any more.
    eventually("the member has all", || {
        let mut behind = behind.clone();
        async move { behind.get("k6", None).await.is_ok() }
    })
    .await;
    let metrics = metrics_of(&cluster, 0).await + &metrics_of(&cluster, 1).await;
    let sent = |line: &str| {
        line.starts_with("etcd_network_snapshot_send_success{") && !line.ends_with(" 0")
    };
    assert!(metrics.lines().any(sent), "{metrics}");
    cluster.shutdown().await;
    ((seen, compacted), written, last)
}

async fn metrics_of(cluster: &Cluster, number: usize) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = cluster.member(number).client_addrs()[0];
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await;
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_loses_and_doubles_nothing_when_its_member_gets_a_snapshot() {
    let ((seen, compacted), written, _) = over_a_snapshot(false).await;
    assert_eq!(compacted, None);
    assert_eq!(seen, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_next_revision_a_snapshot_has_not_got_is_told_so() {
    let ((seen, compacted), written, last) = over_a_snapshot(true).await;
    assert_eq!(seen, written[..seen.len()], "what was shown is a beginning");
    match compacted {
        Some(revision) => assert_eq!(revision, last - 5),
        None => assert_eq!(seen.len(), written.len()),
    }
}

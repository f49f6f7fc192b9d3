//! Three members in this process: any of them takes writes and reads, and none is needed.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use etcd_client::{GetOptions, PutOptions};
use support::{Cluster, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn every_member_takes_writes_and_reads_what_the_others_wrote() {
    let cluster = Cluster::start(3).await;
    let mut revisions = Vec::new();
    for writer in 0..3 {
        let mut client = cluster.client(writer).await;
        let put = client.put(format!("k{writer}"), "v", None).await.unwrap();
        revisions.push(put.header().unwrap().revision());
        // Applied here before it was answered.
        let serializable = GetOptions::new().with_serializable();
        let own = client.get(format!("k{writer}"), Some(serializable)).await.unwrap();
        assert_eq!(own.count(), 1, "member {writer}");
        for reader in 0..3 {
            let read = cluster.client(reader).await.get(format!("k{writer}"), None).await.unwrap();
            assert_eq!(read.count(), 1, "written on {writer}, read on {reader}");
        }
    }
    assert_eq!(revisions, [2, 3, 4]);
    let mut ids = Vec::new();
    for number in 0..3 {
        let status = cluster.client(number).await.status().await.unwrap();
        ids.push(status.header().unwrap().member_id());
        assert_ne!(status.leader(), 0);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each answers in its own name");
    let members = cluster.client(0).await.member_list().await.unwrap();
    let mut listed: Vec<u64> = members.members().iter().map(|member| member.id()).collect();
    listed.sort_unstable();
    assert_eq!(listed, ids);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_is_replaced_and_catches_up_later() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    for number in 0..20 {
        let mut client = cluster.client(follower).await;
        client.put(format!("k{number}"), "before", None).await.unwrap();
    }
    cluster.stop(leader).await;
    for number in 20..40 {
        let mut client = cluster.client(follower).await;
        client.put(format!("k{number}"), "after", None).await.unwrap();
    }
    assert_ne!(cluster.leader().await, leader);
    cluster.restart(leader).await;
    let mut client = cluster.client(leader).await;
    let all = client.get("k", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(all.count(), 40);
    let mut hashes = Vec::new();
    for number in 0..3 {
        // Linearizable, so that the hash is of everything.
        cluster.client(number).await.get("k", None).await.unwrap();
        hashes.push(cluster.client(number).await.hash_kv(0).await.unwrap().hash());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::start_with(3, |config| {
        config.snapshot_entries = 50;
        config.snapshot_catch_up_entries = 10;
    })
    .await;
    let behind = (cluster.leader().await + 1) % 3;
    cluster.stop(behind).await;
    let writer = cluster.running()[0];
    let mut client = cluster.client(writer).await;
    for number in 0..300 {
        client.put(format!("k{:03}", number % 100), format!("v{number}"), None).await.unwrap();
    }
    cluster.restart(behind).await;
    let mut late = cluster.client(behind).await;
    let all = late.get("k", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(all.kvs().len(), 100);
    assert_eq!(all.kvs()[99].value_str().unwrap(), "v299");
    let put = late.put("k", "after", None).await.unwrap();
    assert_eq!(put.header().unwrap().revision(), 302);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_live_and_end_whichever_member_is_asked() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let mut client = cluster.client(follower).await;
    let lease = client.lease_grant(100, None).await.unwrap().id();
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 100);
    let left = client.lease_time_to_live(lease, None).await.unwrap();
    assert_eq!(left.granted_ttl(), 100);
    assert!(left.ttl() > 90, "{left:?}");
    let unknown = client.lease_keep_alive(12345).await.unwrap_err();
    assert!(unknown.to_string().contains("lease not found"), "{unknown}");
    let short = client.lease_grant(2, None).await.unwrap().id();
    let options = PutOptions::new().with_lease(short);
    client.put("short", "x", Some(options)).await.unwrap();
    eventually("the lease expires", || {
        let mut client = client.clone();
        async move { client.get("short", None).await.unwrap().count() == 0 }
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_data_is_gone_does_not_begin_again() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(1).await;
    std::fs::remove_dir_all(&cluster.configs[1].data_dir).unwrap();
    let config = cluster.configs[1].clone();
    let Err(error) = kijabi_server::Member::start(config).await else { panic!("it started") };
    assert!(error.to_string().contains("has already been bootstrapped"), "{error}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_over_on_request_and_before_a_stop() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let status = cluster.client(number).await.status().await.unwrap();
        ids.push(status.header().unwrap().member_id());
    }
    let target = (leader + 1) % 3;
    let refused = cluster.client(target).await.move_leader(ids[leader]).await.unwrap_err();
    assert!(refused.to_string().contains("etcdserver: not leader"), "{refused}");
    let refused = cluster.client(leader).await.move_leader(12345).await.unwrap_err();
    assert!(refused.to_string().contains("etcdserver: bad leader transferee"), "{refused}");
    cluster.client(leader).await.move_leader(ids[target]).await.unwrap();
    assert_eq!(cluster.leader().await, target);

    // Writes go on over the stop of the leader, and what was acknowledged is there.
    let writer = (target + 1) % 3;
    let mut client = cluster.client(writer).await;
    let term = client.status().await.unwrap().raft_term();
    let writing = kijabi_base::tasks::spawn("writing", async move {
        for number in 0..200 {
            client.put(format!("k{number:03}"), "v", None).await.unwrap();
        }
    });
    cluster.stop(target).await;
    assert_ne!(cluster.leader().await, target);
    writing.await.unwrap();
    let mut client = cluster.client(writer).await;
    let options = GetOptions::new().with_prefix().with_count_only();
    assert_eq!(client.get("k", Some(options)).await.unwrap().count(), 200);
    assert!(client.status().await.unwrap().raft_term() > term);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_promised() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.client(leader).await.put("k", "v", None).await.unwrap();
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    for other in others {
        cluster.stop(other).await;
    }
    let mut client = cluster.client(leader).await;
    eventually("the leader notices that it is alone", || {
        let mut client = client.clone();
        async move { client.status().await.unwrap().leader() == 0 }
    })
    .await;
    // Nobody needs to agree to this one.
    let serializable = GetOptions::new().with_serializable();
    assert_eq!(client.get("k", Some(serializable)).await.unwrap().count(), 1);
    let error = client.put("k", "w", None).await.unwrap_err().to_string();
    assert!(error.contains("etcdserver: request timed out"), "{error}");
    let error = client.get("k", None).await.unwrap_err().to_string();
    assert!(error.contains("etcdserver: request timed out"), "{error}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_url_refuses_strangers() {
    use kijabi_proto::peer::peer_client::PeerClient;
    use kijabi_proto::peer::{AppendRequest, ReadIndexRequest, SnapshotPart, Vote, VoteRequest};

    let cluster = Cluster::start(3).await;
    cluster.client(0).await.put("k", "v", None).await.unwrap();
    let status = cluster.client(0).await.status().await.unwrap();
    let header = status.header().unwrap();
    let (id, term) = (header.member_id(), status.raft_term());
    let own_cluster = format!("{:x}", header.cluster_id());
    let url = cluster.configs[0].listen_peer_urls[0].clone();
    let mut client = PeerClient::connect(url.clone()).await.unwrap();
    let target = format!("{id:x}");
    for (what, cluster, sender, target, text) in [
        ("cluster", "abc", "1", target.as_str(), "cluster ID mismatch"),
        ("target", own_cluster.as_str(), "1", "77", "not the member with that ID"),
        ("sender", own_cluster.as_str(), "", target.as_str(), "not another member"),
        ("stranger", own_cluster.as_str(), "1", target.as_str(), "not a member of the cluster"),
    ] {
        let request = named([cluster, sender, target], ReadIndexRequest {});
        let refused = client.read_index(request).await.unwrap_err();
        assert!(refused.message().contains(text), "{what}: {refused}");
    }
    // Neither votes nor entries nor a snapshot of somebody who is no member change anything.
    let stranger = [own_cluster.as_str(), "1", target.as_str()];
    let vote = Vote { term: term + 10, member_id: 1, committed: false };
    let leads = Some(Vote { committed: true, ..vote });
    let request = VoteRequest { vote: Some(vote), last: None, leadership_transfer: true };
    assert!(client.vote(named(stranger, request)).await.is_err());
    let beat = AppendRequest { vote: leads, ..Default::default() };
    assert!(client.heartbeat(named(stranger, beat)).await.is_err());
    let parts = futures::stream::iter([SnapshotPart::default()]);
    assert!(client.snapshot(named(stranger, parts)).await.is_err());
    let after = cluster.client(0).await.status().await.unwrap();
    assert!(after.raft_term() < term + 10, "the stranger's term was taken");
    cluster.client(0).await.put("k", "w", None).await.unwrap();
    cluster.shutdown().await;
}

/// A request between members, with the ids of the cluster, the sender and the receiver.
fn named<T>(ids: [&str; 3], message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    for (name, id) in ["x-etcd-cluster-id", "x-server-from", "x-raft-to"].into_iter().zip(ids) {
        request.metadata_mut().insert(name, id.parse().unwrap());
    }
    request
}

/// E22: a member's name does not help whoever sends what no member would: it is refused before it
/// is read, or without a trace, and the term and the data stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn the_peer_url_refuses_what_no_member_sends() {
    use kijabi_proto::peer::peer_client::PeerClient;
    use kijabi_proto::peer::snapshot_part::Part;
    use kijabi_proto::peer::{SnapshotHead, SnapshotPart, Vote};

    let cluster = Cluster::start(3).await;
    cluster.client(0).await.put("k", "v", None).await.unwrap();
    let other = cluster.client(1).await.status().await.unwrap().header().unwrap().member_id();
    let status = cluster.client(0).await.status().await.unwrap();
    let (header, term) = (status.header().unwrap(), status.raft_term());
    let ids = [header.cluster_id(), other, header.member_id()].map(|id| format!("{id:x}"));
    let ids = ids.each_ref().map(String::as_str);
    let url = cluster.configs[0].listen_peer_urls[0].clone();
    for method in ["Append", "Heartbeat", "Snapshot", "Vote", "ReadIndex", "Propose"] {
        // A message that says it has 4 GiB, and of which the first bytes come.
        let message = [&[0, 0xff, 0xff, 0xff, 0xff][..], &[0x0a; 100]].concat();
        let path = format!("{url}/kijabi.peer.v1.Peer/{method}");
        let names = ["x-etcd-cluster-id", "x-server-from", "x-raft-to"];
        let headers: Vec<_> = names.into_iter().zip(ids).collect();
        let (status, text) = support::raw::call(&path, &headers, message).await;
        // The stream of entries just ends.
        if method != "Append" {
            assert_eq!(status, "11", "{method}: {text}");
            assert!(text.contains("decoded message length too large"), "{method}: {text}");
        }
    }
    let mut client = PeerClient::connect(url).await.unwrap();
    let head = |vote| SnapshotHead { vote: Some(vote), meta: b"\x01nonsense".as_slice().into() };
    let vote = Vote { term: term + 10, member_id: other, committed: true };
    for (what, parts) in [
        ("nothing", vec![]),
        ("data first", vec![SnapshotPart { part: Some(Part::Data(vec![7; 100].into())) }]),
        ("nonsense", vec![SnapshotPart { part: Some(Part::Head(head(vote))) }]),
        (
            "another one's vote",
            vec![SnapshotPart { part: Some(Part::Head(head(Vote { member_id: 1, ..vote }))) }],
        ),
    ] {
        let request = named(ids, futures::stream::iter(parts));
        assert!(client.snapshot(request).await.is_err(), "{what}");
    }
    let after = cluster.client(0).await.status().await.unwrap();
    assert!(after.raft_term() < term + 10, "its term was taken");
    assert_eq!(cluster.client(0).await.get("k", None).await.unwrap().count(), 1);
    cluster.client(0).await.put("k", "w", None).await.unwrap();
    cluster.shutdown().await;
}

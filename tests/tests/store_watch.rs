//! Watches while writers are at work: whenever a watch begins, however slowly its client reads, it
//! gets every event of its keys once, in order, whole revisions, and progress that holds.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use kijabi_base::tasks;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use kijabi_proto::mvccpb::Event;
use kijabi_tests::etcd::{Client, Kind, Member};

const WRITERS: usize = 4;
const WRITES: usize = 400;
const KEYS: usize = 12;
/// How long a client waits for progress.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Revisions there are in the end: each write makes one.
const LAST: i64 = 1 + (WRITERS * WRITES) as i64;

fn key(at: usize) -> Bytes {
    format!("k{:02}", at % KEYS).into()
}

fn watch(key: Bytes, range_end: &'static str, start_revision: i64) -> pb::WatchRequest {
    let request = pb::WatchCreateRequest {
        key,
        range_end: range_end.into(),
        start_revision,
        prev_kv: true,
        ..Default::default()
    };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
}

fn progress() -> pb::WatchRequest {
    let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    pb::WatchRequest { request_union: Some(request) }
}

/// Writes: single puts, and transactions that put one key and delete another.
async fn write(client: Client, writer: usize) {
    let mut kv = client.kv();
    for at in 0..WRITES {
        let value = Bytes::from(format!("{writer}.{at}"));
        let put = pb::PutRequest { key: key(writer + at * 7), value, ..Default::default() };
        if at % 5 != 0 {
            kv.put(put).await.unwrap();
            continue;
        }
        let key = key(writer + at * 7 + 1);
        let delete = pb::DeleteRangeRequest { key, ..Default::default() };
        let ops = [Op::RequestPut(put), Op::RequestDeleteRange(delete)];
        let success = ops.map(|op| pb::RequestOp { request: Some(op) }).to_vec();
        kv.txn(pb::TxnRequest { success, ..Default::default() }).await.unwrap();
    }
}

/// Watches until the last revision is known to be past; returns the events.
async fn follow(client: Client, request: pb::WatchRequest, slow: bool) -> Vec<Event> {
    let mut stream = client.watch(std::slice::from_ref(&request)).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    let (mut events, mut promised): (Vec<Event>, i64) = (Vec::new(), 0);
    while promised < LAST {
        stream.send(progress()).await;
        // A progress request that comes at a bad moment is not answered: ask again.
        let Ok(response) = tokio::time::timeout(ASK_AGAIN, stream.next()).await else { continue };
        let response = response.unwrap();
        let revision = response.header.unwrap().revision;
        if response.watch_id == -1 {
            assert!(revision >= promised, "progress went back");
            promised = revision;
            if slow {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            continue;
        }
        for event in response.events {
            let at = event.kv.as_ref().unwrap().mod_revision;
            assert!(at > promised, "WATCH-3: {at} came after progress at {promised}");
            let last = events.last().map_or(0, |e| e.kv.as_ref().unwrap().mod_revision);
            assert!(at >= last && at <= revision, "{at} after {last} under header {revision}");
            events.push(event);
        }
        if slow {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    events
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().unwrap().mod_revision
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watch_sees_the_same_history_while_it_is_written() {
    let member = Member::start(Kind::Ours);
    let spawn = |client, request, slow| tasks::spawn("follow", follow(client, request, slow));
    let mut whole = Vec::new();
    for slow in [false, true] {
        let everything = watch(Bytes::from_static(b"k"), "l", 1);
        whole.push(spawn(member.client().await, everything, slow));
    }
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        writers.push(tasks::spawn("write", write(member.client().await, writer)));
    }
    let client = member.client().await;
    let mut late = Vec::new();
    for at in 0..KEYS {
        let read = pb::RangeRequest { key: key(at), ..Default::default() };
        let now = client.kv().range(read).await.unwrap().into_inner().header.unwrap().revision;
        let start = 1 + now * (at as i64) / (KEYS as i64);
        let request = watch(key(at), "", start);
        late.push((at, start, spawn(member.client().await, request, at % 2 == 0)));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut histories = Vec::new();
    for history in whole {
        histories.push(history.await.unwrap());
    }
    let truth = histories.remove(0);
    assert_eq!(histories[0], truth, "a slow client sees what a fast one does");
    let revisions: BTreeSet<i64> = truth.iter().map(revision).collect();
    assert!(revisions.into_iter().eq(2..=LAST), "WATCH-1: every revision is there");
    for (at, start, events) in late {
        let of_key = |event: &&Event| event.kv.as_ref().unwrap().key == key(at);
        let expected: Vec<Event> = truth
            .iter()
            .filter(|event| of_key(event) && revision(event) >= start)
            .cloned()
            .collect();
        assert_eq!(events.await.unwrap(), expected, "{:?} from {start}", key(at));
    }
}

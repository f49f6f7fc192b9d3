//! Requests that no sane client sends, over the wire: each gets etcd's error, the member goes on.
//!
//! Rows E1 to E10 of the list of hostile inputs; what Debian's etcd can be asked too stands in
//! `store_differential`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use kijabi_base::clock;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use kijabi_tests::etcd::{Client, Kind, Member};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::{Code, Status};

fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: Bytes::from(key.to_owned()), ..Default::default() }
}

fn put(key: &str, value: Vec<u8>) -> pb::PutRequest {
    let key = Bytes::from(key.to_owned());
    pb::PutRequest { key, value: value.into(), ..Default::default() }
}

fn said(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

/// The member still answers, at the revision it had.
async fn goes_on(client: &Client, revision: i64) {
    let response = client.kv().range(range("a")).await.unwrap().into_inner();
    assert_eq!(response.header.unwrap().revision, revision);
}

/// Sends bytes as they are in the place of a transaction.
async fn raw_txn(client: &Client, bytes: Bytes) -> Result<pb::TxnResponse, Status> {
    let mut client = tonic::client::Grpc::new(client.channel());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Txn");
    let codec = raw::Codec;
    client.unary(tonic::Request::new(bytes), path, codec).await.map(tonic::Response::into_inner)
}

/// A codec that sends bytes unchanged and reads an answer to a transaction.
mod raw {
    use bytes::{BufMut as _, Bytes};
    use kijabi_proto::etcdserverpb::TxnResponse;
    use prost::Message as _;
    use tonic::Status;
    use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};

    #[derive(Default)]
    pub(super) struct Codec;

    impl tonic::codec::Codec for Codec {
        type Encode = Bytes;
        type Decode = TxnResponse;
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            Self
        }

        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for Codec {
        type Item = Bytes;
        type Error = Status;

        fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            buffer.put(item);
            Ok(())
        }
    }

    impl Decoder for Codec {
        type Item = TxnResponse;
        type Error = Status;

        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<TxnResponse>, Status> {
            TxnResponse::decode(buffer).map(Some).map_err(|e| Status::internal(e.to_string()))
        }
    }
}

/// A transaction of `levels` nested ones, written without recursion.
fn nested(levels: usize) -> Bytes {
    let mut bytes = Bytes::new();
    for _ in 1..levels {
        let mut op = BytesMut::new();
        wrap(4, &bytes, &mut op);
        let mut txn = BytesMut::new();
        wrap(2, &op, &mut txn);
        bytes = txn.freeze();
    }
    bytes
}

fn wrap(tag: u32, bytes: &[u8], buffer: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

/// E2 and E18: depth costs neither stack nor a misleading error.
#[tokio::test(flavor = "multi_thread")]
async fn nesting_is_bounded_before_it_is_followed() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    assert!(raw_txn(&client, nested(40)).await.is_ok());
    for levels in [41, 60, 128, 10_000, 100_000] {
        let status = raw_txn(&client, nested(levels)).await.unwrap_err();
        let expected = "etcdserver: too many operations in txn request";
        assert_eq!(said(&status), (Code::InvalidArgument, expected), "{levels} levels");
    }
    for garbage in [&b"\xff\xff\xff\xff"[..], b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
        let status = raw_txn(&client, Bytes::from_static(garbage)).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status}");
    }
    goes_on(&client, 1).await;
}

/// E3: a request full of changes is compared in a moment.
#[tokio::test(flavor = "multi_thread")]
async fn many_nested_changes_are_compared_quickly() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    let op = |request| pb::RequestOp { request: Some(request) };
    let puts = |from: usize| -> Vec<pb::RequestOp> {
        let put = |at: usize| op(Op::RequestPut(put(&format!("{at:06}"), Vec::new())));
        (from..from + 60).map(put).collect()
    };
    let branch = |from: usize| {
        let inner = (0..50).map(|at| {
            let success = puts(from + at * 60);
            op(Op::RequestTxn(pb::TxnRequest { success, ..Default::default() }))
        });
        op(Op::RequestTxn(pb::TxnRequest { success: inner.collect(), ..Default::default() }))
    };
    let mut success: Vec<pb::RequestOp> = (0..8).map(|at| branch(at * 3000)).collect();
    let whole = pb::TxnRequest { success: success.clone(), ..Default::default() };
    assert!(client.kv().txn(whole).await.unwrap().into_inner().succeeded);
    success.push(branch(0));
    let twice = pb::TxnRequest { success, ..Default::default() };
    let status = client.kv().txn(twice).await.unwrap_err();
    let expected = "etcdserver: duplicate key given in txn request";
    assert_eq!(said(&status), (Code::InvalidArgument, expected));
    goes_on(&client, 2).await;
}

/// E5: a request over etcd's limit, and a message over the transport's.
#[tokio::test(flavor = "multi_thread")]
async fn large_requests_are_refused_at_both_limits() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    let largest = 1_572_864 - put("k", vec![0; 1 << 20]).encoded_len() + (1 << 20);
    client.kv().put(put("k", vec![0; largest])).await.unwrap();
    let status = client.kv().put(put("k", vec![0; largest + 1])).await.unwrap_err();
    let expected = (Code::InvalidArgument, "etcdserver: request is too large");
    assert_eq!(said(&status), expected);
    let status = client.kv().put(put("k", vec![0; 3 << 20])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().starts_with("grpc: received message larger than max ("), "{status}");
    goes_on(&client, 2).await;
}

/// E8 and E1: what 3.4 crashes on.
#[tokio::test(flavor = "multi_thread")]
async fn values_outside_of_enumerations_are_refused() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5), (1, -1), (i32::MAX, i32::MIN)] {
        let request = pb::RangeRequest { sort_order, sort_target, ..range("a") };
        let status = client.kv().range(request.clone()).await.unwrap_err();
        let expected = (Code::InvalidArgument, "etcdserver: invalid sort option");
        assert_eq!(said(&status), expected);
        let op = pb::RequestOp { request: Some(Op::RequestRange(request)) };
        let txn = pb::TxnRequest { failure: vec![op], ..Default::default() };
        assert_eq!(said(&client.kv().txn(txn).await.unwrap_err()), expected);
    }
    goes_on(&client, 1).await;
}

fn create(key: String) -> pb::WatchRequest {
    let request = pb::WatchCreateRequest { key: key.into(), ..Default::default() };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
}

/// E10: very many watches on one stream, of which each still gets its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_bears_very_many_watches() {
    const WATCHES: i64 = 20_000;
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    let mut stream = client.watch(&[create("k0".into())]).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    for at in 1..WATCHES {
        stream.send(create(format!("k{at}"))).await;
        let response = stream.next().await.unwrap();
        assert_eq!((response.watch_id, response.created), (at, true));
    }
    for at in [0, 7, WATCHES - 1] {
        client.kv().put(put(&format!("k{at}"), Vec::new())).await.unwrap();
        assert_eq!(stream.next().await.unwrap().watch_id, at);
    }
}

/// E10: a client that watches everything and never reads costs the others nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_holds_nobody_up() {
    let member = Member::start(Kind::Ours);
    let (lazy, client) = (member.client().await, member.client().await);
    let everything = pb::WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        prev_kv: true,
        ..Default::default()
    };
    let everything =
        pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(everything)) };
    let mut unread = lazy.watch(std::slice::from_ref(&everything)).await.unwrap();
    let mut read = client.watch(&[everything]).await.unwrap();
    let value = vec![b'x'; 64 << 10];
    for at in 0..400 {
        client.kv().put(put(&format!("k{}", at % 10), value.clone())).await.unwrap();
    }
    let count = async |stream: &mut kijabi_tests::etcd::WatchStream| {
        let mut revisions = Vec::new();
        while revisions.len() < 400 {
            let response = stream.next().await.unwrap();
            revisions.extend(response.events.iter().map(|e| e.kv.as_ref().unwrap().mod_revision));
        }
        revisions
    };
    let expected: Vec<i64> = (2..402).collect();
    assert_eq!(count(&mut read).await, expected, "WATCH-1");
    // And it gets everything as soon as it does read.
    assert_eq!(count(&mut unread).await, expected, "WATCH-1");
}

/// E9: leases in number, and their keep-alives.
#[tokio::test(flavor = "multi_thread")]
async fn many_leases_are_granted_listed_and_revoked() {
    const LEASES: i64 = 2_000;
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    let grants = (1..=LEASES).map(|id| {
        let mut lease = client.lease();
        async move { lease.lease_grant(pb::LeaseGrantRequest { ttl: 60, id }).await.unwrap() }
    });
    futures::future::join_all(grants).await;
    let listed = client.lease().lease_leases(pb::LeaseLeasesRequest {}).await.unwrap();
    assert_eq!(listed.into_inner().leases.len(), LEASES as usize);
    for id in [1, LEASES] {
        assert_eq!(client.keep_alive(id).await.unwrap().ttl, 60);
        client.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap();
        assert_eq!(client.keep_alive(id).await.unwrap().ttl, 0);
    }
}

/// LEASE-1 over the wire: a lease that is kept alive outlives its time, then its keys go at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lives_exactly_as_long_as_it_is_kept_alive() {
    const TTL: Duration = Duration::from_secs(2);
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 2, id: 5 }).await.unwrap();
    let leased = pb::PutRequest { lease: 5, ..put("a", Vec::new()) };
    client.kv().put(leased).await.unwrap();
    let mut stream = client.watch(&[create("a".into())]).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    let begun = clock::now();
    let mut kept = clock::now();
    while begun.elapsed() < 2 * TTL {
        kept = clock::now();
        assert_eq!(client.keep_alive(5).await.unwrap().ttl, 2);
        tokio::time::sleep(TTL / 10).await;
    }
    let event = stream.next().await.unwrap().events.remove(0);
    assert_eq!(event.r#type(), kijabi_proto::mvccpb::event::EventType::Delete);
    assert!(kept.elapsed() >= TTL, "LEASE-1: gone after {:?}", kept.elapsed());
}

/// A streamed range adds up to the plain one.
#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_range_adds_up_to_the_plain_one() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    for at in 0..60 {
        client.kv().put(put(&format!("k{at:02}"), vec![b'v'; 100])).await.unwrap();
    }
    let all = pb::RangeRequest { range_end: Bytes::from_static(b"l"), ..range("k") };
    let requests = [
        all.clone(),
        pb::RangeRequest { limit: 25, ..all.clone() },
        pb::RangeRequest { limit: 60, keys_only: true, ..all.clone() },
        pb::RangeRequest { revision: 31, serializable: true, ..all.clone() },
        pb::RangeRequest { count_only: true, ..all.clone() },
        pb::RangeRequest { sort_order: 2, limit: 7, ..all.clone() },
        pb::RangeRequest { min_mod_revision: 20, ..all.clone() },
        range("k07"),
        range("nothing"),
    ];
    for request in requests {
        let plain = client.kv().range(request.clone()).await.unwrap().into_inner();
        let mut stream = client.kv().range_stream(request).await.unwrap().into_inner();
        let mut sum = pb::RangeResponse::default();
        while let Some(chunk) = stream.message().await.unwrap() {
            let chunk = chunk.range_response.unwrap();
            sum.kvs.extend(chunk.kvs);
            sum.header = chunk.header.or(sum.header);
            sum.more |= chunk.more;
            sum.count = sum.count.max(chunk.count);
        }
        assert_eq!(sum, plain);
    }
    let future = pb::RangeRequest { revision: 1000, ..all };
    let status = client.kv().range_stream(future).await.unwrap_err();
    let expected = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!(said(&status), (Code::OutOfRange, expected));
}

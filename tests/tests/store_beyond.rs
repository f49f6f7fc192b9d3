//! What etcd 3.6 and 3.7 answer and Debian's 3.4 cannot be asked: from etcd's own contract.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::auth_client::AuthClient;
use kijabi_proto::etcdserverpb::downgrade_request::DowngradeAction;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use kijabi_tests::etcd::{Client, Kind, Member};
use tonic::{Code, Status};

/// Keys, of a size that makes a stream of several messages.
const KEYS: usize = 400;
const VALUE_BYTES: usize = 8 << 10;

fn text(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest { key: text("k"), range_end: text("l"), ..Default::default() }
}

/// The messages of a stream, and the one message that they are together.
async fn stream(
    client: &Client,
    request: pb::RangeRequest,
) -> Result<(Vec<pb::RangeResponse>, pb::RangeResponse), Status> {
    let mut stream = client.kv().range_stream(request).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message.range_response.unwrap());
    }
    let mut merged = pb::RangeResponse::default();
    for message in messages.clone() {
        merged.kvs.extend(message.kvs);
        merged.more |= message.more;
        merged.count += message.count;
        merged.header = message.header.or(merged.header);
    }
    Ok((messages, merged))
}

async fn put(client: &Client, key: &str, value: &str) {
    let put = pb::PutRequest { key: text(key), value: text(value), ..Default::default() };
    client.kv().put(put).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_range_is_the_range() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    let value = "x".repeat(VALUE_BYTES);
    for number in 0..KEYS {
        put(&client, &format!("k{number:04}"), &value).await;
    }
    put(&client, "k0000", "new").await;
    let plain = pb::RangeRequest::default;
    for (name, request) in [
        ("everything", all()),
        ("a limit", pb::RangeRequest { limit: 123, ..all() }),
        ("a limit beyond the end", pb::RangeRequest { limit: 9999, ..all() }),
        ("keys only", pb::RangeRequest { keys_only: true, ..all() }),
        ("the count", pb::RangeRequest { count_only: true, ..all() }),
        ("the past", pb::RangeRequest { revision: 200, ..all() }),
        ("from this member", pb::RangeRequest { serializable: true, ..all() }),
        ("one key", pb::RangeRequest { key: text("k0007"), ..plain() }),
        ("no key", pb::RangeRequest { key: text("x"), range_end: text("y"), ..plain() }),
    ] {
        let unary = client.kv().range(request.clone()).await.unwrap().into_inner();
        let (messages, merged) = stream(&client, request).await.unwrap();
        assert!(merged == unary, "{name}: the stream is not the range");
        let (last, before) = messages.split_last().unwrap();
        assert!(last.header.is_some(), "{name}: the last message has the header");
        let bare = |m: &pb::RangeResponse| m.header.is_none() && m.count == 0 && !m.more;
        assert!(before.iter().all(bare), "{name}: the others have keys only");
        let large = before.iter().any(|message| message.kvs.len() > KEYS / 2);
        assert!(!large || name == "keys only", "{name}: a message with half of everything");
    }
    assert!(stream(&client, all()).await.unwrap().0.len() > 2, "several messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_refused_as_a_range_is() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    for _ in 0..5 {
        put(&client, "k", "x").await;
    }
    client.kv().compact(pb::CompactionRequest { revision: 4, physical: true }).await.unwrap();
    for (request, code, message) in [
        (pb::RangeRequest::default(), Code::InvalidArgument, "etcdserver: key is not provided"),
        (
            pb::RangeRequest { revision: 3, ..all() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            pb::RangeRequest { revision: 99, ..all() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            pb::RangeRequest { sort_order: 9, ..all() },
            Code::InvalidArgument,
            "etcdserver: invalid sort option",
        ),
    ] {
        let refused = stream(&client, request).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (code, message));
    }
}

/// What a watch that is refused at once answers.
async fn refusal(client: &Client, request: pb::WatchCreateRequest) -> pb::WatchResponse {
    let create = RequestUnion::CreateRequest(request);
    let create = pb::WatchRequest { request_union: Some(create) };
    client.watch(&[create]).await.unwrap().next().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_before_the_beginning_is_refused() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    for start_revision in [-1, i64::MIN] {
        let request =
            pb::WatchCreateRequest { key: text("a"), start_revision, ..Default::default() };
        let answer = refusal(&client, request).await;
        assert!(answer.created && answer.canceled && answer.watch_id == -1, "{answer:?}");
        let reason = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(answer.cancel_reason, reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_hashes_say_what_is_new() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    put(&client, "k", "x").await;
    let status = client.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner();
    let version: Vec<u32> = status.version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(version >= vec![3, 6, 14], "feature detection reads {}", status.version);
    assert_eq!(status.storage_version, "3.6.0");
    assert_eq!(status.db_size_quota, 2 << 30);
    assert!(!status.downgrade_info.unwrap_or_default().enabled);
    let hash = client.maintenance().hash_kv(pb::HashKvRequest { revision: 0 }).await;
    assert_eq!(hash.unwrap().into_inner().hash_revision, 2);
    let alarms = client.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap();
    assert_eq!(alarms.into_inner().header.unwrap().revision, 2);
    let mut auth = AuthClient::new(client.channel());
    let auth = auth.auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((auth.enabled, auth.auth_revision), (false, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_linearizably_and_versions_go_nowhere() {
    let member = Member::start(Kind::Ours);
    let client = member.client().await;
    let list = pb::MemberListRequest { linearizable: true };
    let list = client.cluster().member_list(list).await.unwrap().into_inner();
    assert_eq!((list.members.len(), list.header.unwrap().revision), (1, 0));
    assert!(!list.members[0].is_learner);
    for (action, version, message) in [
        (DowngradeAction::Validate, "x", "etcdserver: wrong downgrade target version format"),
        (DowngradeAction::Enable, "", "etcdserver: wrong downgrade target version format"),
        (DowngradeAction::Validate, "3.0.0", "etcdserver: invalid downgrade target version"),
    ] {
        let request = pb::DowngradeRequest { action: action as i32, version: version.to_owned() };
        let refused = client.maintenance().downgrade(request).await.unwrap_err();
        assert_eq!(refused.message(), message, "{action:?} {version:?}");
    }
}

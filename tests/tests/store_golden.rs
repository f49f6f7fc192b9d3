//! The recorded answers of an etcd 3.6 to requests about keys, leases and watches, asked of our
//! member over gRPC instead of the JSON gateway they were recorded from.
//!
//! The cases run in order on one store, so revisions are exact. Ids, terms and remaining times are
//! masked in the recording (`"*"`); everything else must agree.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use kijabi_proto::etcdserverpb as pb;
use kijabi_tests::etcd::{Client, Kind, Member};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};
use tonic::Status;

const ANSWERS: &str = include_str!("data/etcd-3.6.jsonl");

/// Turns messages into the gateway's JSON and back.
struct Gateway(DescriptorPool);

impl Gateway {
    fn new() -> Self {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
        let files = protox::compile(["etcd/rpc.proto"], [root]).unwrap();
        Self(DescriptorPool::from_file_descriptor_set(files).unwrap())
    }

    fn read<M: Message + Default>(&self, name: &str, json: &Value) -> M {
        let message = self.0.get_message_by_name(&format!("etcdserverpb.{name}")).unwrap();
        let message = DynamicMessage::deserialize(message, json).unwrap();
        M::decode(Bytes::from(message.encode_to_vec())).unwrap()
    }

    fn write(&self, name: &str, message: &impl Message) -> Value {
        let descriptor = self.0.get_message_by_name(&format!("etcdserverpb.{name}")).unwrap();
        let bytes = Bytes::from(message.encode_to_vec());
        let message = DynamicMessage::decode(descriptor, bytes).unwrap();
        let options = SerializeOptions::new().use_proto_field_name(true);
        let mut json =
            message.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
        mask(&mut json);
        json
    }

    fn answer(&self, name: &str, result: Result<impl Message, Status>) -> Value {
        match result {
            Ok(message) => self.write(name, &message),
            Err(status) => json!({"code": status.code() as i32, "message": status.message()}),
        }
    }
}

/// Masks what the recording masks: ids and terms in the outermost header, remaining times.
fn mask(json: &mut Value) {
    if let Some(Value::Object(header)) = json.get_mut("header")
        && header.contains_key("cluster_id")
    {
        for field in ["cluster_id", "member_id", "raft_term"] {
            header.insert(field.into(), "*".into());
        }
    }
    let granted = json.get("grantedTTL").is_some();
    if let (true, Some(ttl)) = (granted, json.get_mut("TTL")) {
        *ttl = "*".into();
    }
}

async fn ask(client: &Client, gateway: &Gateway, case: &Value) -> Value {
    let body = &case["body"];
    macro_rules! unary {
        ($service:ident . $method:ident, $message:ident) => {{
            let request: pb::$message = gateway.read(stringify!($message), body);
            let answer = client.$service().$method(request).await;
            let response = stringify!($message).replace("Request", "Response");
            gateway.answer(&response, answer.map(tonic::Response::into_inner))
        }};
    }
    match case["path"].as_str().unwrap() {
        "/v3/kv/range" => unary!(kv.range, RangeRequest),
        "/v3/kv/put" => unary!(kv.put, PutRequest),
        "/v3/kv/deleterange" => unary!(kv.delete_range, DeleteRangeRequest),
        "/v3/kv/txn" => unary!(kv.txn, TxnRequest),
        "/v3/kv/compaction" => unary!(kv.compact, CompactionRequest),
        "/v3/lease/grant" => unary!(lease.lease_grant, LeaseGrantRequest),
        "/v3/lease/revoke" => unary!(lease.lease_revoke, LeaseRevokeRequest),
        "/v3/lease/timetolive" => unary!(lease.lease_time_to_live, LeaseTimeToLiveRequest),
        "/v3/lease/leases" => unary!(lease.lease_leases, LeaseLeasesRequest),
        "/v3/lease/keepalive" => {
            let answer = client.keep_alive(body["ID"].as_i64().unwrap()).await;
            json!([{"result": gateway.answer("LeaseKeepAliveResponse", answer)}])
        }
        "/v3/watch" => watch(client, gateway, body, &case["answer"]).await,
        other => panic!("no such path: {other}"),
    }
}

/// As many responses as were recorded; a recorded pause has no counterpart here.
async fn watch(client: &Client, gateway: &Gateway, body: &Value, recorded: &Value) -> Value {
    let mut stream = client.watch(&[gateway.read("WatchRequest", body)]).await.unwrap();
    let mut lines = Vec::new();
    for line in recorded.as_array().unwrap() {
        if line.is_string() {
            lines.push(line.clone());
            continue;
        }
        lines.push(json!({"result": gateway.answer("WatchResponse", stream.next().await)}));
    }
    Value::Array(lines)
}

/// Leases are listed by remaining time, in which equal ones have no order.
fn in_any_order(answer: &mut Value) {
    if let Some(Value::Array(leases)) = answer.get_mut("leases") {
        leases.sort_by_key(ToString::to_string);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_member_answers_as_the_recorded_etcd_did() {
    let member = Member::start(Kind::Ours);
    let (client, gateway) = (member.client().await, Gateway::new());
    let mut differences = Vec::new();
    for line in ANSWERS.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut expected = case["answer"].clone();
        let mut answer = ask(&client, &gateway, &case).await;
        in_any_order(&mut expected);
        in_any_order(&mut answer);
        if answer != expected {
            let name = &case["name"];
            differences.push(format!("{name}\n  recorded: {expected}\n  answered: {answer}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

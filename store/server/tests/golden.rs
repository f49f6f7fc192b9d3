//! The recorded answers of an etcd 3.6 over its JSON gateway, asked of our member over ours.
//!
//! The cases run in order on one store, so revisions are exact. Ids, terms, sizes, hashes, tokens
//! and remaining times are masked in the recording (`"*"`); everything else must agree.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod web;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use kijabi_server::Member;
use serde_json::{Map, Value, json};
use web::{config, read, send};

const ANSWERS: &str = include_str!("data/etcd-3.6.jsonl");

/// What the recorder says of a stream that is silent for this long.
const SILENCE: &str = "no more lines in 4 s";

/// Fields that differ from one member to the next.
const MASKED: &[&str] = &[
    "cluster_id",
    "member_id",
    "raft_term",
    "leader",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "dbSizeQuota",
    "hash",
    "token",
    "version",
    "etcdserver",
    "etcdcluster",
    "storage",
    "storageVersion",
    "peerURLs",
    "clientURLs",
];

/// As the recorder masks. `of` are the names around the value.
fn mask(value: Value, of: &mut Vec<String>) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(|item| mask(item, of)).collect()),
        Value::Object(fields) => Value::Object(mask_fields(fields, of)),
        other => other,
    }
}

fn mask_fields(fields: Map<String, Value>, of: &mut Vec<String>) -> Map<String, Value> {
    let granted = fields.contains_key("grantedTTL");
    let of_a_key =
        of.last().is_some_and(|name| ["kvs", "prev_kv", "prev_kvs", "kv"].contains(&name.as_str()));
    let of_a_member = of.iter().any(|name| name == "members");
    let mut masked = Map::new();
    for (name, value) in fields {
        let value = match (name.as_str(), value) {
            ("version", value) if of_a_key => value,
            ("ID" | "name", _) if of_a_member => "*".into(),
            ("keys", Value::Array(mut keys)) => {
                keys.sort_by_key(ToString::to_string);
                Value::Array(keys)
            }
            ("TTL", value) if granted && value != "-1" => "*".into(),
            (name, _) if MASKED.contains(&name) => "*".into(),
            (_, value) => {
                of.push(name.clone());
                let value = mask(value, of);
                of.pop();
                value
            }
        };
        masked.insert(name, value);
    }
    masked
}

/// Asks one case and gives the answer in the recorder's form.
async fn ask(member: &Member, case: &Value, tokens: &mut BTreeMap<String, String>) -> Value {
    let body = match &case["body"] {
        Value::Null => None,
        Value::String(text) if text == "large" => {
            let value = BASE64_STANDARD.encode(vec![b'x'; 1_600_000]);
            Some(json!({"key": BASE64_STANDARD.encode("huge"), "value": value}).to_string())
        }
        // Python writes a space after each comma and colon, and errors name columns.
        Value::String(text) => Some(text.strip_prefix("raw:").unwrap_or(text).to_owned()),
        value => Some(spaced(value)),
    };
    let method = case["method"].as_str().unwrap();
    let mut request =
        Request::builder().method(method).uri(case["path"].as_str().unwrap()).header("host", "a");
    let token = case["token"].as_str().unwrap_or_default();
    let save_as = token.strip_prefix("save:");
    if !token.is_empty() && save_as.is_none() {
        let known = tokens.get(token).map(String::as_str);
        request =
            request.header("authorization", token.strip_prefix("raw:").or(known).unwrap_or("none"));
    }
    let request = request.body(Full::from(body.unwrap_or_default())).unwrap();
    let response = send(member, request).await;
    let code = response.status().as_u16();
    if let Some(lines) = case["stream_lines"].as_u64().filter(|_| code == 200) {
        let recorded = &case["answer"]["lines"];
        return json!({"code": code, "lines": read_lines(response, lines, recorded).await});
    }
    let (_, _, text) = read(response).await;
    let Ok(answer) = serde_json::from_str::<Value>(&text) else {
        return json!({"code": code, "text": text});
    };
    if let (Some(name), Some(token)) = (save_as, answer["token"].as_str()) {
        tokens.insert(name.to_owned(), token.to_owned());
    }
    json!({"code": code, "json": mask(answer, &mut Vec::new())})
}

/// As many lines as were recorded. Where the recorder saw silence, a moment of it is enough.
async fn read_lines(
    response: http::Response<hyper::body::Incoming>,
    lines: u64,
    recorded: &Value,
) -> Value {
    let (mut body, mut buffer, mut found) = (response.into_body(), Vec::new(), Vec::new());
    while (found.len() as u64) < lines {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            found.push(mask(serde_json::from_slice(&line).unwrap(), &mut Vec::new()));
            continue;
        }
        let silent = recorded[found.len()] == SILENCE;
        let patience = if silent { Duration::from_millis(200) } else { web::PATIENCE };
        match tokio::time::timeout(patience, body.frame()).await {
            Ok(Some(frame)) => buffer.extend_from_slice(&frame.unwrap().into_data().unwrap()),
            Ok(None) => break,
            Err(_elapsed) => {
                found.push(SILENCE.into());
                break;
            }
        }
    }
    Value::Array(found)
}

/// JSON as Python writes it.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(spaced).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::String(name.clone()), spaced(value))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_member_answers_as_the_recorded_etcd_did() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(config(dir.path())).await.unwrap();
    let (mut differences, mut tokens, mut asked) = (Vec::new(), BTreeMap::new(), 0);
    for line in ANSWERS.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let answer = ask(&member, &case, &mut tokens).await;
        asked += 1;
        if answer != case["answer"] {
            let (name, expected) = (&case["name"], &case["answer"]);
            differences.push(format!("{name}\n  recorded: {expected}\n  answered: {answer}"));
        }
    }
    assert_eq!(asked, 250);
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    member.shutdown().await;
}

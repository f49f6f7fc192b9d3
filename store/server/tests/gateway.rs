//! The JSON gateway of a member, over HTTP and WebSocket.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod web;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{SinkExt as _, StreamExt as _};
use http::{Method, Request};
use http_body_util::Full;
use kijabi_server::{Config, Member};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use web::{Lines, PATIENCE, ask, config, empty, post, raw, read, send};

async fn started() -> (Member, tempfile::TempDir) {
    with(|_| {}).await
}

async fn with(change: impl FnOnce(&mut Config)) -> (Member, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    change(&mut config);
    (Member::start(config).await.unwrap(), dir)
}

fn b64(text: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(text)
}

async fn put(member: &Member, key: &str, value: &str) {
    let body = json!({"key": b64(key), "value": b64(value)});
    assert_eq!(ask(member, "/v3/kv/put", &body).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_put_and_read_under_both_roots() {
    let (member, _dir) = started().await;
    put(&member, "a", "<&>").await;
    for root in ["/v3", "/v3beta"] {
        let request = post(&format!("{root}/kv/range"), &json!({"key": b64("a")}));
        let (status, headers, body) = read(send(&member, request).await).await;
        assert_eq!(
            (status.as_u16(), &headers["content-type"]),
            (200, &"application/json".parse().unwrap())
        );
        assert_eq!(headers["access-control-allow-origin"], "*");
        let body: Value = serde_json::from_str(&body).unwrap();
        let kv = json!({"key": "YQ==", "create_revision": "2", "mod_revision": "2",
                        "version": "1", "value": b64("<&>")});
        assert_eq!((&body["kvs"], &body["count"]), (&json!([kv]), &json!("1")));
    }
    // An empty body is an empty message.
    let request = empty(Method::POST, "/v3/kv/range");
    let (status, _, body) = read(send(&member, request).await).await;
    assert_eq!(status, 400);
    assert_eq!(body, r#"{"code":3,"message":"etcdserver: key is not provided"}"#);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_lines_and_end_with_their_client() {
    let (member, _dir) = started().await;
    put(&member, "w1", "before").await;
    let create = json!({"create_request": {"key": b64("w"), "range_end": b64("x"),
                                           "start_revision": "2"}});
    let mut watch = Lines::open(&member, "/v3/watch", &create).await;
    assert_eq!(watch.next().await.unwrap()["result"]["created"], true);
    let event = watch.next().await.unwrap();
    assert_eq!(event["result"]["events"][0]["kv"]["value"], b64("before"));
    put(&member, "w2", "after").await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["result"]["events"][0]["kv"]["key"], b64("w2"));
    drop(watch);

    let (_, lease) = ask(&member, "/v3/lease/grant", &json!({"TTL": "600"})).await;
    let mut alive = Lines::open(&member, "/v3/lease/keepalive", &json!({"ID": lease["ID"]})).await;
    let renewed = alive.next().await.unwrap();
    assert_eq!(renewed["result"]["TTL"], "600");
    assert_eq!(alive.next().await, None);

    let mut snapshot = Lines::open(&member, "/v3/maintenance/snapshot", &json!({})).await;
    let mut bytes = 0;
    while let Some(line) = snapshot.next().await {
        bytes += BASE64_STANDARD.decode(line["result"]["blob"].as_str().unwrap()).unwrap().len();
    }
    // The SHA-256 at the end alone has 32.
    assert!(bytes > 32, "{bytes}");
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_over_websocket() {
    let (member, _dir) = started().await;
    let address = member.client_addrs()[0];
    let stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("ws://{address}/v3/watch").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "Bearer, token".parse().unwrap());
    let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "Bearer");
    let mut line = async |request: Option<Value>| -> Value {
        if let Some(request) = request {
            socket.send(Message::text(request.to_string())).await.unwrap();
        }
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap()
    };
    let create = |id: i64| json!({"create_request": {"key": b64("a"), "watch_id": id}});
    assert_eq!(line(Some(create(3))).await["result"]["watch_id"], "3");
    // A second watch on the same stream: the whole of it is one conversation.
    assert_eq!(line(Some(create(4))).await["result"]["created"], true);
    put(&member, "a", "b").await;
    for _ in 0..2 {
        assert_eq!(line(None).await["result"]["events"][0]["kv"]["value"], b64("b"));
    }
    let canceled = line(Some(json!({"cancel_request": {"watch_id": "3"}}))).await;
    assert_eq!(canceled["result"]["canceled"], true);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_paths_and_bodies_that_are_not_meant_are_refused() {
    let (member, _dir) = started().await;
    let body = json!({"key": "YQ=="});
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let (status, _, text) = read(send(&member, empty(method, "/v3/kv/range")).await).await;
        let expected = r#"{"code":12,"message":"Method Not Allowed"}"#;
        assert_eq!((status.as_u16(), text.as_str()), (501, expected));
    }
    for path in ["/v3/kv/rangestream", "/v3/kv/range/", "/v3/", "/v3/kv/range:x"] {
        let (status, answer) = ask(&member, path, &body).await;
        assert_eq!((status, answer), (404, json!({"code": 5, "message": "Not Found"})), "{path}");
    }
    let (status, headers, _) = read(send(&member, post("//v3/kv/range", &body)).await).await;
    assert_eq!((status.as_u16(), &headers["location"]), (301, &"/v3/kv/range".parse().unwrap()));
    for (method, text) in
        [(Method::GET, "<a href=\"/v3/?a=1&amp;b\">Temporary Redirect</a>.\n\n"), (Method::PUT, "")]
    {
        let (status, headers, body) = read(send(&member, empty(method, "/v3?a=1&b")).await).await;
        assert_eq!((status.as_u16(), body.as_str()), (307, text));
        assert_eq!(headers["location"], "/v3/?a=1&b");
        assert_eq!(headers["access-control-allow-origin"], "*");
    }
    assert_eq!(ask(&member, "/health", &body).await.0, 405);

    let limit = 2 * (1_572_864 + 512 * 1024);
    let request = Request::post("/v3/kv/put")
        .header("host", "localhost")
        .body(Full::from(format!("{{\"key\":\"{}\"}}", "A".repeat(limit))))
        .unwrap();
    let (status, _, text) = read(send(&member, request).await).await;
    assert_eq!(status, 429);
    assert!(text.starts_with(r#"{"code":8,"message":"grpc: received message larger"#), "{text}");
    let nested = format!("{}{}", "{\"success\":[{\"request_txn\":".repeat(2000), "x");
    let request =
        Request::post("/v3/kv/txn").header("host", "localhost").body(Full::from(nested)).unwrap();
    assert_eq!(read(send(&member, request).await).await.0, 400);
    member.shutdown().await;
}

/// Two views of where a request ends are how one client's request becomes another's.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_cannot_hide_another() {
    let (member, _dir) = started().await;
    let hidden = "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n\r\n\
                  {\"key\":\"aGlkZGVu\",\"value\":\"eA\"}";
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 300\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
    ] {
        let request =
            format!("POST /v3/kv/range HTTP/1.1\r\nHost: a\r\n{headers}\r\n0\r\n\r\n{hidden}");
        let answer = raw(&member, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{headers}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{headers}: {answer}");
    }
    let (_, found) = ask(&member, "/v3/kv/range", &json!({"key": b64("hidden")})).await;
    assert_eq!(found.get("count"), None);
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_host_names_and_origins_get_nothing() {
    let (member, _dir) = with(|config| {
        config.host_whitelist = vec!["localhost".into()];
        config.cors = vec!["http://console.test".into()];
    })
    .await;
    let ask_as = async |host: &str, kind: &str| {
        let request = format!(
            "POST /v3/kv/range HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n\
             Origin: http://evil.test\r\nConnection: close\r\nContent-Length: 14\r\n\r\n\
             {{\"key\":\"YQ==\"}}"
        );
        raw(&member, request.as_bytes()).await
    };
    for kind in ["application/json", "application/grpc", "text/plain"] {
        let refused = ask_as("rebound.test:2379", kind).await;
        assert!(refused.starts_with("HTTP/1.1 421"), "{kind}: {refused}");
        assert!(refused.contains("--host-whitelist \"rebound.test\""), "{refused}");
    }
    let answered = ask_as("localhost:2379", "application/json").await;
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    assert!(!answered.to_lowercase().contains("access-control-allow-origin"), "{answered}");
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_can_be_turned_off() {
    let (member, _dir) = with(|config| config.enable_grpc_gateway = false).await;
    let (status, body) = ask(&member, "/v3/kv/range", &json!({"key": "YQ=="})).await;
    assert_eq!((status, body.as_str().unwrap()), (404, "404 page not found\n"));
    let (status, _, body) = read(send(&member, empty(Method::GET, "/livez")).await).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, "ok\n"));
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_of_the_client_is_kept() {
    let (member, _dir) = started().await;
    let lease = json!({"TTL": 600, "ID": 1});
    ask(&member, "/v3/lease/grant", &lease).await;
    ask(&member, "/v3/lease/grant", &json!({"TTL": 600, "ID": 2})).await;
    let lock = |lease: i64| json!({"name": b64("l"), "lease": lease});
    assert_eq!(ask(&member, "/v3/lock/lock", &lock(1)).await.0, 200);
    let mut request = post("/v3/lock/lock", &lock(2));
    request.headers_mut().insert("grpc-timeout", "50m".parse().unwrap());
    let (status, _, body) = read(send(&member, request).await).await;
    let expected = r#"{"code":4,"message":"context deadline exceeded"}"#;
    assert_eq!((status.as_u16(), body.as_str()), (504, expected));
    member.shutdown().await;
}

//! Requests against the handlers on a real etcd, without admission: what a client notices.

mod apply;
mod bad_input;
mod lists;
mod objects;
mod pods;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use kijabi_base::tasks::Shutdown;
use serde_json::{Value, json};

use super::Handlers;
use crate::admission::Chain;
use crate::body;
use crate::exchange::{ApiRequest, ResourceHandler as _, Response, Warnings};
use crate::registry::Registry;
use crate::request::RequestInfo;
use crate::testing::Etcd;
use crate::user::User;

const CONFIG_MAPS: &str = "/api/v1/namespaces/g/configmaps";
const PODS: &str = "/api/v1/namespaces/g/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/g/deployments";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Handlers on an etcd of their own.
struct Api {
    etcd: Etcd,
    registry: Arc<Registry>,
    handlers: Handlers,
    shutdown: Shutdown,
}

/// One answer.
#[derive(Debug)]
struct Answer {
    code: u16,
    body: Value,
    text: String,
    warnings: Vec<String>,
}

impl Api {
    async fn start() -> Self {
        let etcd = Etcd::start().await;
        let shutdown = Shutdown::new();
        let registry = Registry::new(etcd.client(), shutdown.clone()).unwrap();
        registry.run();
        for _ in 0..200 {
            if registry.unready().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(registry.unready().is_empty(), "the caches did not fill within 5 s");
        let handlers = Handlers::new(registry.clone(), Chain::new(Vec::new()));
        Self { etcd, registry, handlers, shutdown }
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> (Response, Warnings) {
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let info = RequestInfo::parse(&method, path, query).unwrap();
        let warnings = Warnings::default();
        let request = ApiRequest {
            info,
            user: User { name: "tester".into(), ..User::default() },
            method,
            headers,
            body: body::full(body),
            warnings: warnings.clone(),
        };
        (self.handlers.handle(request).await, warnings)
    }

    async fn ask(
        &self,
        method: Method,
        target: &str,
        content_type: &str,
        accept: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        let (response, warnings) = self.send(method, target, headers, body.into()).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { code, body, text, warnings: warnings.take() }
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask(Method::GET, target, JSON, JSON, Bytes::new()).await
    }

    async fn table(&self, target: &str) -> Answer {
        self.ask(Method::GET, target, JSON, TABLE, Bytes::new()).await
    }

    async fn post(&self, target: &str, body: Value) -> Answer {
        self.ask(Method::POST, target, JSON, JSON, body.to_string()).await
    }

    async fn put(&self, target: &str, body: Value) -> Answer {
        self.ask(Method::PUT, target, JSON, JSON, body.to_string()).await
    }

    async fn patch(&self, target: &str, kind: &str, body: Value) -> Answer {
        self.ask(Method::PATCH, target, kind, JSON, body.to_string()).await
    }

    async fn delete(&self, target: &str) -> Answer {
        self.ask(Method::DELETE, target, JSON, JSON, Bytes::new()).await
    }

    async fn delete_with(&self, target: &str, options: Value) -> Answer {
        self.ask(Method::DELETE, target, JSON, JSON, options.to_string()).await
    }

    /// Creates a configmap with labels and gives its version.
    async fn config_map(&self, name: &str, labels: Value) -> i64 {
        let answer =
            self.post(CONFIG_MAPS, json!({"metadata": {"name": name, "labels": labels}})).await;
        assert_eq!(answer.code, 201, "{}", answer.text);
        answer.version()
    }

    /// Opens a watch.
    async fn watch(&self, target: &str) -> Watch {
        let headers = HeaderMap::new();
        let (response, _) = self.send(Method::GET, target, headers, Bytes::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Watch { body: response.into_body(), lines: Vec::new() }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Answer {
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    fn version(&self) -> i64 {
        self.body["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
    }

    fn names(&self) -> Vec<&str> {
        let items = self.body["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
    }

    #[track_caller]
    fn expect(&self, code: u16, message: &str) {
        assert_eq!((self.code, self.message()), (code, message), "{}", self.text);
    }
}

/// An open watch, read line by line.
struct Watch {
    body: body::ResponseBody,
    lines: Vec<Value>,
}

impl Watch {
    /// The next event; `None` when the watch ended. Panics after 10 s without one.
    async fn next(&mut self) -> Option<Value> {
        while self.lines.is_empty() {
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame());
            let frame = frame.await.expect("no event within 10 s")?.unwrap();
            let Ok(data) = frame.into_data() else { continue };
            for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                self.lines.push(serde_json::from_slice(line).unwrap());
            }
        }
        Some(self.lines.remove(0))
    }

    /// Type and name of the next event.
    async fn told(&mut self) -> String {
        let event = self.next().await.expect("the watch ended");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-");
        format!("{} {name}", event["type"].as_str().unwrap())
    }
}

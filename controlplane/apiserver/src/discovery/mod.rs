//! Discovery: which groups, versions and resources there are.
//!
//! Owns: the documents at `/api`, `/apis` and below them, made once from the table of kinds. Must
//! not know: requests beyond path and Accept. A newcomer's trap: `/api` and `/apis` answer two
//! different documents; clients since 1.26 ask for the aggregated one and cache it by its ETag.

mod accept;
mod aggregated;
mod plain;

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY};
use http::{StatusCode, header};
use kijabi_meta::kind::KINDS;
use serde_json::Value;

use crate::exchange::{self, Response};

pub use accept::Form;

/// The documents, ready to send.
#[derive(Debug)]
pub struct Discovery {
    plain: BTreeMap<String, Value>,
    aggregated: BTreeMap<(&'static str, Form), Document>,
}

#[derive(Debug)]
struct Document {
    bytes: Vec<u8>,
    etag: HeaderValue,
}

impl Discovery {
    /// The documents of a server that others reach at `server_address` (`host:port`).
    pub fn new(server_address: &str) -> Self {
        let mut all = BTreeMap::new();
        for form in [Form::AggregatedV2, Form::AggregatedV2Beta1] {
            all.insert(("/api", form), document(&aggregated::core(KINDS, form)));
            all.insert(("/apis", form), document(&aggregated::groups(KINDS, form)));
        }
        Self { plain: plain::documents(KINDS, server_address), aggregated: all }
    }

    /// The paths of all documents.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.plain.keys().map(String::as_str)
    }

    /// The answer at `path`, if there is a document.
    pub fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response> {
        let found = self.plain.get(path)?;
        if !matches!(path, "/api" | "/apis") {
            return Some(exchange::json(StatusCode::OK, found));
        }
        let accepted = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
        let form = accept::form(accepted);
        let at = if path == "/api" { "/api" } else { "/apis" };
        let Some(document) = self.aggregated.get(&(at, form)) else {
            let mut response = exchange::json(StatusCode::OK, found);
            response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
            return Some(response);
        };
        Some(aggregated_answer(document, form, headers))
    }
}

fn aggregated_answer(document: &Document, form: Form, headers: &HeaderMap) -> Response {
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known == document.etag);
    let mut response = if known {
        exchange::with_type(StatusCode::NOT_MODIFIED, "", Vec::new())
    } else {
        exchange::with_type(StatusCode::OK, "", document.bytes.clone())
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(ETAG, document.etag.clone());
    response
}

fn document(value: &Value) -> Document {
    let bytes = serde_json::to_vec(value).expect("a JSON value always has a JSON form");
    let etag = etag_of(&bytes);
    Document { bytes, etag }
}

/// A quoted upper-case SHA-512, the form upstream's ETags have.
pub fn etag_of(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{}\"", kijabi_meta::openapi::hash(bytes)))
        .expect("hexadecimal digits are plain ASCII")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::*;

    const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

    fn ask(path: &str, pairs: &[(header::HeaderName, &str)]) -> Option<Response> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        Discovery::new("192.0.2.2:6443").answer(path, &headers)
    }

    async fn body(response: Response) -> Value {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn plain_documents_list_what_the_table_serves() {
        let api = body(ask("/api", &[]).unwrap()).await;
        assert_eq!(api["versions"], json!(["v1"]));
        let apis = body(ask("/apis", &[]).unwrap()).await;
        assert_eq!(apis["groups"][0]["name"], "apps");
        let apps = body(ask("/apis/apps/v1", &[]).unwrap()).await;
        let names: Vec<_> =
            apps["resources"].as_array().unwrap().iter().map(|r| &r["name"]).collect();
        assert!(names.contains(&&json!("deployments/scale")), "{names:?}");
        assert!(ask("/apis/nope", &[]).is_none());
        assert!(ask("/api/v2", &[]).is_none());
    }

    #[tokio::test]
    async fn an_aggregated_document_is_sent_once_and_then_known() {
        let accept = format!("{V2},application/json");
        let first = ask("/apis", &[(header::ACCEPT, &accept)]).unwrap();
        assert_eq!(first.headers()[CONTENT_TYPE], V2);
        let etag = first.headers()[ETAG].to_str().unwrap().to_owned();
        let all = body(first).await;
        assert_eq!(all["kind"], "APIGroupDiscoveryList");
        let again = ask("/apis", &[(header::ACCEPT, &accept), (IF_NONE_MATCH, &etag)]).unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
}

//! `/openapi/v2` and `/openapi/v3`: what clients check their manifests against.
//!
//! Owns: the addresses, the forms and the caching of the documents. Must not know: what is in them
//! (`kijabi_meta::openapi`). A newcomer's trap: a v3 document's address has its hash in it, so the
//! answer may be cached for ever; an address with an old hash leads to the present one.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderMap, HeaderValue, IF_NONE_MATCH,
    LOCATION, VARY,
};
use kijabi_base::clock;
use kijabi_meta::kind::KINDS;
use kijabi_meta::openapi::{
    Served, V2_PROTOBUF_ACCEPT, V2_PROTOBUF_TYPE, hash, v2_document, v2_protobuf, v3_document,
    v3_index,
};

use crate::exchange::{self, Response};
use crate::request::Query;

const JSON: &str = "application/json";
const SECONDS_A_YEAR: u64 = 31_536_000;

/// The documents; made when first asked for, or by [`OpenApi::prepare`].
#[derive(Debug, Default)]
pub struct OpenApi(OnceLock<Documents>);

#[derive(Debug)]
struct Documents {
    v2_json: Document,
    v2_protobuf: Document,
    index: Document,
    /// By path below `/openapi/v3/`, such as `apis/apps/v1`.
    v3: BTreeMap<String, Document>,
}

#[derive(Clone, Debug)]
struct Document {
    bytes: Bytes,
    hash: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        let hash = hash(&bytes);
        Self { bytes: bytes.into(), hash }
    }
}

impl OpenApi {
    /// Makes the documents now; takes a moment of computing.
    pub fn prepare(&self) {
        self.documents();
    }

    fn documents(&self) -> &Documents {
        self.0.get_or_init(Documents::make)
    }

    /// The answer at `path`, if it is one of these.
    pub fn answer(&self, path: &str, query: &Query, headers: &HeaderMap) -> Option<Response> {
        match path {
            "/openapi/v2" => Some(self.v2(headers)),
            "/openapi/v3" => {
                let index = &self.documents().index;
                Some(respond(index, JSON, headers))
            }
            _ => {
                let name = path.strip_prefix("/openapi/v3/")?;
                let document = self.documents().v3.get(name)?;
                Some(v3(name, document, query, headers))
            }
        }
    }

    fn v2(&self, headers: &HeaderMap) -> Response {
        let all = self.documents();
        let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        for clause in accept.split(',').map(|one| one.split(';').next().unwrap_or("").trim()) {
            match clause {
                V2_PROTOBUF_ACCEPT | V2_PROTOBUF_TYPE => {
                    return respond(&all.v2_protobuf, V2_PROTOBUF_TYPE, headers);
                }
                "" | "*/*" | "application/*" | JSON => {
                    return respond(&all.v2_json, JSON, headers);
                }
                _ => {}
            }
        }
        exchange::text(StatusCode::NOT_ACCEPTABLE, "406: Not Acceptable\n")
    }
}

impl Documents {
    fn make() -> Self {
        let all: Vec<Served> = KINDS.iter().map(Served::from).collect();
        let mut by_path: BTreeMap<String, Vec<Served>> = BTreeMap::new();
        for one in &all {
            let path = if one.group.is_empty() {
                format!("api/{}", one.version)
            } else {
                format!("apis/{}/{}", one.group, one.version)
            };
            by_path.entry(path).or_default().push(one.clone());
        }
        let bytes = |value: &serde_json::Value| {
            serde_json::to_vec(value).expect("a JSON value always has a JSON form")
        };
        let v3: BTreeMap<String, Document> = by_path
            .into_iter()
            .map(|(path, kinds)| (path, Document::new(bytes(&v3_document(&kinds)))))
            .collect();
        let index = v3_index(v3.iter().map(|(path, one)| (path.as_str(), one.hash.as_str())));
        let v2 = v2_document(&all);
        Self {
            v2_json: Document::new(bytes(&v2)),
            v2_protobuf: Document::new(v2_protobuf(&v2)),
            index: Document::new(bytes(&index)),
            v3,
        }
    }
}

/// The document, or that it has not changed.
fn respond(document: &Document, content_type: &'static str, headers: &HeaderMap) -> Response {
    let etag = HeaderValue::from_str(&format!("\"{}\"", document.hash))
        .expect("hexadecimal digits are plain ASCII");
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known == etag);
    let (status, bytes) = if known {
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        (StatusCode::OK, document.bytes.clone())
    };
    let mut response = exchange::with_type(status, content_type, bytes);
    let headers = response.headers_mut();
    headers.insert(ETAG, etag);
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    response
}

// Differs from Kubernetes: v3 documents are served as JSON, not as protobuf.
fn v3(name: &str, document: &Document, query: &Query, headers: &HeaderMap) -> Response {
    match query.get("hash") {
        Some(asked) if asked != document.hash => {
            let place = format!("/openapi/v3/{name}?hash={}", document.hash);
            let mut response = exchange::with_type(StatusCode::MOVED_PERMANENTLY, JSON, "");
            if let Ok(place) = HeaderValue::from_str(&place) {
                response.headers_mut().insert(LOCATION, place);
            }
            response.headers_mut().remove(CONTENT_TYPE);
            response
        }
        Some(_) => {
            let mut response = respond(document, JSON, headers);
            let headers = response.headers_mut();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
            if let Ok(expires) = HeaderValue::from_str(&http_date(SECONDS_A_YEAR)) {
                headers.insert(EXPIRES, expires);
            }
            response
        }
        None => respond(document, JSON, headers),
    }
}

/// The time that many seconds from now, as HTTP writes it.
fn http_date(seconds: u64) -> String {
    let at = (clock::wall_ms() / 1_000 + seconds) as i64;
    let at = jiff::Timestamp::from_second(at).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use http_body_util::BodyExt as _;

    use super::*;

    fn ask(api: &OpenApi, target: &str, pairs: &[(HeaderName, &str)]) -> Response {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        api.answer(path, &Query::parse(query), &headers).unwrap()
    }

    #[tokio::test]
    async fn every_address_in_the_index_leads_to_a_document_that_may_be_kept() {
        let api = OpenApi::default();
        let index = ask(&api, "/openapi/v3", &[]).into_body().collect().await.unwrap().to_bytes();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let paths = index["paths"].as_object().unwrap();
        assert!(paths.contains_key("apis/apps/v1"), "{paths:?}");
        for entry in paths.values() {
            let url = entry["serverRelativeURL"].as_str().unwrap();
            let response = ask(&api, url, &[]);
            assert_eq!(response.status(), StatusCode::OK, "{url}");
            assert_eq!(response.headers()[CACHE_CONTROL], "public, immutable");
        }
    }

    #[test]
    fn an_old_hash_leads_to_the_present_one() {
        let response = ask(&OpenApi::default(), "/openapi/v3/api/v1?hash=OLD", &[]);
        assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY);
        let place = response.headers()[LOCATION].to_str().unwrap();
        assert!(
            place.starts_with("/openapi/v3/api/v1?hash=") && !place.ends_with("OLD"),
            "{place}"
        );
    }

    #[test]
    fn the_v2_document_has_the_form_that_is_asked_for_and_is_sent_once() {
        let api = OpenApi::default();
        let first = ask(&api, "/openapi/v2", &[(ACCEPT, V2_PROTOBUF_ACCEPT)]);
        assert_eq!(first.headers()[CONTENT_TYPE], V2_PROTOBUF_TYPE);
        let etag = first.headers()[ETAG].to_str().unwrap().to_owned();
        let again =
            ask(&api, "/openapi/v2", &[(ACCEPT, V2_PROTOBUF_ACCEPT), (IF_NONE_MATCH, &etag)]);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(ask(&api, "/openapi/v2", &[]).headers()[CONTENT_TYPE], JSON);
        let odd = ask(&api, "/openapi/v2", &[(ACCEPT, "text/html")]);
        assert_eq!(odd.status(), StatusCode::NOT_ACCEPTABLE);
    }
}

//! What every answer carries: audit id, cache control, warnings; and how streams end.
//!
//! Owns: those headers. Must not know: what was answered. A newcomer's trap: header values come
//! from objects and clients; what cannot stand in a header is replaced, never passed on.

use futures::StreamExt as _;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, WARNING};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use kijabi_base::tasks::Shutdown;

use crate::body;
use crate::exchange::{Response, Warnings};
use crate::metrics::OpenStream;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const AUDIT_ID_BYTES_MAX: usize = 64;

/// The client's audit id if it sent a usable one, or a new one.
pub(super) fn audit_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(AUDIT_ID)
        && (1..=AUDIT_ID_BYTES_MAX).contains(&id.len())
    {
        return id.clone();
    }
    HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).expect("a uuid is plain ASCII")
}

pub(super) fn decorate(
    mut response: Response,
    audit_id: &HeaderValue,
    warnings: &Warnings,
) -> Response {
    let headers = response.headers_mut();
    headers.insert(AUDIT_ID, audit_id.clone());
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    for text in warnings.take() {
        if let Ok(value) = HeaderValue::from_str(&warning_value(&text)) {
            headers.append(WARNING, value);
        }
    }
    response
}

/// The answer to a HEAD request: the headers alone, with the length the body would have had.
pub(super) fn without_body(response: Response) -> Response {
    let (mut parts, content) = response.into_parts();
    if let Some(length) = content.size_hint().exact() {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    http::Response::from_parts(parts, body::full(""))
}

/// `299 - "text"`, with the text quoted and kept to one line.
fn warning_value(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    format!("299 - \"{quoted}\"")
}

/// A stream that also ends when the server stops, and is counted until then.
pub(super) fn end_with(response: Response, shutdown: Shutdown, open: OpenStream) -> Response {
    response.map(|body| {
        let pieces = body.into_data_stream().map(move |piece| {
            let _counted = &open;
            piece
        });
        body::stream(pieces.take_until(async move { shutdown.wait().await }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted() {
        assert_eq!(
            warning_value("unknown field \"dat\"\nx"),
            "299 - \"unknown field \\\"dat\\\" x\""
        );
    }
}

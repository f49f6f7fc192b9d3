//! From HTTP headers to gRPC metadata.
//!
//! Owns: which headers a service sees. Must not know: what they mean. A newcomer's trap: cookies are
//! not among them, or a page on another site could act with a user's token.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tonic::Status;

/// A header that becomes metadata under the rest of its name.
const PREFIX: &str = "grpc-metadata-";
const TIMEOUT: &str = "grpc-timeout";
/// What grpc-gateway makes of `Accept`.
const MARK: &str = "grpcgateway-accept";

/// The metadata of a call.
pub(super) fn of(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let readable = value.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'));
        if name == header::AUTHORIZATION {
            metadata.append(name.clone(), value.clone());
        } else if let Some(rest) = name.as_str().strip_prefix(PREFIX)
            && readable
            && !belongs_to_transport(rest)
            && let Ok(name) = HeaderName::try_from(rest)
        {
            metadata.append(name, value.clone());
        }
    }
    // By this a service knows that the caller's certificate, if any, is not the caller's login.
    metadata.insert(MARK, HeaderValue::from_static("*/*"));
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    metadata
}

/// Names that say how a call is carried; what a client calls so is not handed on.
fn belongs_to_transport(name: &str) -> bool {
    name.starts_with("grpc-")
        || name.ends_with("-bin")
        || matches!(name, "content-type" | "content-length" | "te" | "transfer-encoding")
        || name == MARK
        || matches!(name, "connection" | "upgrade" | "host" | "trailer" | "keep-alive")
}

/// How long the client waits.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    parse(&text)
        .map(Some)
        .ok_or_else(|| Status::invalid_argument(format!("invalid grpc-timeout: {text}")))
}

fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    let unit_ns = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return None,
    };
    Some(Duration::from_nanos(number.checked_mul(unit_ns)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_credentials_and_named_metadata_are_handed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer t"),
            ("cookie", "token=stolen"),
            ("token", "not this one"),
            ("grpc-metadata-token", "t"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-timeout", "1n"),
            ("grpc-metadata-content-type", "text/html"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let metadata = of(&headers);
        let mut names: Vec<&str> = metadata.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "content-type", MARK, "hasleader", "te", "token"]);
        assert_eq!(metadata["content-type"], "application/grpc");
    }

    #[test]
    fn timeouts_have_units() {
        assert_eq!(parse("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        for wrong in ["", "5", "m", "1x", "-1m", "99999999999H", "1é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

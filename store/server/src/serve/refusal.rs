//! What the transport refuses before a service sees it, said in etcd's words.
//!
//! Owns: the translation of the decoder's errors. Must not know: the requests. A newcomer's trap:
//! the transport's own texts are matched here, so a new version of it needs a look; the tests over
//! the wire notice.

use std::fmt::Display;

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::status::EtcdError;

/// The path of the one request that can be nested.
const TXN_PATH: &str = "/etcdserverpb.KV/Txn";

/// Puts etcd's error in the place of a decoder's refusal; leaves everything else as it is.
pub(crate) fn translate(path: &str, response: Response<Body>) -> Response<Body> {
    let refused = Status::from_header_map(response.headers());
    match refused.and_then(|status| translation(path, &status)) {
        Some(status) => status.into_http(),
        None => response,
    }
}

/// The same for a refusal that has not become an answer yet: of a plain call, or of a later message
/// of a stream.
pub(crate) fn reword(path: &str, status: Status) -> Status {
    translation(path, &status).unwrap_or(status)
}

/// grpc-go's words for a message of `found` bytes.
pub(super) fn too_large(found: impl Display, limit: impl Display) -> String {
    format!("grpc: received message larger than max ({found} vs. {limit})")
}

fn translation(path: &str, status: &Status) -> Option<Status> {
    let text = status.message();
    match status.code() {
        // A transaction nested deeper than the decoder goes has too many levels for us, too.
        Code::Internal if path == TXN_PATH && text.contains("recursion limit reached") => {
            Some(EtcdError::TooManyOps.into())
        }
        Code::OutOfRange if text.contains("decoded message length too large") => {
            let text = match numbers(text)[..] {
                [found, limit] => too_large(found, limit),
                _ => text.to_owned(),
            };
            Some(Status::resource_exhausted(text))
        }
        _ => None,
    }
}

/// The numbers in a text.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_too_large_is_refused_as_grpc_go_does() {
        let text = "Error, decoded message length too large: found 3000000 bytes, the limit is: \
                    2097152 bytes";
        let status = translation("/etcdserverpb.KV/Put", &Status::out_of_range(text)).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let expected = "grpc: received message larger than max (3000000 vs. 2097152)";
        assert_eq!(status.message(), expected);
    }

    #[test]
    fn answers_of_the_services_are_left_alone() {
        let compacted = Status::from(EtcdError::Compacted);
        assert!(translation("/etcdserverpb.KV/Range", &compacted).is_none());
        let internal =
            Status::internal("failed to decode Protobuf message: recursion limit reached");
        assert!(translation("/etcdserverpb.KV/Put", &internal).is_none());
        assert!(translation(TXN_PATH, &internal).is_some());
    }
}

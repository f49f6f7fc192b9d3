//! Why the store did not do what it was asked.
//!
//! Owns: the decisions a caller can take. Must not know: HTTP. A newcomer's trap: only
//! [`StoreError::Unavailable`] of a read may be tried again; a write may have happened.

use crate::status::ApiError;

/// A failed request to the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The asked revision is compacted.
    #[error("required revision has been compacted")]
    Compacted,
    /// The asked revision lies in the future.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// The value is larger than the store takes.
    #[error("{0}")]
    TooLarge(String),
    /// A segment that cannot stand in a key.
    #[error("invalid key segment {0:?}")]
    BadSegment(String),
    /// The store could not be reached. A write may have happened.
    #[error("{0}")]
    Unavailable(String),
    /// The store did not answer in time. A write may have happened.
    #[error("context deadline exceeded")]
    TimedOut,
    /// What was read is no JSON object.
    #[error("unable to decode the object at {key}: {why}")]
    Corrupt {
        /// The key.
        key: String,
        /// What the decoder said.
        why: String,
    },
    /// Anything else the store said.
    #[error("{0}")]
    Other(String),
}

impl From<tonic::Status> for StoreError {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        let text = status.message();
        match status.code() {
            Code::OutOfRange if text.contains("compacted") => Self::Compacted,
            Code::OutOfRange if text.contains("future revision") => Self::FutureRevision,
            Code::InvalidArgument if text.contains("request is too large") => {
                Self::TooLarge(text.to_owned())
            }
            // etcd's own words are clients' words; those of the transport say where they come from.
            Code::Unavailable if text.starts_with("etcdserver: ") => {
                Self::Unavailable(text.to_owned())
            }
            Code::Unavailable => {
                Self::Unavailable(format!("rpc error: code = Unavailable desc = {text}"))
            }
            Code::DeadlineExceeded | Code::Cancelled => Self::TimedOut,
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted => Self::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You must start a new list without the continue parameter.",
            ),
            StoreError::TooLarge(text) => Self::entity_too_large(text),
            StoreError::BadSegment(segment) => {
                Self::bad_request(format!("invalid name or namespace {segment:?}"))
            }
            StoreError::TimedOut => Self::timeout(
                "request did not complete within requested timeout - context deadline exceeded",
                0,
            ),
            // Kubernetes hands the store's own text on, with code 500 and no reason.
            other => Self::generic(other.to_string()),
        }
    }
}

//! Server-side apply.
//!
//! Owns: the answer to apply patches. Must not know: how fields are merged. A newcomer's trap:
//! answering 415 is what an API server without the feature does; clients fall back on it.

use bytes::Bytes;

use super::options::WriteOptions;
use super::{Call, Handlers};
use crate::exchange::Response;
use crate::status::ApiError;

const ACCEPTED: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

impl Handlers {
    // Differs from Kubernetes: server-side apply is not there yet.
    #[expect(clippy::unused_async, reason = "the other patches are asynchronous")]
    pub(super) async fn apply(
        &self,
        _call: &Call,
        _options: &WriteOptions,
        _body: &Bytes,
    ) -> Result<Response, ApiError> {
        Err(unsupported())
    }
}

/// 415: what can be patched with instead.
pub(super) fn unsupported() -> ApiError {
    ApiError::unsupported_media_type(ACCEPTED)
}

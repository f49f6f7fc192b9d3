//! What every request must pass before it is looked at.
//!
//! Owns: the metadata etcd's clients send, and what a learner may answer. Must not know: the
//! requests. A newcomer's trap: `hasleader` fails a request at once when there is no leader, even
//! one that could be answered without.

use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::status::EtcdError;
use crate::store::Store;

/// The metadata key by which a client asks to be refused without a leader, and its value.
const REQUIRE_LEADER: (&str, &str) = ("hasleader", "true");
/// The metadata key of the client's API version.
const CLIENT_API_VERSION: &str = "client-api-version";

/// Whether a learner answers the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learner {
    /// It does.
    Answers,
    /// It does not: only voters do.
    Refuses,
}

/// Lets a request in, or says why not.
pub(crate) fn admit(store: &Store, metadata: &MetadataMap, learner: Learner) -> Result<(), Status> {
    if store.integrity().is_corrupt() {
        return Err(EtcdError::Corrupt.into());
    }
    let standing = store.standing();
    if standing.is_learner && learner == Learner::Refuses {
        return Err(EtcdError::NotSupportedForLearner.into());
    }
    if let Some(version) = metadata.get(CLIENT_API_VERSION)
        && std::str::from_utf8(version.as_bytes()).is_err()
    {
        return Err(EtcdError::InvalidClientApiVersion.into());
    }
    if requires_leader(metadata) && standing.leader == 0 {
        return Err(EtcdError::NoLeader.into());
    }
    Ok(())
}

/// Whether the client wants no answer without a leader.
pub(crate) fn requires_leader(metadata: &MetadataMap) -> bool {
    let (key, value) = REQUIRE_LEADER;
    metadata.get(key).is_some_and(|given| given == value)
}

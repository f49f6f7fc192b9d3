//! etcd's own tables: the state as rows of etcd's database, and back.
//!
//! Owns: which row of ours is which row of etcd's. Must not know: files, or the format of the
//! database. A newcomer's trap: rows of keys are the same bytes on both sides, so that hashes
//! agree; the current revision is stored here by itself, but in etcd follows from the last row.

mod auth;
mod give;
mod members;
mod take;
#[cfg(test)]
mod tests;

pub use give::{Giving, lease_row};
pub use members::{FirstMember, Seed};
pub use take::{Taking, row_crc};

use crate::state::StateError;

/// A bucket of etcd's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// Revisions of keys.
    Key,
    /// Small values by name.
    Meta,
    /// Leases.
    Lease,
    /// Alarms.
    Alarm,
    /// The cluster's version.
    Cluster,
    /// Members.
    Members,
    /// Ids of members that were removed.
    MembersRemoved,
    /// Whether permissions are checked.
    Auth,
    /// Users.
    AuthUsers,
    /// Roles.
    AuthRoles,
}

impl Bucket {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Key,
        Self::Meta,
        Self::Lease,
        Self::Alarm,
        Self::Cluster,
        Self::Members,
        Self::MembersRemoved,
        Self::Auth,
        Self::AuthUsers,
        Self::AuthRoles,
    ];

    /// etcd's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Meta => "meta",
            Self::Lease => "lease",
            Self::Alarm => "alarm",
            Self::Cluster => "cluster",
            Self::Members => "members",
            Self::MembersRemoved => "members_removed",
            Self::Auth => "auth",
            Self::AuthUsers => "authUsers",
            Self::AuthRoles => "authRoles",
        }
    }

    /// The bucket of this name.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|bucket| bucket.name().as_bytes() == name)
    }
}

/// Why rows cannot be exchanged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExchangeError {
    /// A row is not what it should be.
    #[error("bucket \"{bucket}\": {what}")]
    Row {
        /// Where.
        bucket: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Something that etcd has and this store does not.
    #[error("{0}")]
    Unknown(String),
}

impl ExchangeError {
    fn row(bucket: Bucket, what: impl Into<String>) -> Self {
        Self::Row { bucket: bucket.name(), what: what.into() }
    }
}

const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const SCHEDULED_COMPACTION: &[u8] = b"scheduledCompactRev";
const FINISHED_COMPACTION: &[u8] = b"finishedCompactRev";
const STORAGE_VERSION: &[u8] = b"storageVersion";
const CONFIGURATION: &[u8] = b"confState";

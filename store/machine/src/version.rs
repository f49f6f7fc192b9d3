//! The cluster's version, and a downgrade that is under way.
//!
//! Owns: both values and their rows. Must not know: who decides on them, or what may follow what
//! (the server's `downgrade.rs`). A newcomer's trap: a cluster that never said anything stands at
//! the newest version, so the usual cluster has no rows at all.

use std::fmt;

use bytes::Bytes;
use kijabi_proto::command::{ClusterVersionSet, DowngradeInfoSet};

use crate::state::{StateBatch, StateError, StateReader, Table};

/// A version of the cluster: major and minor. The patch is always 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u64,
    /// The second number.
    pub minor: u64,
}

impl Version {
    /// The newest one this machine knows.
    pub const NEWEST: Self = Self { major: 3, minor: 6 };

    /// Reads `major.minor.0`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some(Self { major, minor }),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

const CLUSTER: &[u8] = b"version/cluster";
const DOWNGRADE: &[u8] = b"version/downgrade";

/// Both values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Versions {
    pub(crate) cluster: Version,
    pub(crate) downgrade: Option<Version>,
}

// === impl Versions ===

impl Versions {
    /// Reads them back.
    pub(crate) fn open(state: &dyn StateReader) -> Result<Self, StateError> {
        let read = |key: &[u8]| -> Result<Option<Version>, StateError> {
            let Some(value) = state.get(Table::Cluster, key)? else { return Ok(None) };
            let text = String::from_utf8_lossy(&value);
            let name = String::from_utf8_lossy(key);
            let wrong = || StateError(format!("{name}: {text} is no version"));
            Version::parse(&text).map(Some).ok_or_else(wrong)
        };
        let cluster = read(CLUSTER)?.unwrap_or(Version::NEWEST);
        Ok(Self { cluster, downgrade: read(DOWNGRADE)? })
    }

    /// Sets the cluster's version. A text that is none changes nothing.
    pub(crate) fn set_cluster(&mut self, request: &ClusterVersionSet, batch: &mut StateBatch) {
        let Some(version) = Version::parse(&request.version) else { return };
        self.cluster = version;
        batch.put(Table::Cluster, CLUSTER.to_vec(), text_of(version));
    }

    /// Begins or ends a downgrade.
    pub(crate) fn set_downgrade(&mut self, request: &DowngradeInfoSet, batch: &mut StateBatch) {
        self.downgrade = Version::parse(&request.version).filter(|_| request.enabled);
        match self.downgrade {
            Some(version) => batch.put(Table::Cluster, DOWNGRADE.to_vec(), text_of(version)),
            None => batch.delete(Table::Cluster, DOWNGRADE.to_vec()),
        }
    }
}

fn text_of(version: Version) -> Bytes {
    version.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemoryState;

    #[test]
    fn versions_are_read_back_and_a_downgrade_ends() {
        let state = MemoryState::default();
        let mut versions = Versions::open(&state).unwrap();
        assert_eq!((versions.cluster, versions.downgrade), (Version::NEWEST, None));
        let mut batch = StateBatch::default();
        let down = Version { major: 3, minor: 5 };
        let enable = DowngradeInfoSet { enabled: true, version: "3.5.0".into() };
        versions.set_downgrade(&enable, &mut batch);
        versions.set_cluster(&ClusterVersionSet { version: "3.5.0".into() }, &mut batch);
        versions.set_cluster(&ClusterVersionSet { version: "x".into() }, &mut batch);
        state.write(&batch);
        let reopened = Versions::open(&state).unwrap();
        assert_eq!((reopened.cluster, reopened.downgrade), (down, Some(down)));
        let mut batch = StateBatch::default();
        versions.set_downgrade(&DowngradeInfoSet::default(), &mut batch);
        state.write(&batch);
        assert_eq!(Versions::open(&state).unwrap().downgrade, None);
    }
}

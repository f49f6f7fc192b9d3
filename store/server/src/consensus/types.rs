//! The types Raft is instantiated with, and how they are stored.
//!
//! Owns: the log's payload, node ids and nodes, the byte forms of votes, log ids and memberships.
//! Must not know: what a command means. A newcomer's trap: everything stored begins with a format
//! byte, so that a later version can tell what it reads; the payload of a command batch has none,
//! because the log's entry kind is its format.

use std::fmt;
use std::io;

use bytes::Bytes;
use kijabi_disk::wal;
use openraft::entry::EntryPayload;
use openraft::vote::leader_id_std::{CommittedLeaderId, LeaderId};
use serde::Serialize;
use serde::de::DeserializeOwned;

openraft::declare_raft_types!(
    /// Raft as the store uses it: etcd's member ids, one leader a term.
    pub(crate) TypeConfig:
        D = Payload,
        R = Answer,
        NodeId = u64,
        Node = Peer,
        LeaderId = LeaderId<u64, u64>,
        AsyncRuntime = super::runtime::Runtime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// An encoded batch of commands, as it stands in the log.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Payload(pub(crate) Bytes);

/// What applying an entry gives back to Raft: nothing. Outcomes go to whoever waits for them on
/// the member that proposed the batch, which need not be the leader (`outcomes.rs`).
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Answer;

/// A member as the membership knows it: the part of its row in the members' table that the log
/// decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(clippy::struct_field_names, reason = "it is etcd's name")]
pub(crate) struct Peer {
    /// Its name, if it is one of the first members. Others tell theirs when they start.
    pub(crate) name: String,
    /// Where the other members reach it.
    pub(crate) peer_urls: Vec<String>,
    /// Whether it was added to learn only. One that was not is made a voter of Raft's as soon as it
    /// has caught up (`cluster/voters.rs`), so "no learner" and "voter of Raft's" may differ.
    pub(crate) learner: bool,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the content: it may be a secret.
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// === stored forms ===

/// 2 since members have names and may be learners.
const FORMAT: u8 = 2;

/// Encodes what Raft stores: a format byte and the value.
pub(crate) fn encode<T: Serialize>(value: &T) -> io::Result<Bytes> {
    let mut bytes = vec![FORMAT];
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .map_err(io::Error::other)?;
    Ok(bytes.into())
}

/// Decodes what [`encode`] made.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let broken = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some((&FORMAT, rest)) = bytes.split_first() else {
        return Err(broken(format!("raft metadata of unknown format {:?}", bytes.first())));
    };
    let limits = bincode::config::standard().with_limit::<METADATA_BYTES_MAX>();
    let (value, used) = bincode::serde::decode_from_slice(rest, limits)
        .map_err(|error| broken(error.to_string()))?;
    if used != rest.len() {
        return Err(broken("raft metadata is followed by something else".into()));
    }
    Ok(value)
}

const METADATA_BYTES_MAX: usize = 1 << 20;

/// Entry kinds in the log.
const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn to_disk_id(id: &LogId) -> wal::LogId {
    wal::LogId { term: id.leader_id.term, index: id.index }
}

pub(crate) fn from_disk_id(id: wal::LogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term), id.index)
}

pub(crate) fn to_disk(entry: Entry) -> io::Result<wal::LogEntry> {
    let id = to_disk_id(&entry.log_id);
    let (kind, data) = match entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(Payload(batch)) => (BATCH, batch),
        EntryPayload::Membership(membership) => (MEMBERSHIP, encode(&membership)?),
    };
    Ok(wal::LogEntry { id, kind, data })
}

pub(crate) fn from_disk(entry: wal::LogEntry) -> io::Result<Entry> {
    let payload = match entry.kind {
        BLANK => EntryPayload::Blank,
        BATCH => EntryPayload::Normal(Payload(entry.data)),
        MEMBERSHIP => EntryPayload::Membership(decode(&entry.data)?),
        kind => {
            let what = format!("entry {} of unknown kind {kind}", entry.id.index);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    };
    Ok(Entry { log_id: from_disk_id(entry.id), payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_another_format_is_refused() {
        let bytes = encode(&Vote::new(3, 7)).unwrap();
        assert_eq!(decode::<Vote>(&bytes).unwrap(), Vote::new(3, 7));
        let mut other = bytes.to_vec();
        other[0] = 1;
        let error = decode::<Vote>(&other).unwrap_err().to_string();
        assert_eq!(error, "raft metadata of unknown format Some(1)");
        assert!(decode::<Vote>(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode::<Vote>(&[&bytes[..], &[0]].concat()).is_err());
        assert!(decode::<Vote>(&[]).is_err());
    }
}

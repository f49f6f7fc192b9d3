//! From our rows to etcd's.
//!
//! Owns: what etcd finds in the database it is given. Must not know: in which order the rows are
//! read. A newcomer's trap: the cluster's version is left out, as by etcd's own restoring, so that
//! an older etcd does not take the data for a newer cluster's.

use std::collections::BTreeMap;

use kijabi_proto::command::{LeaseRecord, MemberAttributes};
use kijabi_proto::etcdserverpb::AlarmMember;
use kijabi_proto::etcdstorage::Lease;
use prost::Message as _;

use super::{
    Bucket, CONFIGURATION, CONSISTENT_INDEX, ExchangeError, FINISHED_COMPACTION,
    SCHEDULED_COMPACTION, STORAGE_VERSION, TERM,
};
use crate::cluster::ALARM_PREFIX;
use crate::members::{MEMBER_PREFIX, REMOVED_PREFIX};
use crate::meta;
use crate::mvcc::Row;
use crate::state::Table;

/// The version of etcd's database that the rows make up.
const VERSION: &str = "3.6.0";

/// All rows but those of keys and leases, which are many and go from table to bucket in order.
#[derive(Debug)]
pub struct Giving {
    rows: BTreeMap<(Bucket, Vec<u8>), Vec<u8>>,
    revision: i64,
    compacted: i64,
    voters: Vec<u64>,
    learners: Vec<u64>,
}

/// A member as etcd stores it.
#[derive(serde::Serialize)]
struct MemberRow {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

/// The configuration as etcd stores it.
#[derive(serde::Serialize)]
struct ConfigurationRow<'a> {
    voters: &'a [u64],
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    learners: &'a [u64],
    auto_leave: bool,
}

/// The value of a lease's row.
pub fn lease_row(value: &[u8]) -> Result<Vec<u8>, ExchangeError> {
    let lease = LeaseRecord::decode(value)
        .map_err(|error| ExchangeError::row(Bucket::Lease, error.to_string()))?;
    Ok(Lease { id: lease.id, ttl: lease.ttl, remaining_ttl: 0 }.encode_to_vec())
}

// === impl Giving ===

impl Default for Giving {
    fn default() -> Self {
        let (voters, learners) = (Vec::new(), Vec::new());
        Self { rows: BTreeMap::new(), revision: 1, compacted: -1, voters, learners }
    }
}

impl Giving {
    /// Takes a row of the tables `Meta` and `Cluster`.
    pub fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), ExchangeError> {
        match table {
            Table::Meta => self.meta(key, value),
            Table::Cluster => self.cluster(key, value),
            Table::Key | Table::Lease => Ok(()),
        }
    }

    /// The current revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The key of the row without content that tells etcd the current revision, if the last row
    /// of a key, of revision `newest`, does not: what etcd's own tools write then.
    pub fn closing_row(&self, newest: i64) -> Option<Vec<u8>> {
        let told = newest.max(self.compacted).max(1);
        (self.revision > told).then(|| Row::first_key_of(self.revision))
    }

    /// The rows of a bucket in the order of their keys.
    pub fn rows(&self, bucket: Bucket) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = self
            .rows
            .range((bucket, Vec::new())..)
            .take_while(|((of, _), _)| *of == bucket)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        if bucket == Bucket::Meta {
            let configuration = ConfigurationRow {
                voters: &self.voters,
                learners: &self.learners,
                auto_leave: false,
            };
            rows.insert(CONFIGURATION.to_vec(), json(&configuration));
            rows.insert(STORAGE_VERSION.to_vec(), VERSION.into());
        }
        rows.into_iter().collect()
    }

    fn put(&mut self, bucket: Bucket, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.rows.insert((bucket, key.into()), value.into());
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), ExchangeError> {
        let number = || {
            let bytes = <[u8; 8]>::try_from(value);
            let name = String::from_utf8_lossy(key).into_owned();
            bytes.map(i64::from_be_bytes).map_err(|_| ExchangeError::row(Bucket::Meta, name))
        };
        match key {
            meta::APPLIED_INDEX => self.put(Bucket::Meta, CONSISTENT_INDEX, value),
            meta::APPLIED_TERM => self.put(Bucket::Meta, TERM, value),
            meta::REVISION => self.revision = self.revision.max(number()?),
            meta::COMPACT_SCHEDULED => {
                self.compacted = number()?;
                self.revision = self.revision.max(self.compacted);
                self.put(Bucket::Meta, SCHEDULED_COMPACTION, Row::first_key_of(self.compacted));
            }
            meta::COMPACT_FINISHED => {
                self.put(Bucket::Meta, FINISHED_COMPACTION, Row::first_key_of(number()?));
            }
            _ => {}
        }
        Ok(())
    }

    fn cluster(&mut self, key: &[u8], value: &[u8]) -> Result<(), ExchangeError> {
        let wrong = |bucket: Bucket| {
            move |error: prost::DecodeError| ExchangeError::row(bucket, error.to_string())
        };
        if key.starts_with(ALARM_PREFIX) {
            let alarm = AlarmMember::decode(value).map_err(wrong(Bucket::Alarm))?;
            self.put(Bucket::Alarm, alarm.encode_to_vec(), Vec::new());
        } else if key.starts_with(MEMBER_PREFIX) {
            let member = MemberAttributes::decode(value).map_err(wrong(Bucket::Members))?;
            let id = member.id;
            if member.is_learner { &mut self.learners } else { &mut self.voters }.push(id);
            let row = MemberRow {
                id,
                peer_urls: member.peer_urls,
                is_learner: member.is_learner,
                name: member.name,
                client_urls: member.client_urls,
            };
            self.put(Bucket::Members, format!("{id:x}"), json(&row));
        } else if key.starts_with(REMOVED_PREFIX) {
            let member = MemberAttributes::decode(value).map_err(wrong(Bucket::MembersRemoved))?;
            self.put(Bucket::MembersRemoved, format!("{:x}", member.id), "removed");
        } else if let Some((bucket, key)) = super::auth::give(key) {
            self.put(bucket, key, value);
        }
        Ok(())
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structures of texts and numbers have a JSON form")
}

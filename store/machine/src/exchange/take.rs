//! From etcd's rows to ours.
//!
//! Owns: what is taken over and what is refused. Must not know: in what file the rows came. A
//! newcomer's trap: nothing is left out silently: a bucket that is not known is refused, because
//! what it holds would be lost. Only what belongs to the old cluster's members is left behind.

use bytes::Bytes;
use kijabi_proto::command::LeaseRecord;
use kijabi_proto::etcdserverpb::AlarmMember;
use kijabi_proto::etcdstorage::Lease;
use kijabi_proto::mvccpb::KeyValue;
use prost::Message as _;

use super::{
    Bucket, CONSISTENT_INDEX, ExchangeError, FINISHED_COMPACTION, SCHEDULED_COMPACTION,
    STORAGE_VERSION, TERM,
};
use crate::cluster::alarm_key;
use crate::meta;
use crate::mvcc::Row;
use crate::state::{StateBatch, Table};

/// The newest version of etcd's database that is known.
const NEWEST_MINOR: u64 = 7;

/// What is known of etcd's database once all its rows were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taking {
    newest: i64,
    scheduled: Option<i64>,
    finished: Option<i64>,
    /// The index of the last entry of etcd's log that the rows hold.
    pub consistent_index: u64,
    /// Its term; 0 before etcd 3.5.
    pub term: u64,
    /// Rows of keys.
    pub rows: u64,
    /// The checksum of the rows of keys, in order.
    pub crc: u32,
}

// === impl Taking ===

impl Taking {
    /// Takes a row. Rows of keys come in order.
    pub fn row(
        &mut self,
        bucket: Bucket,
        key: &[u8],
        value: &[u8],
        batch: &mut StateBatch,
    ) -> Result<(), ExchangeError> {
        match bucket {
            Bucket::Key => self.key(key, value, batch),
            Bucket::Meta => self.meta(key, value),
            Bucket::Lease => lease(key, value, batch),
            Bucket::Alarm => {
                let alarm = AlarmMember::decode(key)
                    .map_err(|error| ExchangeError::row(bucket, error.to_string()))?;
                batch.put(Table::Cluster, alarm_key(&alarm), Bytes::copy_from_slice(key));
                Ok(())
            }
            // A new cluster has its own.
            Bucket::Cluster | Bucket::Members | Bucket::MembersRemoved => Ok(()),
            Bucket::Auth | Bucket::AuthUsers | Bucket::AuthRoles => {
                super::auth::take(bucket, key, value, batch)
            }
        }
    }

    /// The current revision.
    pub fn revision(&self) -> i64 {
        let compacted = self.scheduled.max(self.finished).unwrap_or(1);
        self.newest.max(compacted).max(1)
    }

    /// Ends the taking: what etcd derives from rows is stored by itself here.
    pub fn finish(&self, batch: &mut StateBatch) {
        meta::put_i64(batch, meta::REVISION, self.revision());
        // A compaction that was carried through was asked for, whatever the order of the writes.
        if let Some(scheduled) = self.scheduled.max(self.finished) {
            meta::put_i64(batch, meta::COMPACT_SCHEDULED, scheduled);
        }
        if let Some(finished) = self.finished {
            meta::put_i64(batch, meta::COMPACT_FINISHED, finished);
        }
    }

    fn key(
        &mut self,
        key: &[u8],
        value: &[u8],
        batch: &mut StateBatch,
    ) -> Result<(), ExchangeError> {
        let row = Row::parse(key).filter(|row| row.main > 0);
        let row = row
            .ok_or_else(|| ExchangeError::row(Bucket::Key, format!("{key:02x?} is no revision")))?;
        self.newest = self.newest.max(row.main);
        if value.is_empty() && !row.tombstone {
            // Written by a restore that raised the revision: it stands for no key.
            return Ok(());
        }
        let record = KeyValue::decode(value).map_err(|error| {
            ExchangeError::row(Bucket::Key, format!("record of revision {}: {error}", row.main))
        })?;
        if record.key.is_empty() || (!row.tombstone && record.mod_revision != row.main) {
            let what = format!("record of revision {} is another one's", row.main);
            return Err(ExchangeError::row(Bucket::Key, what));
        }
        self.rows += 1;
        self.crc = row_crc(self.crc, key, value);
        batch.put(Table::Key, key, Bytes::copy_from_slice(value));
        Ok(())
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), ExchangeError> {
        let wrong = || ExchangeError::row(Bucket::Meta, String::from_utf8_lossy(key));
        let number = || <[u8; 8]>::try_from(value).map(u64::from_be_bytes).map_err(|_| wrong());
        let revision = || Row::parse(value).map(|row| row.main).ok_or_else(wrong);
        match key {
            CONSISTENT_INDEX => self.consistent_index = number()?,
            TERM => self.term = number()?,
            SCHEDULED_COMPACTION => self.scheduled = Some(revision()?),
            FINISHED_COMPACTION => self.finished = Some(revision()?),
            STORAGE_VERSION => check_version(&String::from_utf8_lossy(value))?,
            _ => {}
        }
        Ok(())
    }
}

/// Goes on with a checksum over rows of keys.
pub fn row_crc(crc: u32, key: &[u8], value: &[u8]) -> u32 {
    let lengths = [(key.len() as u32).to_le_bytes(), (value.len() as u32).to_le_bytes()].concat();
    [&lengths[..], key, value].iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part))
}

fn check_version(text: &str) -> Result<(), ExchangeError> {
    match crate::Version::parse(text) {
        Some(version) if version.major == 3 && version.minor <= NEWEST_MINOR => Ok(()),
        _ => Err(ExchangeError::Unknown(format!(
            "the database is of version {text}, which is not known here (newest: 3.{NEWEST_MINOR})"
        ))),
    }
}

fn lease(key: &[u8], value: &[u8], batch: &mut StateBatch) -> Result<(), ExchangeError> {
    let lease = Lease::decode(value)
        .map_err(|error| ExchangeError::row(Bucket::Lease, error.to_string()))?;
    if lease.id.to_be_bytes() != key {
        let what = format!("record of lease {:x} is another one's", lease.id);
        return Err(ExchangeError::row(Bucket::Lease, what));
    }
    // The new cluster's time begins at 0. What was left is on record only if etcd kept it so.
    let gone =
        if lease.remaining_ttl > 0 { lease.ttl.saturating_sub(lease.remaining_ttl) } else { 0 };
    let renewed_ms = gone.max(0).saturating_mul(-1_000);
    let record = LeaseRecord { id: lease.id, ttl: lease.ttl, renewed_ms };
    batch.put(Table::Lease, key, record.encode_to_vec());
    Ok(())
}

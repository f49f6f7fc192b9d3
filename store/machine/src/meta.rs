//! The small values of the state by name.
//!
//! Owns: their keys and encoding (big-endian numbers). Must not know: when they change. A
//! newcomer's trap: other crates keep values of their own in the same table under other names.

use crate::state::{StateBatch, StateError, StateView, Table};

/// The index of the last applied log entry (APPLY-1).
pub(crate) const APPLIED_INDEX: &[u8] = b"applied_index";
/// The term of the last applied log entry.
pub(crate) const APPLIED_TERM: &[u8] = b"applied_term";
/// The current revision.
pub(crate) const REVISION: &[u8] = b"revision";
/// The revision of the last compaction asked for.
pub(crate) const COMPACT_SCHEDULED: &[u8] = b"compact_scheduled";
/// The revision of the last compaction that was carried through.
pub(crate) const COMPACT_FINISHED: &[u8] = b"compact_finished";
/// How late it is for leases, in milliseconds.
pub(crate) const LEASE_TIME: &[u8] = b"lease_time";
/// The digest of everything up to the applied index.
pub(crate) const DIGEST: &[u8] = b"digest";

/// Reads a number.
pub(crate) fn read_i64(state: &dyn StateView, key: &[u8]) -> Result<Option<i64>, StateError> {
    let Some(value) = state.get(Table::Meta, key)? else { return Ok(None) };
    match <[u8; 8]>::try_from(&value[..]) {
        Ok(bytes) => Ok(Some(i64::from_be_bytes(bytes))),
        Err(_) => Err(StateError(format!("{}: not a number", String::from_utf8_lossy(key)))),
    }
}

/// Writes a number.
pub(crate) fn put_i64(batch: &mut StateBatch, key: &[u8], value: i64) {
    batch.put(Table::Meta, key, value.to_be_bytes().to_vec());
}

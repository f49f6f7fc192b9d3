//! The beginning of Raft on a state that was made from a backup.
//!
//! Owns: the rows and log records that make such a state the result of the cluster's first entry.
//! Must not know: what the state holds. A newcomer's trap: all members of the new cluster begin
//! with the same log id and the same membership, as if they had applied one entry together.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use kijabi_disk::wal::{self, Wal, WalError};
use kijabi_machine::state::{StateBatch, Table};
use openraft::Membership;

use super::applier::{RAFT_APPLIED, RAFT_MEMBERSHIP};
use super::types::{Peer, StoredMembership, Vote, encode, from_disk_id};

/// The entry that the state is said to be the result of.
pub(crate) const FIRST_ENTRY: wal::LogId = wal::LogId { term: 1, index: 1 };

/// The rows that Raft finds in the state.
pub(crate) fn rows(members: &BTreeMap<u64, Peer>, batch: &mut StateBatch) -> io::Result<()> {
    let log_id = from_disk_id(FIRST_ENTRY);
    let voters: BTreeSet<u64> = members.keys().copied().collect();
    let membership = Membership::new(vec![voters], members.clone()).map_err(io::Error::other)?;
    let membership = StoredMembership::new(Some(log_id), membership);
    batch.put(Table::Meta, RAFT_APPLIED, encode(&log_id)?);
    batch.put(Table::Meta, RAFT_MEMBERSHIP, encode(&membership)?);
    Ok(())
}

/// The records that Raft finds in an empty log: a vote of the entry's term, so that nobody leads in
/// it again, and that the entry itself is not there any more. Durable when this returns.
pub(crate) fn records(wal: &Wal, member_id: u64) -> io::Result<()> {
    let (done, durable) = std::sync::mpsc::sync_channel(1);
    let answer = Box::new(move |result: Result<(), WalError>| {
        let _ = done.send(result);
    });
    let failed = |error: WalError| io::Error::other(error.to_string());
    wal.purge(FIRST_ENTRY).map_err(failed)?;
    wal.save_vote(encode(&Vote::new(FIRST_ENTRY.term, member_id))?, Some(answer))
        .map_err(failed)?;
    durable.recv().map_err(io::Error::other)?.map_err(failed)
}

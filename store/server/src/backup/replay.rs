//! Entries of an etcd member's log, applied to a state.
//!
//! Owns: which request of etcd's is which command. Must not know: files. A newcomer's trap: a
//! request that fails is nothing unusual: it failed in etcd, too, or its effect is in the database
//! already, because older versions of etcd wrote some effects before the index of the entry.

use std::sync::Arc;

use kijabi_disk::etcd_wal::EtcdWal;
use kijabi_disk::state::State;
use kijabi_machine::{Machine, Settings};
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{AuthChange, Batch, Command};
use kijabi_proto::etcdstorage::InternalRequest;
use kijabi_proto::etcdstorage::entry::Type;
use prost::Message as _;

use super::{BackupError, replay_auth};

/// Applies all entries. Returns how many there were.
pub(super) fn replay(wal: &EtcdWal, state: &Arc<State>) -> Result<u64, BackupError> {
    let mut machine = Machine::open(Arc::clone(state) as _, Settings::default())?;
    let mut count = 0;
    for entry in wal.entries() {
        let entry = entry?;
        count += 1;
        // The members of the old cluster are not the new one's.
        if entry.r#type() != Type::Normal || entry.data.is_empty() {
            continue;
        }
        // What etcd 2 wrote is no such request; all it can be is what a member says of itself.
        let Ok(request) = InternalRequest::decode(entry.data) else { continue };
        let Some(command) = command(request, entry.index)? else { continue };
        let batch = Batch { commands: vec![command], ..Batch::default() };
        let applied = machine.apply(0, entry.index, entry.term, &batch)?;
        state.write(&applied.state)?;
    }
    Ok(count)
}

fn command(mut request: InternalRequest, index: u64) -> Result<Option<Command>, BackupError> {
    let header = request.header.take().unwrap_or_default();
    let change = replay_auth::change(&mut request, index)?;
    let auth = change.map(|change| Request::Auth(AuthChange { change: Some(change) }));
    let asked = auth
        .or(request.put.map(Request::Put))
        .or(request.delete_range.map(Request::DeleteRange))
        .or(request.txn.map(Request::Txn))
        .or(request.compaction.map(Request::Compaction))
        .or(request.lease_grant.map(Request::LeaseGrant))
        .or(request.lease_revoke.map(Request::LeaseRevoke))
        .or(request.alarm.map(Request::Alarm));
    Ok(asked.map(|asked| Command {
        username: header.username,
        auth_revision: header.auth_revision,
        request: Some(asked),
        ..Command::default()
    }))
}

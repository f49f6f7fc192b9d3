//! The space quota: what is refused, and the alarm that says so to the whole cluster.
//!
//! Owns: when the NOSPACE alarm goes on and when it goes off. Must not know: how large a request
//! is (`kijabi_machine::quota_cost`). A newcomer's trap: what counts is the bytes of all revisions
//! that have not been compacted away, not those of files; so a compaction alone makes room, and
//! needs no defragmentation.
// Differs from etcd: it counts the file, and an alarm stays on until somebody disarms it.

use kijabi_machine::{Error as MachineError, quota_cost};
use kijabi_proto::command::command::Request;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::alarm_request::AlarmAction;

use crate::error::Error;
use crate::store::Store;

/// This part of the quota must be free before the alarm goes off by itself, so that it does not go
/// on again at once.
const FREE_PART: u64 = 16;

/// Refuses what would make the database larger than its quota, and raises the alarm for all
/// members if none has it.
pub(crate) async fn check(store: &Store, request: &Request) -> Result<(), Error> {
    let (cost, quota) = (quota_cost(request), store.config().quota_bytes);
    if cost == 0 || quota == 0 {
        return Ok(());
    }
    let raised = {
        let machine = store.machine().read();
        if machine.live_bytes() + cost < quota {
            return Ok(());
        }
        machine.alarms().iter().any(|active| active.alarm() == pb::AlarmType::Nospace)
    };
    if !raised {
        tracing::warn!(quota, "the database is full; the NOSPACE alarm is raised");
        let alarm = alarm(AlarmAction::Activate, store.member_id());
        store.propose_own(alarm).await?;
    }
    Err(Error::Machine(MachineError::NoSpace))
}

/// Takes the alarm back after a compaction has made room. The leader does it for all members.
pub(crate) async fn disarm_if_free(store: &Store) {
    let quota = store.config().quota_bytes;
    if quota == 0 || !store.is_leader() {
        return;
    }
    let members: Vec<u64> = {
        let machine = store.machine().read();
        if machine.live_bytes() + quota / FREE_PART >= quota {
            return;
        }
        let alarms = machine.alarms();
        let full = alarms.iter().filter(|active| active.alarm() == pb::AlarmType::Nospace);
        full.map(|active| active.member_id).collect()
    };
    for member in members {
        match store.propose_own(alarm(AlarmAction::Deactivate, member)).await {
            Ok(_) => tracing::info!(quota, "there is room again; the NOSPACE alarm is off"),
            Err(error) => tracing::warn!(%error, "the NOSPACE alarm could not be taken back"),
        }
    }
}

fn alarm(action: AlarmAction, member_id: u64) -> Request {
    let (action, alarm) = (action.into(), pb::AlarmType::Nospace.into());
    Request::Alarm(pb::AlarmRequest { action, member_id, alarm })
}

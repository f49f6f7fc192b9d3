//! What the cluster has agreed on besides keys: alarms, members, versions.
//!
//! Owns: the alarms and their rows; members and versions have files of their own. Must not know:
//! who raises an alarm and why. A newcomer's trap: activating an alarm that is on already answers with it, deactivating one that
//! is off answers with nothing; neither is an error.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use kijabi_proto::etcdserverpb::alarm_request::AlarmAction;
use kijabi_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};
use prost::Message as _;

use crate::members::Members;
use crate::state::{StateBatch, StateError, StateReader, Table};
use crate::version::Versions;

pub(crate) const ALARM_PREFIX: &[u8] = b"alarm/";
/// The byte after `/`: ends a prefix.
const PREFIX_END: &[u8] = b"0";

/// Alarms, members and versions.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// By type, then by member.
    alarms: BTreeSet<(i32, u64)>,
    pub(crate) members: Members,
    pub(crate) versions: Versions,
}

impl Cluster {
    /// Reads it all back.
    pub(crate) fn open(state: &dyn StateReader) -> Result<Self, StateError> {
        let alarms = records::<AlarmMember>(state, ALARM_PREFIX)?;
        Ok(Self {
            alarms: alarms.into_iter().map(|record| (record.alarm, record.member_id)).collect(),
            members: Members::open(state)?,
            versions: Versions::open(state)?,
        })
    }

    /// Whether some member has this alarm.
    pub(crate) fn has_alarm(&self, alarm: AlarmType) -> bool {
        self.alarms.range((alarm.into(), 0)..=(alarm.into(), u64::MAX)).next().is_some()
    }

    /// The alarms of one type, or all of them for `None`.
    pub(crate) fn alarms(&self, alarm: AlarmType) -> Vec<AlarmMember> {
        let all = self.alarms.iter().map(|&(alarm, member_id)| AlarmMember { member_id, alarm });
        all.filter(|one| alarm == AlarmType::None || one.alarm() == alarm).collect()
    }

    /// Carries out an alarm request; the answer lists the alarms it is about.
    pub(crate) fn alarm(
        &mut self,
        request: &AlarmRequest,
        batch: &mut StateBatch,
    ) -> Vec<AlarmMember> {
        let one = AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let row = (request.alarm, request.member_id);
        match request.action() {
            AlarmAction::Get => return self.alarms(request.alarm()),
            AlarmAction::Activate => {
                if request.alarm == i32::from(AlarmType::None) {
                    return Vec::new();
                }
                self.alarms.insert(row);
                batch.put(Table::Cluster, alarm_key(&one), one.encode_to_vec());
            }
            AlarmAction::Deactivate => {
                if !self.alarms.remove(&row) {
                    return Vec::new();
                }
                batch.delete(Table::Cluster, alarm_key(&one));
            }
        }
        vec![one]
    }
}

pub(crate) fn alarm_key(alarm: &AlarmMember) -> Vec<u8> {
    [ALARM_PREFIX, &alarm.alarm.to_be_bytes(), &alarm.member_id.to_be_bytes()].concat()
}

/// All records whose keys begin with `prefix`.
pub(crate) fn records<M: prost::Message + Default>(
    state: &dyn StateReader,
    prefix: &[u8],
) -> Result<Vec<M>, StateError> {
    let end = [&prefix[..prefix.len() - 1], PREFIX_END].concat();
    let mut records = Vec::new();
    let mut failed = None;
    state.scan(Table::Cluster, prefix, Some(&end), &mut |key, value| match M::decode(value) {
        Ok(record) => {
            records.push(record);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(StateError(format!("{}: {error}", String::from_utf8_lossy(key))));
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(records), Err)
}

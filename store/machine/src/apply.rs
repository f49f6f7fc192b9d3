//! Applying committed commands: the one place that decides what each kind of command does.
//!
//! Owns: the dispatch, alarms' refusals and the bookkeeping of the applied index. Must not know:
//! how the log was agreed on. A newcomer's trap: an error is an answer, the same on every member;
//! only a failed read of the state ends the batch.

use std::sync::Arc;

use kijabi_proto::command::auth_change::Change;
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{Batch, Command, LeaseRevokeMany};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::AlarmType;

use crate::auth::Caller;
use crate::error::Error;
use crate::id::LeaseId;
use crate::machine::Machine;
use crate::meta;
use crate::mvcc::{KeyRange, Write};
use crate::outcome::{Applied, Outcome, RevisionEvents};
use crate::quota::quota_cost;
use crate::state::{StateBatch, StateError};
use crate::txn;

impl Machine {
    /// Applies one log entry. `now_ms` is this member's monotonic clock, used for leases only if
    /// this member is the leader. An empty batch only moves the applied index: use it for blank
    /// and membership entries. After `Err` the machine's memory may be ahead of its state: stop. It
    /// takes no further entry.
    pub fn apply(
        &mut self,
        now_ms: u64,
        log_index: u64,
        term: u64,
        batch: &Batch,
    ) -> Result<Applied, StateError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let mut applied = Applied::default();
        let before = self.mvcc.revision();
        for command in &batch.commands {
            let outcome = self.apply_command(now_ms, log_index, command, &mut applied);
            if let Err(Error::State(error)) = outcome {
                self.broken = Some(error.clone());
                return Err(error);
            }
            applied.outcomes.push(outcome);
        }
        // The caller writes the batch before it lets a reader in.
        self.mvcc.end_entry();
        self.applied_index = log_index;
        self.applied_term = term;
        meta::put_i64(&mut applied.state, meta::APPLIED_INDEX, log_index.cast_signed());
        meta::put_i64(&mut applied.state, meta::APPLIED_TERM, term.cast_signed());
        if self.mvcc.revision() != before {
            meta::put_i64(&mut applied.state, meta::REVISION, self.mvcc.revision());
        }
        self.digests.extend(log_index, &mut applied.state);
        Ok(applied)
    }

    fn apply_command(
        &mut self,
        now_ms: u64,
        log_index: u64,
        command: &Command,
        applied: &mut Applied,
    ) -> Result<Outcome, Error> {
        let Some(request) = &command.request else {
            // A command of a newer version: there is nothing here that could be done about it.
            return Err(Error::UnknownCommand);
        };
        self.refuse_on_alarm(request)?;
        // While auth is off nobody is asked for a name.
        if self.auth.enabled() {
            self.auth.permit_command(&self.leases, &Caller::of(command), request)?;
        }
        let Applied { state, events, auth, .. } = applied;
        match request {
            Request::Put(put) => {
                self.write(state, events, |write| txn::put(write, put)).map(Outcome::Put)
            }
            Request::DeleteRange(delete) => self
                .write(state, events, |write| txn::delete_range(write, delete))
                .map(Outcome::DeleteRange),
            Request::Txn(request) => {
                self.write(state, events, |write| txn::txn(write, request)).map(Outcome::Txn)
            }
            Request::Compaction(request) => {
                self.mvcc.schedule_compaction(request.revision, state)?;
                Ok(Outcome::Compaction(pb::CompactionResponse { header: Some(self.header()) }))
            }
            Request::LeaseGrant(request) => self.lease_grant(now_ms, request, state),
            Request::LeaseRevoke(request) => {
                self.lease_revoke(LeaseId(request.id), state, events)?;
                Ok(Outcome::LeaseRevoke(pb::LeaseRevokeResponse { header: Some(self.header()) }))
            }
            Request::LeaseRevokeMany(request) => {
                self.lease_revoke_many(now_ms, request, state, events)
            }
            Request::LeaseRenewMany(request) => {
                self.leases.stamp(now_ms, request.lease_ms, state);
                let renew = |id: &i64| self.leases.renew(now_ms, LeaseId(*id), state);
                Ok(Outcome::LeaseRenewMany(request.ids.iter().map(renew).collect()))
            }
            Request::Alarm(request) => {
                let alarms = self.cluster.alarm(request, state);
                Ok(Outcome::Alarm(pb::AlarmResponse { header: Some(self.header()), alarms }))
            }
            Request::Auth(request) => {
                let Some(change) = &request.change else { return Err(Error::UnknownCommand) };
                auth.extend(self.auth.change(change, state)?);
                let header = self.header();
                Ok(match change {
                    Change::Login(_) => Outcome::Login { header, log_index },
                    _ => Outcome::Auth(header),
                })
            }
            Request::MemberAttributes(member) => {
                self.cluster.members.describe(member, state);
                Ok(Outcome::MemberAttributes)
            }
            Request::ClusterVersionSet(request) => {
                self.cluster.versions.set_cluster(request, state);
                Ok(Outcome::Version)
            }
            Request::DowngradeInfoSet(request) => {
                self.cluster.versions.set_downgrade(request, state);
                Ok(Outcome::Version)
            }
        }
    }

    fn refuse_on_alarm(&self, request: &Request) -> Result<(), Error> {
        let exempt = matches!(
            request,
            Request::Alarm(_)
                | Request::Auth(_)
                | Request::MemberAttributes(_)
                | Request::LeaseRevokeMany(_)
                | Request::LeaseRenewMany(_)
                | Request::ClusterVersionSet(_)
                | Request::DowngradeInfoSet(_)
        );
        if !exempt && self.cluster.has_alarm(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        if quota_cost(request) > 0 && self.cluster.has_alarm(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Runs one command's changes as one revision.
    fn write<T>(
        &mut self,
        state: &mut StateBatch,
        events: &mut Vec<Arc<RevisionEvents>>,
        change: impl FnOnce(&mut Write<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut write = Write::begin(&mut self.mvcc, &mut self.leases, state);
        match change(&mut write) {
            Ok(answer) => {
                events.extend(write.end());
                Ok(answer)
            }
            // The index has what will never be in the state: as bad as a failed read.
            Err(error) if write.has_changed() && !matches!(error, Error::State(_)) => {
                Err(StateError(format!("a command failed after its first change: {error}")).into())
            }
            Err(error) => Err(error),
        }
    }

    fn lease_grant(
        &mut self,
        now_ms: u64,
        request: &pb::LeaseGrantRequest,
        state: &mut StateBatch,
    ) -> Result<Outcome, Error> {
        let ttl = self.leases.grant(now_ms, LeaseId(request.id), request.ttl, state)?;
        let error = String::new();
        let response =
            pb::LeaseGrantResponse { header: Some(self.header()), id: request.id, ttl, error };
        Ok(Outcome::LeaseGrant(response))
    }

    /// Removes a lease and deletes its keys at one revision.
    fn lease_revoke(
        &mut self,
        id: LeaseId,
        state: &mut StateBatch,
        events: &mut Vec<Arc<RevisionEvents>>,
    ) -> Result<(), Error> {
        let keys = self.leases.revoke(id, state)?;
        self.write(state, events, |write| {
            for key in &keys {
                write.delete_range(KeyRange::One(key), false)?;
            }
            Ok(())
        })
    }

    /// Revokes the leases that were over when the leader looked, and are still.
    fn lease_revoke_many(
        &mut self,
        now_ms: u64,
        request: &LeaseRevokeMany,
        state: &mut StateBatch,
        events: &mut Vec<Arc<RevisionEvents>>,
    ) -> Result<Outcome, Error> {
        let stamp_ms = request.lease_ms;
        self.leases.stamp(now_ms, stamp_ms, state);
        let mut revoked = 0;
        for id in request.ids.iter().map(|id| LeaseId(*id)) {
            // A log of an older version does not tell when.
            if stamp_ms != 0 && self.leases.lives_at(id, stamp_ms) {
                continue;
            }
            match self.lease_revoke(id, state, events) {
                Ok(()) => revoked += 1,
                Err(Error::State(error)) => return Err(error.into()),
                // Somebody was faster.
                Err(_) => {}
            }
        }
        Ok(Outcome::LeaseRevokeMany(revoked))
    }

    /// A header with the current revision.
    fn header(&self) -> pb::ResponseHeader {
        pb::ResponseHeader { revision: self.mvcc.revision(), ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use kijabi_proto::command::Batch;

    use super::*;
    use crate::machine::Settings;
    use crate::state::{MemoryState, StateReader, StateView, Table, VisitPair};

    /// APPLY-1: no command can fail after its first change as long as the checks before it are
    /// right. If one is wrong, the member must not go on with an index ahead of its state.
    #[test]
    fn a_command_that_fails_after_its_first_change_ends_the_machine() {
        let state = Arc::new(MemoryState::default());
        let mut machine = Machine::open(state, Settings::default()).unwrap();
        let (mut batch, mut events) = (StateBatch::default(), Vec::new());
        let refused: Result<(), Error> =
            machine.write(&mut batch, &mut events, |_| Err(Error::KeyNotFound));
        assert!(matches!(refused, Err(Error::KeyNotFound)), "nothing was changed: {refused:?}");
        let failed: Result<(), Error> = machine.write(&mut batch, &mut events, |write| {
            write.put(&"k".into(), "v".into(), LeaseId::NONE, false)?;
            Err(Error::KeyNotFound)
        });
        let text = failed.unwrap_err().to_string();
        assert_eq!(
            text,
            "state read failed: a command failed after its first change: key not found"
        );
        assert!(events.is_empty(), "half a command was published");
    }

    #[test]
    fn a_machine_that_could_not_read_its_state_applies_nothing_more() {
        struct Unreadable;
        impl StateView for Unreadable {
            fn get(&self, table: Table, _: &[u8]) -> Result<Option<bytes::Bytes>, StateError> {
                if table == Table::Key {
                    Err(StateError("input/output error".into()))
                } else {
                    Ok(None)
                }
            }
            fn scan(
                &self,
                _: Table,
                _: &[u8],
                _: Option<&[u8]>,
                _: &mut VisitPair<'_>,
            ) -> Result<(), StateError> {
                Ok(())
            }
        }
        impl StateReader for Unreadable {
            fn with_view(&self, read: &mut dyn FnMut(&dyn StateView)) {
                read(self);
            }
        }
        let mut machine = Machine::open(Arc::new(Unreadable), Settings::default()).unwrap();
        let put = |value: &str| {
            let put = pb::PutRequest {
                key: "k".into(),
                value: value.to_owned().into(),
                ..Default::default()
            };
            Batch {
                commands: vec![Command { request: Some(Request::Put(put)), ..Default::default() }],
                ..Batch::default()
            }
        };
        machine.apply(0, 1, 1, &put("1")).unwrap();
        let error: Result<Applied, StateError> = machine.apply(0, 2, 1, &put("2"));
        assert_eq!(error.unwrap_err().to_string(), "state read failed: input/output error");
        assert!(machine.apply(0, 2, 1, &Batch::default()).is_err());
        assert_eq!(machine.applied_index(), 1);
    }
}

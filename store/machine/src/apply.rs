//! Applying committed commands: the one place that decides what each kind of command does.
//!
//! Owns: the dispatch, alarms' refusals and the bookkeeping of the applied index. Must not know:
//! how the log was agreed on. A newcomer's trap: an error is an answer, the same on every member;
//! only a failed read of the state ends the batch.

use std::sync::Arc;

use kijabi_proto::command::command::Request;
use kijabi_proto::command::{Batch, Command};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::AlarmType;

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
    /// and membership entries. After `Err` the machine's memory may be ahead of its state: stop.
    pub fn apply(
        &mut self,
        now_ms: u64,
        log_index: u64,
        term: u64,
        batch: &Batch,
    ) -> Result<Applied, StateError> {
        let mut applied = Applied::default();
        let before = self.mvcc.revision();
        for command in &batch.commands {
            let outcome = self.apply_command(now_ms, command, &mut applied);
            if let Err(Error::State(error)) = outcome {
                return Err(error);
            }
            applied.outcomes.push(outcome);
        }
        // The caller writes the batch before it lets a reader in.
        self.mvcc.clear_overlay();
        self.applied_index = log_index;
        self.applied_term = term;
        meta::put_i64(&mut applied.state, meta::APPLIED_INDEX, log_index.cast_signed());
        meta::put_i64(&mut applied.state, meta::APPLIED_TERM, term.cast_signed());
        if self.mvcc.revision() != before {
            meta::put_i64(&mut applied.state, meta::REVISION, self.mvcc.revision());
        }
        Ok(applied)
    }

    fn apply_command(
        &mut self,
        now_ms: u64,
        command: &Command,
        applied: &mut Applied,
    ) -> Result<Outcome, Error> {
        let Some(request) = &command.request else {
            // A command of a newer version: there is nothing here that could be done about it.
            return Err(Error::UnknownCommand);
        };
        self.refuse_on_alarm(request)?;
        let Applied { state, events, .. } = applied;
        match request {
            Request::Put(put) => {
                self.write(state, events, |write| txn::put(write, put)).map(Outcome::Put)
            }
            Request::DeleteRange(delete) => self
                .write(state, events, |write| Ok(txn::delete_range(write, delete)?))
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
                let mut revoked = 0;
                for id in &request.ids {
                    match self.lease_revoke(LeaseId(*id), state, events) {
                        Ok(()) => revoked += 1,
                        Err(Error::State(error)) => return Err(error.into()),
                        // Somebody was faster.
                        Err(_) => {}
                    }
                }
                Ok(Outcome::LeaseRevokeMany(revoked))
            }
            Request::Alarm(request) => {
                let alarms = self.cluster.alarm(request, state);
                Ok(Outcome::Alarm(pb::AlarmResponse { header: Some(self.header()), alarms }))
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
                | Request::MemberAttributes(_)
                | Request::LeaseRevokeMany(_)
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
        let answer = change(&mut write)?;
        events.extend(write.end());
        Ok(answer)
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
                write.delete_range(KeyRange::One(key))?;
            }
            Ok(())
        })
    }

    /// A header with the current revision.
    fn header(&self) -> pb::ResponseHeader {
        pb::ResponseHeader { revision: self.mvcc.revision(), ..Default::default() }
    }
}

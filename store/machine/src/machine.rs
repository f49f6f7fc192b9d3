//! The machine itself: what the apply loop and the services call.
//!
//! Owns: the public interface and the order of the parts. Must not know: files, sockets, clocks.
//! A newcomer's trap: the caller holds one lock over `apply` and the write of its state batch, so
//! a reader never sees a revision whose value it cannot read.

use std::sync::Arc;

use kijabi_proto::command::{Batch, MemberAttributes};
use kijabi_proto::etcdserverpb as pb;

use crate::outcome::{Applied, CompactStep, RangePlan, TxnPlan};
use crate::state::{StateError, StateReader};
use crate::{Error, LeaseId};

/// What the machine must know of the configuration. The same on every member.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The smallest lease TTL that is granted.
    pub lease_ttl_seconds_min: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lease_ttl_seconds_min: kijabi_base::limits::LEASE_TTL_SECONDS_MIN }
    }
}

/// The state machine of one member. Wrap it in a read-write lock.
pub struct Machine {
    state: Arc<dyn StateReader>,
}

impl Machine {
    /// Rebuilds index, leases, alarms and members from durable state. Installing a snapshot is
    /// opening the new state and putting this machine in the old one's place.
    pub fn open(state: Arc<dyn StateReader>, settings: Settings) -> Result<Self, StateError> {
        let _ = settings;
        Ok(Self { state })
    }

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
        let _ = (now_ms, log_index, term, batch);
        todo!()
    }

    /// The index of the last applied log entry; 0 for none.
    pub fn applied_index(&self) -> u64 {
        todo!()
    }

    /// The term of the last applied log entry; 0 for none.
    pub fn applied_term(&self) -> u64 {
        todo!()
    }

    /// The current revision; 1 for an empty store.
    pub fn revision(&self) -> i64 {
        todo!()
    }

    /// The revision of the last compaction asked for; -1 for none. It is readable itself.
    pub fn compacted_revision(&self) -> i64 {
        todo!()
    }

    /// How many keys there are in the index (live ones and those with history).
    pub fn key_count(&self) -> usize {
        todo!()
    }

    /// Where the values are.
    pub fn state(&self) -> Arc<dyn StateReader> {
        Arc::clone(&self.state)
    }

    /// Plans a range read at the machine's current revision or the one asked for.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<RangePlan, Error> {
        let _ = request;
        todo!()
    }

    /// Decides a transaction that holds no writes (see [`crate::is_read_only`]).
    pub fn txn_read(&self, request: &pb::TxnRequest) -> Result<TxnPlan, Error> {
        let _ = request;
        todo!()
    }

    /// The revision up to which compaction has finished; below [`Self::compacted_revision`] while
    /// steps are due, also after a restart.
    pub fn compaction_finished(&self) -> i64 {
        todo!()
    }

    /// Runs one bounded step of the scheduled compaction; `None` if none is due. Write its state
    /// under the same lock, pause, and call again until `done`.
    pub fn compact_step(&mut self) -> Option<CompactStep> {
        todo!()
    }

    /// This member became the leader: every lease gets its full TTL plus `extend_ms` (LEASE-1).
    pub fn leases_promote(&mut self, now_ms: u64, extend_ms: u64) {
        let _ = (now_ms, extend_ms);
        todo!()
    }

    /// This member stopped being the leader: leases no longer expire here.
    pub fn leases_demote(&mut self) {
        todo!()
    }

    /// Whether this member keeps the leases' time.
    pub fn leases_primary(&self) -> bool {
        todo!()
    }

    /// Gives the lease its full TTL again and returns that TTL in seconds. Leader-local.
    pub fn lease_renew(&mut self, now_ms: u64, id: LeaseId) -> Result<i64, Error> {
        let _ = (now_ms, id);
        todo!()
    }

    /// Remaining and granted time of a lease, and its keys if asked for.
    pub fn lease_time_to_live(
        &self,
        now_ms: u64,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let _ = (now_ms, request);
        todo!()
    }

    /// All leases, in the order of their expiry and then of their ids.
    pub fn lease_ids(&self) -> Vec<LeaseId> {
        todo!()
    }

    /// At most `max` leases that have expired: propose them as one `LeaseRevokeMany`. They are
    /// listed again until they are revoked.
    pub fn leases_expired(&self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        let _ = (now_ms, max);
        todo!()
    }

    /// The active alarms.
    pub fn alarms(&self) -> Vec<pb::AlarmMember> {
        todo!()
    }

    /// What the members have said of themselves, in the order of their ids.
    pub fn members(&self) -> Vec<MemberAttributes> {
        todo!()
    }
}

//! The machine itself: what the apply loop and the services call.
//!
//! Owns: the public interface and the order of the parts. Must not know: files, sockets, clocks.
//! A newcomer's trap: the caller holds one lock over `apply` and the write of its state batch, so
//! a reader never sees a revision whose value it cannot read.

use std::sync::Arc;

use kijabi_proto::command::MemberAttributes;
use kijabi_proto::etcdserverpb as pb;

use crate::auth::{Auth, Caller};
use crate::cluster::Cluster;
use crate::digest::Digests;
use crate::error::Error;
use crate::id::LeaseId;
use crate::lease::Leases;
use crate::meta;
use crate::mvcc::{Mvcc, PreviousPlan, RangePlan};
use crate::outcome::{CompactStep, RevisionEvents};
use crate::state::{StateBatch, StateError, StateReader};
use crate::txn::TxnPlan;
use crate::version::Version;

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
    pub(crate) mvcc: Mvcc,
    pub(crate) leases: Leases,
    pub(crate) cluster: Cluster,
    pub(crate) auth: Auth,
    pub(crate) applied_index: u64,
    pub(crate) applied_term: u64,
    pub(crate) digests: Digests,
    /// Why this machine applies nothing any more: its memory may be ahead of its state.
    pub(crate) broken: Option<StateError>,
}

impl Machine {
    /// Rebuilds index, leases, alarms and members from durable state. Installing a snapshot is
    /// opening the new state and putting the new machine in the old one's place.
    pub fn open(state: Arc<dyn StateReader>, settings: Settings) -> Result<Self, StateError> {
        let mut leases = Leases::open(&*state, settings.lease_ttl_seconds_min)?;
        let cluster = Cluster::open(&*state)?;
        let auth = Auth::open(&*state)?;
        let applied = |key| meta::read_i64(&*state, key).map(|n| n.unwrap_or(0).cast_unsigned());
        let applied_index = applied(meta::APPLIED_INDEX)?;
        let applied_term = applied(meta::APPLIED_TERM)?;
        let digests = Digests::open(&*state, applied_index)?;
        let mvcc = Mvcc::open(state, |key, lease| leases.attach(key, LeaseId(lease)))?;
        Ok(Self { mvcc, leases, cluster, auth, applied_index, applied_term, digests, broken: None })
    }

    /// The index of the last applied log entry; 0 for none.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The term of the last applied log entry; 0 for none.
    pub fn applied_term(&self) -> u64 {
        self.applied_term
    }

    /// The digest of everything up to the log entry at `index`, if that is one of the last ones.
    /// Members that have applied the same entries have the same digest.
    pub fn digest_at(&self, index: u64) -> Option<u64> {
        self.digests.at(index)
    }

    /// The current revision; 1 for an empty store.
    pub fn revision(&self) -> i64 {
        self.mvcc.revision()
    }

    /// The revision of the last compaction asked for; -1 for none. It is readable itself.
    pub fn compacted_revision(&self) -> i64 {
        self.mvcc.compacted_revision()
    }

    /// How many keys there are in the index (live ones and those with history).
    pub fn key_count(&self) -> usize {
        self.mvcc.key_count()
    }

    /// Bytes of all readable revisions and of those a compaction has not removed yet: what the
    /// quota counts.
    pub fn live_bytes(&self) -> u64 {
        self.mvcc.live_bytes()
    }

    /// Where the values are.
    pub fn state(&self) -> Arc<dyn StateReader> {
        self.mvcc.state()
    }

    /// Plans a range read at the machine's current revision or the one asked for.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<RangePlan, Error> {
        self.mvcc.plan_range(request, self.mvcc.revision())
    }

    /// How many rows the plan of a range read lists at most, while it is made; nothing is checked.
    pub fn range_count(&self, request: &pb::RangeRequest) -> usize {
        self.mvcc.range_count(request)
    }

    /// Decides a transaction that holds no writes (see [`crate::is_read_only`]).
    pub fn txn_read(&self, request: &pb::TxnRequest) -> Result<TxnPlan, Error> {
        TxnPlan::of(&self.mvcc, &self.leases, request)
    }

    /// Users, roles and what they may do.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether the caller may do what a transaction asks for, in either branch.
    pub fn permit_txn(&self, caller: &Caller, request: &pb::TxnRequest) -> Result<(), Error> {
        Ok(self.auth.permit_txn(&self.leases, caller, request)?)
    }

    /// Whether the caller may keep a lease alive: it may write all the lease's keys.
    pub fn permit_lease_renew(&self, caller: &Caller, id: LeaseId) -> Result<(), Error> {
        Ok(self.auth.permit_lease(&self.leases, caller, id)?)
    }

    /// Whether the caller may see which leases there are: it may read the keys of all.
    pub fn permit_lease_ids(&self, caller: &Caller) -> Result<(), Error> {
        Ok(self.auth.permit_all_leases(&self.leases, caller)?)
    }

    /// Whether somebody watches who wants previous values. If nobody does, replacing a value need
    /// not read it. Call it between two entries.
    pub fn tell_previous(&mut self, tell: bool) {
        self.mvcc.tell_previous(tell);
    }

    /// Finds the previous values of events read with [`crate::read_history`].
    pub fn plan_previous(&self, revisions: &[RevisionEvents]) -> PreviousPlan {
        self.mvcc.plan_previous(revisions)
    }

    /// The revision up to which compaction has finished; below [`Self::compacted_revision`] while
    /// steps are due, also after a restart.
    pub fn compaction_finished(&self) -> i64 {
        self.mvcc.compaction_finished()
    }

    /// Runs one step of the scheduled compaction, which removes at most `rows_max` rows; `None` if
    /// none is due. Write its state under the same lock, pause, and call again until `done`.
    pub fn compact_step(&mut self, rows_max: usize) -> Option<CompactStep> {
        self.mvcc.compact_step(rows_max.max(1))
    }

    /// This member became the leader: leases that nobody renews get `extend_ms` on top (LEASE-1).
    pub fn leases_promote(&mut self, now_ms: u64, extend_ms: u64) {
        self.leases.promote(now_ms, extend_ms);
    }

    /// This member stopped being the leader: leases no longer expire here.
    pub fn leases_demote(&mut self) {
        self.leases.demote();
    }

    /// Whether this member is the one to end leases.
    pub fn leases_primary(&self) -> bool {
        self.leases.primary()
    }

    /// How late it is for leases: goes into what the leader proposes about them.
    pub fn lease_time_ms(&self, now_ms: u64) -> i64 {
        self.leases.time_ms(now_ms)
    }

    /// Whether the leader should propose a `LeaseRenewMany`, if only to tell how late it is.
    pub fn is_lease_stamp_due(&self, now_ms: u64) -> bool {
        self.leases.is_stamp_due(now_ms)
    }

    /// Whether the leader may propose to renew a lease. Leader-local.
    pub fn may_renew_lease(&self, now_ms: u64, id: LeaseId) -> Result<(), Error> {
        self.leases.may_renew(now_ms, id)
    }

    /// Remaining and granted time of a lease, and its keys if asked for. Leader-local.
    pub fn lease_time_to_live(
        &self,
        now_ms: u64,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        self.leases.time_to_live(now_ms, request)
    }

    /// All leases, in the order of their expiry and then of their ids.
    pub fn lease_ids(&self) -> Vec<LeaseId> {
        self.leases.ids()
    }

    /// At most `max` leases that have expired: propose them as one `LeaseRevokeMany`. They are
    /// listed again until they are revoked.
    pub fn leases_expired(&self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        self.leases.expired(now_ms, max)
    }

    /// The active alarms.
    pub fn alarms(&self) -> Vec<pb::AlarmMember> {
        self.cluster.alarms(pb::AlarmType::None)
    }

    /// The members, in the order of their ids.
    pub fn members(&self) -> Vec<MemberAttributes> {
        self.cluster.members.all()
    }

    /// The member with this id.
    pub fn member(&self, id: u64) -> Option<&MemberAttributes> {
        self.cluster.members.get(id)
    }

    /// Whether there was a member with this id that has been removed.
    pub fn is_member_removed(&self, id: u64) -> bool {
        self.cluster.members.is_removed(id)
    }

    /// The ids of all members that were removed. None of them is ever used again.
    pub fn members_removed(&self) -> Vec<u64> {
        self.cluster.members.removed()
    }

    /// Makes the members the ones that an applied membership entry names. The changes go to `state`,
    /// the batch that the entry is applied with.
    pub fn set_members(&mut self, members: &[MemberAttributes], state: &mut StateBatch) {
        self.cluster.members.replace(members, state);
    }

    /// The version the cluster works at.
    pub fn cluster_version(&self) -> Version {
        self.cluster.versions.cluster
    }

    /// The version that the cluster is being taken down to, if it is.
    pub fn downgrade_target(&self) -> Option<Version> {
        self.cluster.versions.downgrade
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("revision", &self.revision())
            .field("applied_index", &self.applied_index)
            .finish_non_exhaustive()
    }
}

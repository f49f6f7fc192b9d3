//! Leases: which exist, which keys hang on them, and when they run out.
//!
//! Owns: grants, attachments, renewals and deadlines. Must not know: clocks (`now_ms` comes in) and
//! who proposes the revocations. A newcomer's trap: renewals go through the log, so every member
//! knows every deadline, by the clock of `clock.rs`; only the leader acts on them.
// Differs from etcd: there a renewal is known to the leader alone, and a new one begins anew.

mod clock;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use kijabi_base::limits::LEASE_TTL_SECONDS_MAX;
use kijabi_proto::command::LeaseRecord;
use kijabi_proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use prost::Message as _;

use self::clock::{LeaseClock, UNSTAMPED_MS_MAX};
use crate::error::Error;
use crate::id::LeaseId;
use crate::meta;
use crate::state::{StateBatch, StateError, StateReader, Table};

#[derive(Debug)]
struct Lease {
    ttl_seconds: i64,
    /// When it was granted or last renewed, as the state has it: the same on every member.
    renewed_ms: i64,
    /// The same as this member saw it, which is no earlier.
    seen_ms: i64,
    /// When it runs out, unless a leader has come into office since it was renewed.
    deadline_ms: i64,
    keys: BTreeSet<Arc<[u8]>>,
}

impl Lease {
    fn new(ttl_seconds: i64, renewed_ms: i64, seen_ms: i64) -> Self {
        let deadline_ms = seen_ms.saturating_add(milliseconds(ttl_seconds));
        Self { ttl_seconds, renewed_ms, seen_ms, deadline_ms, keys: BTreeSet::new() }
    }

    fn record(&self, id: LeaseId) -> Vec<u8> {
        let (ttl, renewed_ms) = (self.ttl_seconds, self.renewed_ms);
        LeaseRecord { ttl, id: id.0, renewed_ms }.encode_to_vec()
    }
}

/// The office of the leader that this member is.
#[derive(Clone, Copy, Debug)]
struct Office {
    since_ms: i64,
    /// What leases that were not renewed in it get on top, once: their holders may have found no
    /// leader to ask.
    extend_ms: i64,
}

/// All leases.
#[derive(Debug)]
pub(crate) struct Leases {
    ttl_seconds_min: i64,
    clock: LeaseClock,
    office: Option<Office>,
    by_id: BTreeMap<LeaseId, Lease>,
    by_key: BTreeMap<Arc<[u8]>, LeaseId>,
    by_deadline: BTreeSet<(i64, LeaseId)>,
}

impl Leases {
    /// Reads the leases back, without their keys: those are attached while the index is rebuilt.
    ///
    /// Invariant (LEASE-1): a grant is on record with the newest stamp before it, so it may have
    /// been later by what the clock goes without one.
    pub(crate) fn open(state: &dyn StateReader, ttl_seconds_min: i64) -> Result<Self, StateError> {
        let clock = LeaseClock::new(meta::read_i64(state, meta::LEASE_TIME)?.unwrap_or(0));
        let mut by_id = BTreeMap::new();
        let mut failed = None;
        state.scan(Table::Lease, &[], None, &mut |_, value| match LeaseRecord::decode(value) {
            Ok(record) => {
                let ttl_seconds = record.ttl.max(ttl_seconds_min);
                // The state of a cluster that was made from another one's may lack the clock.
                let renewed_ms = record.renewed_ms.min(clock.logged_ms());
                let seen_ms = renewed_ms.saturating_add(UNSTAMPED_MS_MAX);
                let lease = Lease::new(ttl_seconds, renewed_ms, seen_ms);
                by_id.insert(LeaseId(record.id), lease);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(StateError(format!("record of a lease: {error}")));
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let by_deadline = by_id.iter().map(|(id, lease)| (lease.deadline_ms, *id)).collect();
        let by_key = BTreeMap::new();
        Ok(Self { ttl_seconds_min, clock, office: None, by_id, by_key, by_deadline })
    }

    /// Whether the lease is there.
    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The keys that hang on a lease; `None` if there is no such lease.
    pub(crate) fn keys(&self, id: LeaseId) -> Option<&BTreeSet<Arc<[u8]>>> {
        self.by_id.get(&id).map(|lease| &lease.keys)
    }

    /// The keys of each lease.
    pub(crate) fn all_keys(&self) -> impl Iterator<Item = &BTreeSet<Arc<[u8]>>> {
        self.by_id.values().map(|lease| &lease.keys)
    }

    /// The lease a key hangs on.
    pub(crate) fn of_key(&self, key: &[u8]) -> LeaseId {
        self.by_key.get(key).copied().unwrap_or_default()
    }

    /// Hangs a key on a lease, or on none, and takes it off the one it was on.
    pub(crate) fn attach(&mut self, key: &[u8], id: LeaseId) {
        let old = self.of_key(key);
        if old == id {
            return;
        }
        if let Some((name, _)) = self.by_key.remove_entry(key)
            && let Some(lease) = self.by_id.get_mut(&old)
        {
            lease.keys.remove(&name);
        }
        if let Some(lease) = self.by_id.get_mut(&id) {
            let name: Arc<[u8]> = key.into();
            lease.keys.insert(Arc::clone(&name));
            self.by_key.insert(name, id);
        }
    }

    /// Grants a lease; returns the TTL it got.
    pub(crate) fn grant(
        &mut self,
        now_ms: u64,
        id: LeaseId,
        ttl_seconds: i64,
        batch: &mut StateBatch,
    ) -> Result<i64, Error> {
        if id == LeaseId::NONE {
            return Err(Error::LeaseNotFound);
        }
        if ttl_seconds > LEASE_TTL_SECONDS_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.contains(id) {
            return Err(Error::LeaseExists);
        }
        if self.by_id.is_empty() {
            self.clock.begin(now_ms);
        }
        let ttl_seconds = ttl_seconds.max(self.ttl_seconds_min);
        let lease = Lease::new(ttl_seconds, self.clock.logged_ms(), self.clock.at(now_ms));
        batch.put(Table::Lease, row_key(id), lease.record(id));
        self.by_deadline.insert((lease.deadline_ms, id));
        self.by_id.insert(id, lease);
        Ok(ttl_seconds)
    }

    /// Takes how late it was for the leader when it proposed what is applied now.
    pub(crate) fn stamp(&mut self, now_ms: u64, stamp_ms: i64, batch: &mut StateBatch) {
        if self.clock.stamp(now_ms, stamp_ms) {
            meta::put_i64(batch, meta::LEASE_TIME, self.clock.logged_ms());
        }
    }

    /// Gives a lease its full time again, from the stamp that came with the renewal on; returns the
    /// TTL, or `None` if there is no such lease. Who has been refused by [`Self::may_renew`] does
    /// not get here, but one that has run out since may: nobody has been told so yet.
    pub(crate) fn renew(
        &mut self,
        now_ms: u64,
        id: LeaseId,
        batch: &mut StateBatch,
    ) -> Option<i64> {
        let lease = self.by_id.get_mut(&id)?;
        let seen_ms = self.clock.at(now_ms);
        let keys = std::mem::take(&mut lease.keys);
        self.by_deadline.remove(&(lease.deadline_ms, id));
        *lease = Lease { keys, ..Lease::new(lease.ttl_seconds, self.clock.logged_ms(), seen_ms) };
        self.by_deadline.insert((lease.deadline_ms, id));
        batch.put(Table::Lease, row_key(id), lease.record(id));
        Some(lease.ttl_seconds)
    }

    /// Whether a lease had time left at `stamp_ms`, as every member sees it.
    pub(crate) fn lives_at(&self, id: LeaseId, stamp_ms: i64) -> bool {
        self.by_id.get(&id).is_some_and(|lease| {
            lease.renewed_ms.saturating_add(milliseconds(lease.ttl_seconds)) > stamp_ms
        })
    }

    /// Removes a lease; returns its keys, sorted, which the caller deletes.
    pub(crate) fn revoke(
        &mut self,
        id: LeaseId,
        batch: &mut StateBatch,
    ) -> Result<BTreeSet<Arc<[u8]>>, Error> {
        let lease = self.by_id.remove(&id).ok_or(Error::LeaseNotFound)?;
        self.by_deadline.remove(&(lease.deadline_ms, id));
        batch.delete(Table::Lease, row_key(id));
        for key in &lease.keys {
            self.by_key.remove(key);
        }
        Ok(lease.keys)
    }

    /// This member became the leader.
    ///
    /// Invariant (LEASE-1): every renewal that was acknowledged is in its log, and so is known here
    /// before anything that it proposes is applied. Leases that nobody has renewed since get
    /// `extend_ms` for the time without a leader; only once, so that they end however often
    /// leaders change.
    pub(crate) fn promote(&mut self, now_ms: u64, extend_ms: u64) {
        self.clock.begin_if_new(now_ms);
        let extend_ms = i64::try_from(extend_ms).unwrap_or(i64::MAX);
        self.office = Some(Office { since_ms: self.clock.at(now_ms), extend_ms });
    }

    /// This member is not the leader any more.
    pub(crate) fn demote(&mut self) {
        self.office = None;
    }

    /// Whether this member is the one to end leases.
    pub(crate) fn primary(&self) -> bool {
        self.office.is_some()
    }

    /// How late it is for leases.
    pub(crate) fn time_ms(&self, now_ms: u64) -> i64 {
        self.clock.at(now_ms)
    }

    /// Whether the log should be told how late it is.
    pub(crate) fn is_stamp_due(&self, now_ms: u64) -> bool {
        !self.by_id.is_empty() && self.clock.is_stamp_due(now_ms)
    }

    /// Whether the leader may propose a renewal. A lease that has run out is as good as revoked.
    pub(crate) fn may_renew(&self, now_ms: u64, id: LeaseId) -> Result<(), Error> {
        let office = self.office.ok_or(Error::NotPrimaryLessor)?;
        let lease = self.by_id.get(&id).ok_or(Error::LeaseNotFound)?;
        if deadline(lease, office) <= self.clock.at(now_ms) {
            return Err(Error::LeaseNotFound);
        }
        Ok(())
    }

    /// Remaining and granted time, without the header.
    pub(crate) fn time_to_live(
        &self,
        now_ms: u64,
        request: &LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let office = self.office.ok_or(Error::NotPrimaryLessor)?;
        let lease = self.by_id.get(&LeaseId(request.id)).ok_or(Error::LeaseNotFound)?;
        let remaining_ms = deadline(lease, office).saturating_sub(self.clock.at(now_ms));
        let keys = request.keys.then(|| lease.keys.iter().map(|key| key.to_vec().into()).collect());
        Ok(LeaseTimeToLiveResponse {
            header: None,
            id: request.id,
            ttl: remaining_ms.clamp(0, milliseconds(lease.ttl_seconds)) / 1000,
            granted_ttl: lease.ttl_seconds,
            keys: keys.unwrap_or_default(),
        })
    }

    /// All leases by deadline, then by id.
    pub(crate) fn ids(&self) -> Vec<LeaseId> {
        self.by_deadline.iter().map(|(_, id)| *id).collect()
    }

    /// At most `max` leases that have run out.
    pub(crate) fn expired(&self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        let Some(office) = self.office else { return Vec::new() };
        let time_ms = self.clock.at(now_ms);
        let due = self.by_deadline.iter().take_while(|(deadline_ms, _)| *deadline_ms <= time_ms);
        let over = due.filter(|(_, id)| {
            self.by_id.get(id).is_some_and(|lease| deadline(lease, office) <= time_ms)
        });
        over.take(max).map(|(_, id)| *id).collect()
    }
}

/// When a leader ends a lease.
fn deadline(lease: &Lease, office: Office) -> i64 {
    let extend_ms = if lease.seen_ms < office.since_ms { office.extend_ms } else { 0 };
    lease.deadline_ms.saturating_add(extend_ms)
}

fn milliseconds(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000)
}

fn row_key(id: LeaseId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

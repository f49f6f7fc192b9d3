//! Leases: which exist, which keys hang on them, and, on the leader, when they run out.
//!
//! Owns: grants, attachments and deadlines. Must not know: clocks (`now_ms` comes in) and who
//! proposes the revocations. A newcomer's trap: deadlines live only on the leader and only in
//! memory; a new leader gives every lease its full time again (LEASE-1).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use kijabi_base::limits::LEASE_TTL_SECONDS_MAX;
use kijabi_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use prost::Message as _;

use crate::error::Error;
use crate::id::LeaseId;
use crate::state::{StateBatch, StateError, StateReader, Table};

#[derive(Debug)]
struct Lease {
    ttl_seconds: i64,
    /// Monotonic milliseconds; none while this member is not the leader.
    deadline_ms: Option<u64>,
    keys: BTreeSet<Arc<[u8]>>,
}

/// All leases.
#[derive(Debug)]
pub(crate) struct Leases {
    ttl_seconds_min: i64,
    primary: bool,
    by_id: BTreeMap<LeaseId, Lease>,
    by_key: BTreeMap<Arc<[u8]>, LeaseId>,
    by_deadline: BTreeSet<(u64, LeaseId)>,
}

impl Leases {
    /// Reads the leases back, without their keys: those are attached while the index is rebuilt.
    pub(crate) fn open(state: &dyn StateReader, ttl_seconds_min: i64) -> Result<Self, StateError> {
        let mut by_id = BTreeMap::new();
        let mut failed = None;
        state.scan(
            Table::Lease,
            &[],
            None,
            &mut |_, value| match LeaseGrantRequest::decode(value) {
                Ok(lease) => {
                    let ttl_seconds = lease.ttl.max(ttl_seconds_min);
                    let lease_of = Lease { ttl_seconds, deadline_ms: None, keys: BTreeSet::new() };
                    by_id.insert(LeaseId(lease.id), lease_of);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(StateError(format!("record of a lease: {error}")));
                    ControlFlow::Break(())
                }
            },
        )?;
        if let Some(error) = failed {
            return Err(error);
        }
        let (by_key, by_deadline) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { ttl_seconds_min, primary: false, by_id, by_key, by_deadline })
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
        let ttl_seconds = ttl_seconds.max(self.ttl_seconds_min);
        self.by_id.insert(id, Lease { ttl_seconds, deadline_ms: None, keys: BTreeSet::new() });
        if self.primary {
            self.set_deadline(id, Some(deadline(now_ms, ttl_seconds)));
        }
        let record = LeaseGrantRequest { ttl: ttl_seconds, id: id.0 };
        batch.put(Table::Lease, id.0.to_be_bytes().to_vec(), record.encode_to_vec());
        Ok(ttl_seconds)
    }

    /// Removes a lease; returns its keys, sorted, which the caller deletes.
    pub(crate) fn revoke(
        &mut self,
        id: LeaseId,
        batch: &mut StateBatch,
    ) -> Result<BTreeSet<Arc<[u8]>>, Error> {
        if !self.contains(id) {
            return Err(Error::LeaseNotFound);
        }
        self.set_deadline(id, None);
        batch.delete(Table::Lease, id.0.to_be_bytes().to_vec());
        let keys = self.by_id.remove(&id).map(|lease| lease.keys).unwrap_or_default();
        for key in &keys {
            self.by_key.remove(key);
        }
        Ok(keys)
    }

    fn set_deadline(&mut self, id: LeaseId, deadline_ms: Option<u64>) {
        let Some(lease) = self.by_id.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut lease.deadline_ms, deadline_ms) {
            self.by_deadline.remove(&(old, id));
        }
        if let Some(new) = deadline_ms {
            self.by_deadline.insert((new, id));
        }
    }

    /// This member became the leader.
    ///
    /// Invariant (LEASE-1): nobody knows here which keep-alives the last leader acknowledged, so
    /// every lease gets its full time, and `extend_ms` for the time without a leader.
    pub(crate) fn promote(&mut self, now_ms: u64, extend_ms: u64) {
        self.primary = true;
        self.by_deadline.clear();
        for (id, lease) in &mut self.by_id {
            let at = deadline(now_ms, lease.ttl_seconds).saturating_add(extend_ms);
            lease.deadline_ms = Some(at);
            self.by_deadline.insert((at, *id));
        }
    }

    /// This member is not the leader any more.
    pub(crate) fn demote(&mut self) {
        self.primary = false;
        self.by_deadline.clear();
        self.by_id.values_mut().for_each(|lease| lease.deadline_ms = None);
    }

    /// Whether this member keeps the leases' time.
    pub(crate) fn primary(&self) -> bool {
        self.primary
    }

    /// Gives a lease its full time again. One that has run out is as good as revoked.
    pub(crate) fn renew(&mut self, now_ms: u64, id: LeaseId) -> Result<i64, Error> {
        if !self.primary {
            return Err(Error::NotPrimaryLessor);
        }
        let lease = self.by_id.get(&id).ok_or(Error::LeaseNotFound)?;
        if lease.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            return Err(Error::LeaseNotFound);
        }
        let ttl_seconds = lease.ttl_seconds;
        self.set_deadline(id, Some(deadline(now_ms, ttl_seconds)));
        Ok(ttl_seconds)
    }

    /// Remaining and granted time, without the header.
    pub(crate) fn time_to_live(
        &self,
        now_ms: u64,
        request: &LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        if !self.primary {
            return Err(Error::NotPrimaryLessor);
        }
        let lease = self.by_id.get(&LeaseId(request.id)).ok_or(Error::LeaseNotFound)?;
        let remaining_ms = lease.deadline_ms.unwrap_or(now_ms).saturating_sub(now_ms);
        let keys = request.keys.then(|| lease.keys.iter().map(|key| key.to_vec().into()).collect());
        Ok(LeaseTimeToLiveResponse {
            header: None,
            id: request.id,
            ttl: i64::try_from(remaining_ms / 1000).unwrap_or(i64::MAX),
            granted_ttl: lease.ttl_seconds,
            keys: keys.unwrap_or_default(),
        })
    }

    /// All leases by deadline, then by id.
    pub(crate) fn ids(&self) -> Vec<LeaseId> {
        let mut ids: Vec<(Option<u64>, LeaseId)> =
            self.by_id.iter().map(|(id, lease)| (lease.deadline_ms, *id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// At most `max` leases that have run out.
    pub(crate) fn expired(&self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        let due = self.by_deadline.iter().take_while(|(deadline_ms, _)| *deadline_ms <= now_ms);
        due.take(max).map(|(_, id)| *id).collect()
    }
}

fn deadline(now_ms: u64, ttl_seconds: i64) -> u64 {
    now_ms.saturating_add(u64::try_from(ttl_seconds).unwrap_or(0).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemoryState;

    const A: LeaseId = LeaseId(7);

    fn leases() -> Leases {
        let mut leases = Leases::open(&MemoryState::default(), 2).unwrap();
        leases.promote(0, 0);
        leases
    }

    #[test]
    fn a_grant_is_raised_to_the_minimum_and_refused_beyond_the_maximum() {
        let (mut leases, mut batch) = (leases(), StateBatch::default());
        assert_eq!(leases.grant(0, A, -5, &mut batch).unwrap(), 2);
        assert!(matches!(leases.grant(0, A, 5, &mut batch), Err(Error::LeaseExists)));
        let too_long = leases.grant(0, LeaseId(8), LEASE_TTL_SECONDS_MAX + 1, &mut batch);
        assert!(matches!(too_long, Err(Error::LeaseTtlTooLarge)));
        assert_eq!(
            leases.grant(0, LeaseId(9), LEASE_TTL_SECONDS_MAX, &mut batch).unwrap(),
            LEASE_TTL_SECONDS_MAX
        );
    }

    /// LEASE-1.
    #[test]
    fn a_renewed_lease_lives_its_full_time_again() {
        let mut leases = leases();
        leases.grant(0, A, 10, &mut StateBatch::default()).unwrap();
        assert_eq!(leases.renew(9_000, A).unwrap(), 10);
        assert!(leases.expired(18_999, 9).is_empty());
        assert_eq!(leases.expired(19_000, 9), [A]);
        assert!(matches!(leases.renew(19_000, A), Err(Error::LeaseNotFound)));
    }

    /// LEASE-1.
    #[test]
    fn a_new_leader_extends_all_and_a_follower_expires_none() {
        let mut leases = leases();
        leases.grant(0, A, 10, &mut StateBatch::default()).unwrap();
        leases.demote();
        assert!(leases.expired(1_000_000, 9).is_empty());
        assert!(matches!(leases.renew(0, A), Err(Error::NotPrimaryLessor)));
        leases.promote(1_000_000, 500);
        assert!(leases.expired(1_010_499, 9).is_empty());
        assert_eq!(leases.expired(1_010_500, 9), [A]);
    }

    #[test]
    fn a_key_hangs_on_one_lease_at_a_time() {
        let (mut leases, mut batch) = (leases(), StateBatch::default());
        leases.grant(0, A, 10, &mut batch).unwrap();
        leases.grant(0, LeaseId(8), 10, &mut batch).unwrap();
        leases.attach(b"k", A);
        leases.attach(b"k", LeaseId(8));
        assert!(leases.revoke(A, &mut batch).unwrap().is_empty());
        assert_eq!(leases.revoke(LeaseId(8), &mut batch).unwrap().len(), 1);
        assert_eq!(leases.of_key(b"k"), LeaseId::NONE);
    }
}

//! Leases that many short-lived objects share.
//!
//! Owns: how long and by how many objects one lease is used. Must not know: which objects expire.
//! A newcomer's trap: a lease is never renewed or revoked; an object lives at least its TTL and at
//! most the reuse time longer.

use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use tokio::sync::Mutex;

use super::{Client, StoreError};
use crate::limits::{LEASE_OBJECTS_MAX, LEASE_REUSE_SECONDS};

/// Leases for objects of one time to live.
#[derive(Debug)]
pub struct LeasePool {
    ttl_seconds: i64,
    current: Mutex<Option<Shared>>,
}

#[derive(Debug)]
struct Shared {
    id: i64,
    until: Instant,
    objects: usize,
}

impl LeasePool {
    /// Leases for objects that live `ttl_seconds`.
    pub fn new(ttl_seconds: i64) -> Self {
        Self { ttl_seconds, current: Mutex::new(None) }
    }

    /// A lease that lives at least the time to live from now.
    pub async fn lease(&self, client: &Client) -> Result<i64, StoreError> {
        let mut current = self.current.lock().await;
        let now = clock::now();
        if let Some(shared) = current.as_mut()
            && now < shared.until
            && shared.objects < LEASE_OBJECTS_MAX
        {
            shared.objects += 1;
            return Ok(shared.id);
        }
        let reuse = LEASE_REUSE_SECONDS.min(self.ttl_seconds / 20).max(1);
        let id = client.grant_lease(self.ttl_seconds + reuse).await?;
        let until = now + Duration::from_secs(reuse.unsigned_abs());
        *current = Some(Shared { id, until, objects: 1 });
        Ok(id)
    }
}

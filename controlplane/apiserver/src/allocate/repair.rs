//! The repair of the pools: claims without a service go, services without a claim get one.
//!
//! Owns: the comparison of both. Must not know: why they differ. A newcomer's trap: a claim comes a
//! moment before its service, so one without a service is only dropped when it was seen so twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::tasks::Shutdown;

use super::pool::{Claim, Owner, Pool};
use super::{Services, addresses_of, ports_of};
use crate::admission::Objects;
use crate::status::ApiError;
use crate::storage::Revision;

/// Between two looks; longer than any request may take.
const PERIOD: Duration = Duration::from_secs(75);

/// The repair, and what it saw last.
pub struct Repair {
    services: Services,
    objects: Arc<dyn Objects>,
    orphans: BTreeMap<String, Revision>,
}

impl std::fmt::Debug for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repair").field("orphans", &self.orphans).finish_non_exhaustive()
    }
}

impl Repair {
    /// A repair of the pools of `services`, by what `objects` shows of them.
    pub fn new(services: Services, objects: Arc<dyn Objects>) -> Self {
        Self { services, objects, orphans: BTreeMap::new() }
    }

    /// Repairs now and then until the shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            if let Err(error) = self.once().await {
                tracing::warn!(%error, "service addresses and ports could not be compared");
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = shutdown.wait() => return,
            }
        }
    }

    /// One look.
    pub(super) async fn once(&mut self) -> Result<(), ApiError> {
        // The claims are read first: a service that is stored after that had its claim before, and
        // claiming what is claimed does nothing.
        let addresses = self.services.addresses.claims().await?;
        let ports = self.services.ports.claims().await?;
        let mut held_addresses = BTreeMap::new();
        let mut held_ports = BTreeMap::new();
        for service in self.objects.list("", "services").await? {
            let text =
                |field: &str| service["metadata"][field].as_str().unwrap_or_default().to_owned();
            let owner = Owner { namespace: text("namespace"), name: text("name") };
            for address in addresses_of(&service["spec"]) {
                held_addresses.insert(address, owner.clone());
            }
            for port in ports_of(&service["spec"]) {
                held_ports.insert(port.to_string(), owner.clone());
            }
        }
        let mut seen = BTreeMap::new();
        for (pool, claims, held) in [
            (&self.services.addresses, addresses, held_addresses),
            (&self.services.ports, ports, held_ports),
        ] {
            restore(pool, &claims, &held).await?;
            for orphan in claims.iter().filter(|claim| !held.contains_key(&claim.name)) {
                if self.orphans.get(&orphan.name) == Some(&orphan.revision) {
                    tracing::warn!(name = orphan.name, owner = ?orphan.owner, "nobody holds this any more");
                    pool.release(&orphan.name, orphan.revision).await;
                } else {
                    seen.insert(orphan.name.clone(), orphan.revision);
                }
            }
        }
        self.orphans = seen;
        Ok(())
    }
}

/// Claims what services hold without a claim.
async fn restore(
    pool: &Pool,
    claims: &[Claim],
    held: &BTreeMap<String, Owner>,
) -> Result<(), ApiError> {
    let claimed: BTreeSet<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
    for (name, owner) in held {
        if !claimed.contains(name.as_str()) && pool.claim(name, owner).await?.is_some() {
            tracing::warn!(name, ?owner, "a service held this without a claim");
        }
    }
    Ok(())
}

//! What leases went through.
//!
//! Owns: `etcd_debugging_lease_*`. Must not know: deadlines. A newcomer's trap: grants and revocations
//! are counted on every member as they are applied, renewals on the leader alone.

use kijabi_machine::{Applied, Outcome};
use prometheus::{Histogram, IntCounter, Registry};

use super::{counter, exponential, histogram};

/// The collectors.
#[derive(Debug)]
pub(crate) struct LeaseMetrics {
    granted: IntCounter,
    revoked: IntCounter,
    renewed: IntCounter,
    expired: IntCounter,
    ttls: Histogram,
}

// === impl LeaseMetrics ===

impl LeaseMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let count = |name: &str, help: &str| {
            counter(registry, &format!("etcd_debugging_{name}_total"), help)
        };
        Self {
            granted: count("lease_granted", "Leases granted."),
            revoked: count("lease_revoked", "Leases revoked."),
            renewed: count("lease_renewed", "Renewals by the leader."),
            expired: count("server_lease_expired", "Leases that ran out."),
            ttls: histogram(
                registry,
                "etcd_debugging_lease_ttl_total",
                "TTLs of the leases granted.",
                exponential(1.0, 2.0, 24),
            ),
        }
    }

    /// An entry was applied.
    pub(crate) fn applied(&self, applied: &Applied) {
        for outcome in applied.outcomes.iter().flatten() {
            match outcome {
                Outcome::LeaseGrant(lease) => {
                    self.granted.inc();
                    self.ttls.observe(lease.ttl as f64);
                }
                Outcome::LeaseRevoke(_) => self.revoked.inc(),
                Outcome::LeaseRevokeMany(leases) => self.revoked.inc_by(*leases as u64),
                _ => {}
            }
        }
    }

    /// A lease was renewed.
    pub(crate) fn renewed(&self) {
        self.renewed.inc();
    }

    /// Leases have run out, and this member has had them revoked.
    pub(crate) fn expired(&self, leases: usize) {
        self.expired.inc_by(leases as u64);
    }
}

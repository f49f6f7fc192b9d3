//! Leader election by a Lease, as client-go does it: at most one holder acts at a time.
//!
//! Owns: when to take, renew and give up the Lease. Must not know: what the leader does. A
//! newcomer's trap: expiry is measured from when *we* last saw the Lease change, never by comparing
//! the timestamps in it with our clock, since clocks differ between machines.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kijabi_base::clock::{self, Instant};
use kijabi_base::tasks::Shutdown;
use kube::api::{Api, PostParams};
use kube::{Client, Resource as _};

use crate::time::now_micro;

/// How long a Lease nobody renewed stays its holder's.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// The wait between two attempts.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Which Lease, and who we are.
#[derive(Clone)]
pub struct Election {
    /// The client to reach the API with.
    pub client: Client,
    /// The Lease's namespace.
    pub namespace: &'static str,
    /// The Lease's name.
    pub name: &'static str,
    /// What we write as `holderIdentity`.
    pub identity: String,
}

/// What a look at the Lease tells us to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Create,
    Renew,
    Take,
    Wait,
}

/// The Lease as last seen, and when we saw it so.
#[derive(Debug, Default)]
struct Observation {
    seen: Option<(LeaseSpec, Instant)>,
}

impl Observation {
    /// Notes the Lease and decides. Pure but for what it remembers.
    fn decide(&mut self, lease: Option<&LeaseSpec>, identity: &str, now: Instant) -> Decision {
        let Some(spec) = lease else {
            self.seen = None;
            return Decision::Create;
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            _ => {
                self.seen = Some((spec.clone(), now));
                now
            }
        };
        let seconds = spec.lease_duration_seconds.unwrap_or(0).max(0) as u64;
        if holder == identity {
            Decision::Renew
        } else if holder.is_empty() || since + Duration::from_secs(seconds) <= now {
            Decision::Take
        } else {
            Decision::Wait
        }
    }
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Election")
            .field("lease", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

// === impl Election ===

impl Election {
    /// Waits for leadership and runs `lead` while it lasts, again and again, until `shutdown`.
    /// `lead` gets a shutdown that is triggered when the Lease is lost, and must end on it.
    pub async fn run<F, Fut>(&self, shutdown: &Shutdown, mut lead: F)
    where
        F: FnMut(Shutdown) -> Fut,
        Fut: Future<Output = ()>,
    {
        let mut observed = Observation::default();
        while !shutdown.is_triggered() {
            if !self.attempt(&mut observed).await {
                pause(shutdown, jittered(RETRY_PERIOD)).await;
                continue;
            }
            tracing::info!(lease = self.name, identity = %self.identity, "became leader");
            let term = shutdown.child();
            let lost = self.keep(&mut observed, &term);
            let leading = lead(term.clone());
            tokio::pin!(leading);
            tokio::select! {
                () = lost => {
                    term.trigger();
                    leading.await;
                }
                () = &mut leading => {}
            }
            term.trigger();
            if shutdown.is_triggered() {
                self.release().await;
            } else {
                tracing::warn!(lease = self.name, "no longer leader");
            }
        }
    }

    /// Renews until it fails for [`RENEW_DEADLINE`] or `term` ends.
    async fn keep(&self, observed: &mut Observation, term: &Shutdown) {
        let mut renewed = clock::now();
        loop {
            pause(term, RETRY_PERIOD).await;
            if term.is_triggered() {
                return;
            }
            if self.attempt(observed).await {
                renewed = clock::now();
            } else if clock::now() - renewed >= RENEW_DEADLINE {
                return;
            }
        }
    }

    /// One look and, if it is ours to take or renew, one write. True if we hold the Lease.
    async fn attempt(&self, observed: &mut Observation) -> bool {
        match tokio::time::timeout(RENEW_DEADLINE, self.try_attempt(observed)).await {
            Ok(Ok(held)) => held,
            Err(_) => false,
            Ok(Err(kube::Error::Api(status))) => {
                tracing::debug!(lease = self.name, error = status.message, "no hold of the lease");
                false
            }
            Ok(Err(error)) => {
                tracing::debug!(lease = self.name, %error, "could not reach the lease");
                false
            }
        }
    }

    async fn try_attempt(&self, observed: &mut Observation) -> kube::Result<bool> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), self.namespace);
        let lease = api.get_opt(self.name).await?;
        let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let written = match observed.decide(spec.as_ref(), &self.identity, clock::now()) {
            Decision::Wait => return Ok(false),
            Decision::Create => {
                let mut lease = Lease::default();
                lease.meta_mut().name = Some(self.name.to_owned());
                lease.meta_mut().namespace = Some(self.namespace.to_owned());
                lease.spec = Some(self.claim(LeaseSpec::default(), 0));
                api.create(&PostParams::default(), &lease).await?
            }
            decision => {
                let mut lease = lease.unwrap_or_default();
                let old = spec.unwrap_or_default();
                lease.spec = Some(if decision == Decision::Renew {
                    LeaseSpec { renew_time: Some(now_micro()), ..old }
                } else {
                    let changes = old.lease_transitions.unwrap_or(0) + 1;
                    self.claim(old, changes)
                });
                api.replace(self.name, &PostParams::default(), &lease).await?
            }
        };
        observed.seen = written.spec.map(|spec| (spec, clock::now()));
        Ok(true)
    }

    fn claim(&self, old: LeaseSpec, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE_DURATION.as_secs() as i32),
            acquire_time: Some(now_micro()),
            renew_time: Some(now_micro()),
            lease_transitions: Some(transitions),
            ..old
        }
    }

    /// Gives the Lease back so that the next leader need not wait for it to expire.
    async fn release(&self) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), self.namespace);
        let give_back = async {
            let mut lease = api.get(self.name).await?;
            let ours = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
            if ours == Some(self.identity.as_str()) {
                let spec = lease.spec.get_or_insert_default();
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                spec.renew_time = Some(now_micro());
                api.replace(self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(RETRY_PERIOD, give_back).await {
            tracing::debug!(lease = self.name, %error, "could not release the lease");
        }
    }
}

async fn pause(shutdown: &Shutdown, wait: Duration) {
    tokio::select! {
        () = shutdown.wait() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// Up to 20 % longer, so that candidates do not march in step (client-go's jitter factor).
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + 0.2 * kijabi_base::rng::unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn another_holders_lease_is_taken_only_after_it_stood_still_for_its_duration() {
        let mut observed = Observation::default();
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(observed.decide(None, "me", at(0)), Decision::Create);
        assert_eq!(observed.decide(Some(&held_by("other", 1)), "me", at(1)), Decision::Wait);
        assert_eq!(observed.decide(Some(&held_by("other", 1)), "me", at(15)), Decision::Wait);
        // A renewal starts the clock again, whatever the timestamps in it say.
        assert_eq!(observed.decide(Some(&held_by("other", 2)), "me", at(16)), Decision::Wait);
        assert_eq!(observed.decide(Some(&held_by("other", 2)), "me", at(30)), Decision::Wait);
        assert_eq!(observed.decide(Some(&held_by("other", 2)), "me", at(31)), Decision::Take);
    }

    #[test]
    fn a_released_lease_is_taken_at_once_and_ones_own_is_renewed() {
        let mut observed = Observation::default();
        let now = clock::now();
        assert_eq!(observed.decide(Some(&held_by("", 1)), "me", now), Decision::Take);
        assert_eq!(observed.decide(Some(&held_by("me", 2)), "me", now), Decision::Renew);
    }
}

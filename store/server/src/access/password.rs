//! Passwords: hashed once, checked at each login.
//!
//! Owns: bcrypt, how many run at once and how many may wait. Must not know: users. A newcomer's
//! trap: it is made to be slow, so it never runs on a thread that serves requests, and a login with
//! an unknown name costs as much as one with a wrong password.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kijabi_base::{rng, tasks};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::limits::PASSWORD_CHECKS_WAITING_MAX;

/// Go's limits of the cost, and what it takes instead of one beyond them.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
pub(super) const DEFAULT_COST: u32 = 10;
/// What bcrypt looks at; Go refuses to hash more.
const PASSWORD_BYTES_MAX: usize = 72;

/// Hashes and checks passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    cost: u32,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// What a password is checked against if there is no such user.
    decoy: Bytes,
}

impl Passwords {
    /// `cost` is bcrypt's: each one more doubles the time.
    pub(crate) fn new(cost: u32) -> Self {
        let cost = if COSTS.contains(&cost) {
            cost
        } else {
            tracing::warn!(cost, default = DEFAULT_COST, "the bcrypt cost is out of its limits");
            DEFAULT_COST
        };
        // Half of the cores at most: a flood of logins leaves the others to those who are in.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cost,
            running: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Arc::new(Semaphore::new(PASSWORD_CHECKS_WAITING_MAX)),
            decoy: decoy(cost),
        }
    }

    /// Hashes a new password.
    pub(crate) async fn hash(&self, password: String, patience: Duration) -> Result<Bytes, Error> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Error::PasswordTooLong);
        }
        let (cost, mut salt) = (self.cost, [0; 16]);
        rng::fill(&mut salt);
        let hashed = self.run(patience, move || {
            let parts = bcrypt::hash_with_salt(password, cost, salt);
            // Go's form, so that a member of etcd can read it.
            parts.map(|parts| Bytes::from(parts.format_for_version(bcrypt::Version::TwoA)))
        });
        hashed.await?.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Error::Stopped
        })
    }

    /// Whether `password` is the one that `hash` is of; without a hash it is not, after as long.
    pub(crate) async fn check(
        &self,
        password: String,
        hash: Option<Bytes>,
        patience: Duration,
    ) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let checked = self.run(patience, move || {
            let Ok(hash) = std::str::from_utf8(&hash) else { return false };
            bcrypt::verify(password, hash).unwrap_or(false)
        });
        Ok(checked.await? && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned();
        // Differs from etcd: as many as come may wait there.
        let waiting = waiting.map_err(|_full| Error::TooManyRequests)?;
        let running = Arc::clone(&self.running).acquire_owned();
        let permit: OwnedSemaphorePermit = tokio::time::timeout(patience, running)
            .await
            .map_err(|_elapsed| Error::Timeout)?
            .map_err(|_closed| Error::Stopped)?;
        drop(waiting);
        let done = tasks::blocking(move || {
            let done = work();
            // Held by the work itself: who asked may have gone long before it is done.
            drop(permit);
            done
        });
        done.await.map_err(|_panicked| Error::Stopped)
    }
}

/// A hash that costs as much to check as any made here, and that nobody knows a password for.
fn decoy(cost: u32) -> Bytes {
    const SALT_AND_HASH: &str = "abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyzABCDC";
    format!("$2a${cost:02}${SALT_AND_HASH}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_password_is_known_by_its_hash() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("pw".into(), PATIENCE).await.unwrap();
        assert!(hash.starts_with(b"$2a$04$") && hash.len() == 60, "{hash:?}");
        let check = |password: &str, hash: Option<Bytes>| {
            passwords.check(password.to_owned(), hash, PATIENCE)
        };
        assert!(check("pw", Some(hash.clone())).await.unwrap());
        assert!(!check("Pw", Some(hash.clone())).await.unwrap());
        assert!(!check("", Some(hash)).await.unwrap());
        assert!(!check("pw", None).await.unwrap());
        // A user whose password was taken away, and a hash of a form that is not known.
        assert!(!check("", Some(Bytes::new())).await.unwrap());
        assert!(!check("pw", Some("$9$".into())).await.unwrap());
        let go = "$2a$04$WgOuRAr4Cw4dAX8zD4WqNOKMhsKg2wMKfNTFEmDDeO8kcqbUuVxLC";
        assert!(!check("pw", Some(go.into())).await.unwrap());
    }

    /// E15: an unknown name costs what a wrong password costs; the decoy has the same cost and is
    /// as well formed as any hash.
    #[test]
    fn the_decoy_costs_what_a_hash_costs() {
        for cost in [4, 10, 31] {
            let decoy = decoy(cost);
            let text = std::str::from_utf8(&decoy).unwrap();
            let parts: bcrypt::HashParts = text.parse().unwrap();
            assert_eq!(parts.get_cost(), cost);
        }
        let decoy = decoy(4);
        let checked = bcrypt::verify("pw", std::str::from_utf8(&decoy).unwrap());
        assert!(!checked.unwrap());
    }

    #[tokio::test]
    async fn lengths_are_gos() {
        let passwords = Passwords::new(4);
        assert!(passwords.hash(String::new(), PATIENCE).await.is_ok());
        assert!(passwords.hash("x".repeat(72), PATIENCE).await.is_ok());
        let long = passwords.hash("x".repeat(73), PATIENCE).await;
        assert!(matches!(long, Err(Error::PasswordTooLong)));
        let hash = passwords.hash("pw".into(), PATIENCE).await.unwrap();
        let huge = passwords.check("x".repeat(1_000_000), Some(hash), PATIENCE).await;
        assert!(!huge.unwrap());
    }

    #[tokio::test]
    async fn more_logins_than_may_wait_are_turned_away() {
        let passwords = Arc::new(Passwords::new(4));
        let all = Arc::clone(&passwords.running)
            .acquire_many_owned(u32::try_from(passwords.running.available_permits()).unwrap());
        let all = all.await.unwrap();
        let asks: Vec<_> = (0..PASSWORD_CHECKS_WAITING_MAX)
            .map(|_| {
                let passwords = Arc::clone(&passwords);
                tasks::spawn(
                    "login",
                    async move { passwords.check("pw".into(), None, PATIENCE).await },
                )
            })
            .collect();
        while passwords.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = passwords.check("pw".into(), None, PATIENCE).await;
        assert!(matches!(refused, Err(Error::TooManyRequests)));
        drop(all);
        for ask in asks {
            assert!(!ask.await.unwrap().unwrap());
        }
    }
}

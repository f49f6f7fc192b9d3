//! The cluster's version: which downgrades are allowed, and carrying one out.
//!
//! Owns: etcd's rules and texts, and what the leader does about them. Must not know: how versions
//! are kept (the machine's `version.rs`). A newcomer's trap: a downgrade only lowers the version
//! the cluster says it works at.
// Differs from etcd: an older etcd cannot read this data; it takes over by `kijabi export`.

use std::time::Duration;

use kijabi_machine::{Caller, Version};
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{ClusterVersionSet, DowngradeInfoSet};

use crate::error::Error;
use crate::status::EtcdError;
use crate::store::Store;

/// How often the leader looks whether the cluster's version is what it ought to be, as etcd does.
const INTERVAL: Duration = Duration::from_secs(4);

/// Why a downgrade was refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    Etcd(EtcdError),
    Store(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<EtcdError> for Refusal {
    fn from(error: EtcdError) -> Self {
        Self::Etcd(error)
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Etcd(error) => error.into(),
            Refusal::Store(error) => error.into(),
        }
    }
}

/// Whether the cluster could go down to `target`; the answer is the version it is at.
pub(crate) async fn validate(store: &Store, target: &str) -> Result<String, Refusal> {
    check(store, target).await?;
    Ok(cluster_version(store))
}

/// Begins a downgrade.
pub(crate) async fn enable(
    store: &Store,
    caller: &Caller,
    target: &str,
) -> Result<String, Refusal> {
    let version = check(store, target).await?.to_string();
    let request = DowngradeInfoSet { enabled: true, version };
    store.propose(caller, Request::DowngradeInfoSet(request)).await?;
    tracing::info!(target, "the cluster is being downgraded");
    Ok(cluster_version(store))
}

/// Ends a downgrade. As in etcd, there need not be one.
pub(crate) async fn cancel(store: &Store, caller: &Caller) -> Result<String, Refusal> {
    store.read_barrier().await?;
    let running = store.machine().read().downgrade_target().is_some();
    if running {
        store.propose(caller, Request::DowngradeInfoSet(DowngradeInfoSet::default())).await?;
        tracing::info!("the downgrade is cancelled");
    } else {
        tracing::warn!("failed to cancel downgrade: {}", EtcdError::NoInflightDowngrade.text());
    }
    Ok(cluster_version(store))
}

async fn check(store: &Store, target: &str) -> Result<Version, Refusal> {
    let target = parse(target).ok_or(EtcdError::WrongDowngradeVersionFormat)?;
    store.read_barrier().await?;
    let machine = store.machine().read();
    if !is_one_below(target, machine.cluster_version()) {
        return Err(EtcdError::InvalidDowngradeTargetVersion.into());
    }
    if machine.downgrade_target().is_some() {
        return Err(EtcdError::DowngradeInProcess.into());
    }
    Ok(target)
}

fn is_one_below(target: Version, current: Version) -> bool {
    target.major == current.major && Some(target.minor) == current.minor.checked_sub(1)
}

/// The cluster's version as responses have it: without the patch.
fn cluster_version(store: &Store) -> String {
    let version = store.machine().read().cluster_version();
    format!("{}.{}", version.major, version.minor)
}

/// `major.minor.patch` as semantic versions have it, or `major.minor`.
fn parse(text: &str) -> Option<Version> {
    let full = |text: &str| {
        let text = text.split_once('+').map_or(text, |(text, _)| text);
        let text = text.split_once('-').map_or(text, |(text, _)| text);
        let numbers: Option<Vec<u64>> =
            text.split('.').map(|part| part.parse::<i64>().ok()?.try_into().ok()).collect();
        match numbers?[..] {
            [major, minor, _patch] => Some(Version { major, minor }),
            _ => None,
        }
    };
    full(text).or_else(|| full(&format!("{text}.0")))
}

/// While this member leads, brings the cluster's version to what it ought to be.
pub(crate) async fn run(store: Store) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if !store.is_leader() {
            continue;
        }
        let (current, wanted) = {
            let machine = store.machine().read();
            (machine.cluster_version(), machine.downgrade_target().unwrap_or(Version::NEWEST))
        };
        if current == wanted {
            continue;
        }
        let version = wanted.to_string();
        let request = Request::ClusterVersionSet(ClusterVersionSet { version });
        match store.propose(&Caller::Member, request).await {
            Ok(_) => tracing::info!(from = %current, to = %wanted, "updated cluster version"),
            Err(error) => tracing::warn!(%error, "failed to update cluster version"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_reads_them() {
        let version = |major, minor| Some(Version { major, minor });
        for (text, expected) in [
            ("3.5", version(3, 5)),
            ("3.5.0", version(3, 5)),
            ("3.5.9-rc.1+meta", version(3, 5)),
            ("3", None),
            ("", None),
            ("v3.5", None),
            ("3.x", None),
            ("xyz", None),
            ("3.5.0.1", None),
            ("3.-5.0", None),
            ("3.99999999999999999999", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn only_the_version_just_below_may_be_gone_to() {
        let at = |major, minor| Version { major, minor };
        assert!(is_one_below(at(3, 5), at(3, 6)));
        for wrong in [at(3, 4), at(3, 6), at(3, 7), at(2, 5)] {
            assert!(!is_one_below(wrong, at(3, 6)), "{wrong}");
        }
        assert!(!is_one_below(at(3, 0), at(4, 0)));
    }
}

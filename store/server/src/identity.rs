//! Who this member is: its id, its cluster's id, and the first members.
//!
//! Owns: etcd's way of deriving ids, and keeping them. Must not know: Raft. A newcomer's trap: the
//! ids of a member that has data come from its data folder; the `initial_*` settings only count
//! when the folder is new.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kijabi_disk::small;
use kijabi_proto::etcdserverpb::Member;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::config::Config;
use crate::consensus::Peer;
use crate::peer::Peers;

/// A member's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
}

/// Why the identity cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

const FILE: &str = "identity";

/// The members of a new cluster by id.
pub(crate) fn first_members(config: &Config) -> Result<BTreeMap<u64, Peer>, IdentityError> {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if config.initial_cluster.is_empty() {
        let urls = config.initial_advertise_peer_urls.clone();
        by_name.insert(config.name.clone(), urls);
    }
    for part in config.initial_cluster.split(',').filter(|part| !part.is_empty()) {
        let Some((name, url)) = part.split_once('=') else {
            let what = format!("--initial-cluster: \"{part}\" is not NAME=URL");
            return Err(IdentityError::Config(what));
        };
        by_name.entry(name.trim().to_owned()).or_default().push(url.trim().to_owned());
    }
    // Sorted, so that every member begins with the very same entry.
    let members = by_name.into_iter().map(|(name, mut peer_urls)| {
        peer_urls.sort();
        let id = member_id(&peer_urls, &config.initial_cluster_token);
        (id, Peer { name, peer_urls, learner: false })
    });
    Ok(members.collect())
}

/// Whether the data folder knows already who this member is.
pub(crate) fn is_kept(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// A member of a new cluster whose data is gone must not begin again: it would vote a second time
/// where it has voted. The others know whether it has been there; if none can be asked, nobody has.
pub(crate) async fn check_first_start(
    identity: Identity,
    members: &BTreeMap<u64, Peer>,
    peers: &Peers,
    limit: Duration,
) -> Result<(), IdentityError> {
    let others = members.iter().filter(|(id, _)| **id != identity.member_id);
    let asked = others.map(|(id, peer)| {
        let link = peers.link(*id, &peer.peer_urls);
        async move { link.members(limit).await }
    });
    for answer in futures::future::join_all(asked).await.into_iter().flatten() {
        let started =
            |member: &Member| member.id == identity.member_id && !member.client_ur_ls.is_empty();
        if answer.members.iter().any(started) {
            let what = format!("member {:x} has already been bootstrapped", identity.member_id);
            return Err(IdentityError::Config(what));
        }
    }
    Ok(())
}

/// Reads the identity from the data folder, or derives it.
pub(crate) fn establish(
    dir: &Path,
    config: &Config,
    members: &BTreeMap<u64, Peer>,
) -> Result<Identity, IdentityError> {
    let path = dir.join(FILE);
    if let Some(bytes) = small::load(&path)? {
        let identity = serde_json::from_slice(&bytes).map_err(std::io::Error::other)?;
        return Ok(identity);
    }
    let mut own = config.initial_advertise_peer_urls.clone();
    if !config.initial_cluster.is_empty() {
        let prefix = format!("{}=", config.name);
        let named: Vec<_> = config
            .initial_cluster
            .split(',')
            .filter_map(|part| part.trim().strip_prefix(&prefix))
            .map(str::to_owned)
            .collect();
        if named.is_empty() {
            let what = format!(
                "couldn't find local name \"{}\" in the initial cluster configuration",
                config.name
            );
            return Err(IdentityError::Config(what));
        }
        own = named;
    }
    let member_id = member_id(&own, &config.initial_cluster_token);
    Ok(Identity { cluster_id: cluster_id(members.keys().copied()), member_id })
}

/// Keeps the identity in the data folder.
pub(crate) fn keep(dir: &Path, identity: Identity) -> Result<(), IdentityError> {
    let bytes = serde_json::to_vec(&identity).map_err(std::io::Error::other)?;
    Ok(small::save(&dir.join(FILE), &bytes)?)
}

/// etcd's member id: the first bytes of SHA-1 over the sorted peer URLs and the token.
fn member_id(peer_urls: &[String], token: &str) -> u64 {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    first_bytes_of_sha1(&[urls.concat().as_bytes(), token.as_bytes()])
}

/// etcd's cluster id: the first bytes of SHA-1 over the members' ids.
fn cluster_id(member_ids: impl Iterator<Item = u64>) -> u64 {
    let mut ids: Vec<u64> = member_ids.collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
    first_bytes_of_sha1(&[&bytes])
}

fn first_bytes_of_sha1(parts: &[&[u8]]) -> u64 {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&context.finish().as_ref()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_ones_etcd_derives() {
        let config = Config::default();
        let members = first_members(&config).unwrap();
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), [0x8e9e_05c5_2164_694d]);
        let dir = tempfile::tempdir().unwrap();
        let identity = establish(dir.path(), &config, &members).unwrap();
        assert_eq!(identity.cluster_id, 0xcdf8_1819_4e3a_8c32);
        keep(dir.path(), identity).unwrap();
        let other = Config { name: "other".into(), ..config };
        assert_eq!(establish(dir.path(), &other, &members).unwrap(), identity);
    }

    #[test]
    fn a_name_that_is_not_in_the_initial_cluster_is_an_error() {
        let config =
            Config { initial_cluster: "a=http://localhost:2380".into(), ..Config::default() };
        let members = first_members(&config).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let error = establish(dir.path(), &config, &members).unwrap_err().to_string();
        assert_eq!(
            error,
            "couldn't find local name \"default\" in the initial cluster configuration"
        );
    }
}

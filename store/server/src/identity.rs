//! Who this member is: its id, its cluster's id, and the first members.
//!
//! Owns: etcd's way of deriving ids, and keeping them. Must not know: Raft. A newcomer's trap: the
//! ids of a member that has data come from its data folder; the `initial_*` settings only count
//! when the folder is new.

use std::collections::BTreeMap;
use std::path::Path;

use kijabi_disk::small;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::config::Config;
use crate::consensus::Peer;

/// A member's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    /// Whether it was added to a cluster that existed. Such a member never begins one.
    #[serde(default)]
    pub(crate) joined: bool,
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
pub(crate) fn first_members(config: &Config) -> BTreeMap<u64, Peer> {
    let members = config.initial_members().into_iter().map(|(name, peer_urls)| {
        let id = member_id(&peer_urls, &config.initial_cluster_token);
        (id, Peer { name, peer_urls, learner: false })
    });
    members.collect()
}

/// The identity that the data folder has; `None` if it is new.
pub(crate) fn load(dir: &Path) -> Result<Option<Identity>, IdentityError> {
    let Some(bytes) = small::load(&dir.join(FILE))? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&bytes).map_err(std::io::Error::other)?))
}

/// Keeps the identity in the data folder.
pub(crate) fn save(dir: &Path, identity: Identity) -> Result<(), IdentityError> {
    let bytes = serde_json::to_vec(&identity).map_err(std::io::Error::other)?;
    Ok(small::save(&dir.join(FILE), &bytes)?)
}

/// The identity of one of the first members; the settings are checked (`Config::check_bootstrap`).
pub(crate) fn of_first_member(config: &Config) -> Identity {
    let (members, token) = (config.initial_members(), &config.initial_cluster_token);
    let ids = members.values().map(|urls| member_id(urls, token));
    let own = members.get(&config.name).map_or(&[][..], Vec::as_slice);
    Identity { cluster_id: cluster_id(ids), member_id: member_id(own, token), joined: false }
}

/// The id that etcd gives a member added at this time: the token is empty then.
pub(crate) fn later_member_id(peer_urls: &[String], unix_seconds: u64) -> u64 {
    member_id(peer_urls, &unix_seconds.to_string())
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
        let members = first_members(&config);
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), [0x8e9e_05c5_2164_694d]);
        let identity = of_first_member(&config);
        assert_eq!(identity.cluster_id, 0xcdf8_1819_4e3a_8c32);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        save(dir.path(), identity).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(identity));
    }

    #[test]
    fn a_member_that_is_added_gets_an_id_of_its_urls_and_the_time() {
        let urls = ["http://10.0.0.1:2380".to_owned(), "http://10.0.0.1:2381".to_owned()];
        // SHA-1 of "http://10.0.0.1:2380http://10.0.0.1:23811700000000".
        assert_eq!(later_member_id(&urls, 1_700_000_000), 0x549f_0f24_6ee6_4f12);
        assert_ne!(later_member_id(&urls, 1_700_000_001), 0x549f_0f24_6ee6_4f12);
    }
}

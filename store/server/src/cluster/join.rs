//! Starting as a member of a cluster that exists, or finding out that it already does.
//!
//! Owns: what is asked of the other members before the first start, and etcd's texts for what may
//! be wrong. Must not know: Raft. A newcomer's trap: a member that joins has no id of its own: it
//! finds itself among the members by its peer URLs, so they must be the ones it was added with.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use kijabi_proto::command::MembersResponse;
use kijabi_proto::etcdserverpb as pb;

use super::remote::Remote;
use crate::config::Config;
use crate::identity::{self, Identity, IdentityError};

/// How long one URL may take to answer a member that joins, etcd's.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the others may take to answer a member that believes the cluster to be new. If they
/// are new themselves, they do not answer.
const BOOTSTRAP_TIMEOUT: Duration = Duration::from_millis(500);

/// Who this member is: as its data folder says, or, at the first start, as the settings and the
/// other members say.
pub(crate) async fn establish(
    dir: &Path,
    config: &Config,
    remote: &Remote,
) -> Result<Identity, IdentityError> {
    if let Some(identity) = identity::load(dir)? {
        return Ok(identity);
    }
    config.check_bootstrap().map_err(wrong)?;
    let identity = if config.initial_cluster_existing {
        join(config, remote).await?
    } else {
        let identity = identity::of_first_member(config);
        refuse_if_known(config, identity, remote).await?;
        identity
    };
    identity::save(dir, identity)?;
    Ok(identity)
}

/// Finds out who this member is in the cluster it was added to.
async fn join(config: &Config, remote: &Remote) -> Result<Identity, IdentityError> {
    let local = config.initial_members();
    let own = local.get(&config.name).cloned().unwrap_or_default();
    let existing = ask(&others(&local, &config.name), remote).await?;
    let member_id = find(&local, &own, &existing)?;
    let learners = existing.members.iter().filter(|member| member.is_learner).count();
    if learners > config.max_learners {
        return Err(wrong("membership: too many learner members in cluster".into()));
    }
    Ok(Identity { cluster_id: existing.cluster_id, member_id, joined: true })
}

/// Refuses to begin a cluster anew whose other members know this one: its data is gone, and with
/// the votes it gave lost, it could vote a second time.
async fn refuse_if_known(
    config: &Config,
    identity: Identity,
    remote: &Remote,
) -> Result<(), IdentityError> {
    let urls = others(&config.initial_members(), &config.name);
    let asked = urls.iter().map(|url| {
        let url = std::slice::from_ref(url);
        async move { remote.members(url, identity.member_id, BOOTSTRAP_TIMEOUT).await }
    });
    let answers = join_all(asked).await;
    let mut known = answers.into_iter().flatten().filter(|a| a.cluster_id == identity.cluster_id);
    let id = identity.member_id;
    let is_known = |answer: MembersResponse| {
        let started = |member: &pb::Member| member.id == id && !member.client_ur_ls.is_empty();
        answer.removed || answer.members.iter().any(started)
    };
    if known.any(is_known) {
        return Err(wrong(format!("member {id:x} has already been bootstrapped")));
    }
    Ok(())
}

fn wrong(what: String) -> IdentityError {
    IdentityError::Config(what)
}

fn others(members: &BTreeMap<String, Vec<String>>, own: &str) -> Vec<String> {
    let others = members.iter().filter(|(name, _)| *name != own);
    let mut urls: Vec<String> = others.flat_map(|(_, urls)| urls.clone()).collect();
    urls.sort();
    urls
}

/// The first answer counts.
async fn ask(urls: &[String], remote: &Remote) -> Result<MembersResponse, IdentityError> {
    let failed = |why: &str| wrong(format!("cannot fetch cluster info from peer urls: {why}"));
    for url in urls {
        match remote.members(std::slice::from_ref(url), 0, JOIN_TIMEOUT).await {
            Ok(answer) if answer.members.is_empty() => {
                return Err(failed("failed to get raft cluster member(s) from the given URLs"));
            }
            Ok(answer) => return Ok(answer),
            Err(status) => {
                tracing::warn!(address = %url, %status, "failed to get cluster response");
            }
        }
    }
    Err(failed("could not retrieve cluster information from the given URLs"))
}

/// Matches the members by their URLs, and returns the id of the one with `own`.
// Differs from etcd: URLs must be written alike; host names are not resolved to compare them.
fn find(
    local: &BTreeMap<String, Vec<String>>,
    own: &[String],
    existing: &MembersResponse,
) -> Result<u64, IdentityError> {
    let failed = |why: String| wrong(format!("error validating peerURLs {}: {why}", go(existing)));
    if existing.members.len() != local.len() {
        return Err(failed("member count is unequal".into()));
    }
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    let mut found = None;
    for member in &existing.members {
        let urls = sorted(&member.peer_ur_ls);
        if !local.values().any(|local| sorted(local) == urls) {
            return Err(failed(format!(
                "PeerURLs: no match found for existing member ({:x}, [{}]), last resolver error (the URLs differ)",
                member.id,
                urls.join(" ")
            )));
        }
        if urls == sorted(own) {
            found = Some(member.id);
        }
    }
    found.ok_or_else(|| failed("this member's URLs are none of the cluster's".into()))
}

/// The cluster as Go prints it.
fn go(cluster: &MembersResponse) -> String {
    let member = |member: &pb::Member| {
        format!(
            "&{{ID:{:x} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
            member.id,
            member.peer_ur_ls.join(" "),
            member.is_learner,
            member.name,
            member.client_ur_ls.join(" ")
        )
    };
    let members: Vec<String> = cluster.members.iter().map(member).collect();
    format!(
        "{{ClusterID:{:x} Members:[{}] RemovedMemberIDs:[]}}",
        cluster.cluster_id,
        members.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(urls: &[&str]) -> MembersResponse {
        let member = |(id, url): (usize, &&str)| pb::Member {
            id: id as u64 + 1,
            peer_ur_ls: vec![(*url).to_owned()],
            ..pb::Member::default()
        };
        let members = urls.iter().enumerate().map(member).collect();
        MembersResponse { cluster_id: 0xc, members, removed: false }
    }

    fn local(members: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        members.iter().map(|(name, url)| ((*name).into(), vec![(*url).into()])).collect()
    }

    fn found(given: &[(&str, &str)], existing: &[&str]) -> Result<u64, String> {
        let given = local(given);
        find(&given, &given["me"], &cluster(existing)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_member_finds_itself_by_its_urls() {
        let both = [("other", "http://a:1"), ("me", "http://b:1")];
        assert_eq!(found(&both, &["http://a:1", "http://b:1"]), Ok(2));
        assert_eq!(
            found(&both, &["http://a:1"]).unwrap_err(),
            "error validating peerURLs {ClusterID:c Members:[&{ID:1 RaftAttributes:{PeerURLs:[http://a:1] \
             IsLearner:false} Attributes:{Name: ClientURLs:[]}}] RemovedMemberIDs:[]}: member count is unequal"
        );
        let other = found(&both, &["http://a:1", "http://c:1"]).unwrap_err();
        assert!(other.contains("PeerURLs: no match found for existing member (2, [http://c:1])"));
    }
}

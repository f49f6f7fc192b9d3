//! Who may speak to this member on its peer URLs.
//!
//! Owns: refusing requests by their headers, before anything of their body is read. Must not
//! know: what they ask. A newcomer's trap: a member that lags may not know yet of a member that
//! was added, and may need that one's entries to learn of it; so whoever brings entries is looked
//! up among the other members, too, by `server.rs`.

use http::HeaderMap;

use crate::identity::Identity;

/// The header with the cluster's id; the names are etcd's, so that its members are told clearly
/// that they are in the wrong place.
pub(crate) const CLUSTER_ID: &str = "x-etcd-cluster-id";
/// The header with the sender's member id.
pub(crate) const SENDER: &str = "x-server-from";
/// The header with the id of the member that is meant.
pub(crate) const TARGET: &str = "x-raft-to";

/// Why a request from another member was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is of another cluster, or says nothing of one.
    #[error("cluster ID mismatch")]
    OtherCluster,
    /// It is for a member with another id.
    #[error("this is not the member with that ID")]
    OtherTarget,
    /// It is from nobody, or from this member itself.
    #[error("the sender is not another member")]
    NoSender,
    /// The sender is not a member of this cluster.
    #[error("the sender is not a member of the cluster")]
    NotAMember,
}

/// Checks who sends what to whom; returns the sender.
pub(crate) fn admit(
    headers: &HeaderMap,
    identity: Identity,
    brings_entries: bool,
    is_member: impl Fn(u64) -> bool,
) -> Result<u64, Refusal> {
    if id(headers, CLUSTER_ID) != Some(identity.cluster_id) {
        return Err(Refusal::OtherCluster);
    }
    if id(headers, TARGET) != Some(identity.member_id) {
        return Err(Refusal::OtherTarget);
    }
    let sender = id(headers, SENDER).filter(|sender| *sender != identity.member_id);
    let sender = sender.ok_or(Refusal::NoSender)?;
    if !brings_entries && !is_member(sender) {
        return Err(Refusal::NotAMember);
    }
    Ok(sender)
}

fn id(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    u64::from_str_radix(text, 16).ok().filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_this_cluster_reach_this_member() {
        let identity = Identity { cluster_id: 0xc1, member_id: 0xa, joined: false };
        let case = |cluster: &str, sender: &str, target: &str, entries| {
            let mut headers = HeaderMap::new();
            headers.insert(CLUSTER_ID, cluster.parse().unwrap());
            headers.insert(SENDER, sender.parse().unwrap());
            headers.insert(TARGET, target.parse().unwrap());
            admit(&headers, identity, entries, |id| id == 0xb)
        };
        assert_eq!(case("c1", "b", "a", false), Ok(0xb));
        assert_eq!(case("c2", "b", "a", false), Err(Refusal::OtherCluster));
        assert_eq!(case("", "b", "a", false), Err(Refusal::OtherCluster));
        assert_eq!(case("c1", "b", "d", false), Err(Refusal::OtherTarget));
        assert_eq!(case("c1", "a", "a", true), Err(Refusal::NoSender));
        assert_eq!(case("c1", "x", "a", true), Err(Refusal::NoSender));
        assert_eq!(case("c1", "d", "a", false), Err(Refusal::NotAMember));
        assert_eq!(case("c1", "d", "a", true), Ok(0xd));
        assert_eq!(admit(&HeaderMap::new(), identity, true, |_| true), Err(Refusal::OtherCluster));
    }
}

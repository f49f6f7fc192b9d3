//! Whether one object is to be deleted, by the state of its owners. Pure.
//!
//! Owns: that decision. Must not know: how the states were found. A newcomer's trap: an owner whose
//! state cannot be told keeps its dependents alive: nothing is deleted on a guess (OWN-1).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::graph::{FOREGROUND, ORPHAN, has_finalizer};

/// An owner as it was found by a live read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It is there and stays, or is deleted without waiting.
    Solid,
    /// There is no object of this uid where the reference says.
    Absent,
    /// It is being deleted and waits for its dependents.
    Waiting,
    /// It could not be told.
    Unknown,
}

/// How the object's own dependents fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Background,
    Foreground,
    Orphan,
}

/// What to do with the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Keep,
    /// Take the references to these uids off it; it has another owner.
    Detach(Vec<String>),
    Delete(Policy),
}

/// Decides. `has_dependents`: whether others name the object as an owner.
pub(crate) fn decide(
    meta: &ObjectMeta,
    owners: &[(OwnerReference, Owner)],
    has_dependents: bool,
) -> Decision {
    let with = |state: Owner| owners.iter().filter(move |(_, found)| *found == state);
    if owners.is_empty() || with(Owner::Unknown).next().is_some() {
        return Decision::Keep;
    }
    let going: Vec<String> = owners
        .iter()
        .filter(|(_, found)| matches!(found, Owner::Absent | Owner::Waiting))
        .map(|(owner, _)| owner.uid.clone())
        .collect();
    if with(Owner::Solid).next().is_some() {
        return if going.is_empty() { Decision::Keep } else { Decision::Detach(going) };
    }
    let policy = if with(Owner::Waiting).next().is_some() && has_dependents {
        // The owner waits for us, so we wait for ours.
        Policy::Foreground
    } else if has_finalizer(meta, ORPHAN) {
        Policy::Orphan
    } else if has_finalizer(meta, FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    };
    Decision::Delete(policy)
}

/// The references left when those to `uids` are taken off.
pub(crate) fn without(owners: &[OwnerReference], uids: &[String]) -> Vec<OwnerReference> {
    owners.iter().filter(|owner| !uids.contains(&owner.uid)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decisions() {
        use Owner::{Absent, Solid, Unknown, Waiting};
        let orphan = json!({"finalizers": [ORPHAN]});
        let detach =
            |uids: &[&str]| Decision::Detach(uids.iter().map(|uid| (*uid).to_owned()).collect());
        for (owners, dependents, finalizers, expected) in [
            (&[][..], false, json!({}), Decision::Keep),
            (&[Solid][..], false, json!({}), Decision::Keep),
            (&[Absent][..], false, json!({}), Decision::Delete(Policy::Background)),
            (&[Absent][..], false, orphan, Decision::Delete(Policy::Orphan)),
            (&[Absent, Solid][..], false, json!({}), detach(&["0"])),
            (&[Waiting, Solid][..], true, json!({}), detach(&["0"])),
            (&[Waiting][..], true, json!({}), Decision::Delete(Policy::Foreground)),
            (&[Waiting][..], false, json!({}), Decision::Delete(Policy::Background)),
            (&[Absent, Unknown][..], false, json!({}), Decision::Keep),
        ] {
            let found: Vec<_> = owners
                .iter()
                .enumerate()
                .map(|(number, state)| {
                    let owner =
                        OwnerReference { uid: number.to_string(), ..OwnerReference::default() };
                    (owner, *state)
                })
                .collect();
            let meta = serde_json::from_value(finalizers).unwrap();
            assert_eq!(decide(&meta, &found, dependents), expected, "{owners:?}");
        }
    }
}

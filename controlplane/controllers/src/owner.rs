//! Who owns what: controller references, and which objects a controller may claim.
//!
//! Owns: reading and writing owner references. Must not know: any kind in particular. A newcomer's
//! trap: an object belongs to an owner by uid; a name that was reused is another owner (OWN-1).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde_json::{Value, json};

/// The reference to the controller that manages an object, if there is one.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Index values for "by the uid of the controller".
pub(crate) fn controller_uid<K: Resource>(object: &K) -> Vec<String> {
    controller_of(object.meta()).map(|owner| owner.uid.clone()).into_iter().collect()
}

/// A controller reference to `owner`, as Kubernetes' controllers write it.
pub(crate) fn reference_to<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What an owner that selects by labels does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the owner's and stays so.
    Keep,
    /// It is nobody's and the selector matches: take it.
    Adopt,
    /// It is the owner's but the selector no longer matches: let it go.
    Release,
    /// It is none of the owner's business.
    Ignore,
}

/// Decides about one object. `matches`: whether the owner's selector matches its labels.
pub(crate) fn claim(owner: &ObjectMeta, object: &ObjectMeta, matches: bool) -> Claim {
    let owner_is_going = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(other) if Some(&other.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner_is_going => Claim::Ignore,
        Some(_) => Claim::Release,
        None if !matches || owner_is_going || object.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The strategic merge patch that makes `owner` the controller of the object of this uid.
pub(crate) fn adoption(owner: &OwnerReference, uid: &str) -> Value {
    json!({"metadata": {"uid": uid, "ownerReferences": [owner]}})
}

/// The strategic merge patch that takes the owner of this uid off the object of that uid.
pub(crate) fn release(owner_uid: &str, uid: &str) -> Value {
    json!({"metadata": {"uid": uid, "ownerReferences": [{"$patch": "delete", "uid": owner_uid}]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn claims() {
        let owner = meta(json!({"uid": "me"}));
        let going = meta(json!({"uid": "me", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        let of = |uid: &str| {
            meta(json!({"ownerReferences": [
                {"apiVersion": "v1", "kind": "K", "name": "n", "uid": uid, "controller": true}]}))
        };
        let orphan = meta(json!({}));
        let dying = meta(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
        for (owner, object, matches, expected) in [
            (&owner, &of("me"), true, Claim::Keep),
            (&owner, &of("me"), false, Claim::Release),
            (&going, &of("me"), false, Claim::Ignore),
            (&owner, &of("other"), true, Claim::Ignore),
            (&owner, &orphan, true, Claim::Adopt),
            (&owner, &orphan, false, Claim::Ignore),
            (&going, &orphan, true, Claim::Ignore),
            (&owner, &dying, true, Claim::Ignore),
        ] {
            assert_eq!(claim(owner, object, matches), expected, "{object:?} matches={matches}");
        }
    }
}

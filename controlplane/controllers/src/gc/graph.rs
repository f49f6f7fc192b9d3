//! Who owns whom, over all kinds, by uid. Pure.
//!
//! Owns: the graph and which objects a change makes worth a look. Must not know: the API. A newcomer's
//! trap: the graph only says where to look; what is deleted is decided on a live read (OWN-1).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Deletion waits for the dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Deletion lets the dependents live on.
pub(crate) const ORPHAN: &str = "orphan";

/// An object's uid.
pub(crate) type Uid = String;

/// Where to find an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) uid: Uid,
}

/// A piece of work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// See whether the object of this uid is to be deleted.
    Look(Uid),
    /// Set the dependents of the object of this uid free.
    Free(Uid),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(uid) => write!(f, "look at {uid}"),
            Self::Free(uid) => write!(f, "free the dependents of {uid}"),
        }
    }
}

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) identity: Identity,
    pub(crate) owners: Vec<OwnerReference>,
    pub(crate) deleting: bool,
    pub(crate) foreground: bool,
    orphan: bool,
}

/// Whether `meta` has this finalizer.
pub(crate) fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|one| one == finalizer)
}

/// The graph.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: BTreeMap<Uid, Node>,
    /// Dependents by the uid of the owner, whether or not the owner is known.
    dependents: BTreeMap<Uid, BTreeSet<Uid>>,
    /// Whether all kinds have listed, so that an owner not here is worth a look.
    pub(crate) is_complete: bool,
}

// === impl Graph ===

impl Graph {
    /// The object of this uid.
    pub(crate) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that name `uid` as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<&Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|dependent| self.nodes.get(dependent)).collect()
    }

    /// An object came or changed.
    pub(crate) fn upsert(&mut self, identity: Identity, meta: &ObjectMeta) -> Vec<Work> {
        let uid = identity.uid.clone();
        let node = Node {
            identity,
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has_finalizer(meta, FOREGROUND),
            orphan: has_finalizer(meta, ORPHAN),
        };
        let old_owners = self.nodes.get(&uid).map(|old| old.owners.clone()).unwrap_or_default();
        let mut work = Vec::new();
        for owner in &old_owners {
            self.unlink(&owner.uid, &uid);
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        // An owner that waits for its dependents may have been let go of, or blocked no longer.
        if old_owners != node.owners {
            work.extend(old_owners.iter().filter_map(|owner| self.waiting(&owner.uid)));
        }
        let is_doubtful = node.owners.iter().any(|owner| {
            (self.is_complete && !self.is_where_it_says(owner, &node.identity))
                || self.waiting(&owner.uid).is_some()
        });
        if is_doubtful && (!node.deleting || node.foreground) {
            work.push(Work::Look(uid.clone()));
        }
        if node.deleting && node.orphan {
            work.push(Work::Free(uid.clone()));
        }
        if node.deleting && node.foreground {
            work.push(Work::Look(uid.clone()));
            work.extend(
                self.dependents(&uid).iter().map(|one| Work::Look(one.identity.uid.clone())),
            );
        }
        self.nodes.insert(uid, node);
        work.dedup();
        work
    }

    /// An object is gone.
    pub(crate) fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut work = Vec::new();
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            work.extend(self.waiting(&owner.uid));
        }
        work.extend(self.dependents(uid).iter().map(|one| Work::Look(one.identity.uid.clone())));
        work
    }

    /// All kinds have listed: the objects whose owners are not here are worth a look.
    pub(crate) fn complete(&mut self) -> Vec<Work> {
        self.is_complete = true;
        let is_doubtful = |node: &&Node| {
            node.owners.iter().any(|owner| !self.is_where_it_says(owner, &node.identity))
        };
        let doubtful = self.nodes.values().filter(is_doubtful);
        doubtful.map(|node| Work::Look(node.identity.uid.clone())).collect()
    }

    /// Whether the owner is known, under the name and in the namespace the reference means.
    fn is_where_it_says(&self, owner: &OwnerReference, dependent: &Identity) -> bool {
        self.nodes.get(&owner.uid).is_some_and(|node| {
            let known = &node.identity;
            known.name == owner.name
                && known.kind == owner.kind
                && (known.namespace.is_none() || known.namespace == dependent.namespace)
        })
    }

    /// The owner, if it waits for its dependents to go.
    fn waiting(&self, uid: &str) -> Option<Work> {
        let node = self.nodes.get(uid)?;
        (node.deleting && node.foreground).then(|| Work::Look(uid.to_owned()))
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::time;
    use serde_json::{Value, json};

    fn put(graph: &mut Graph, uid: &str, owners: &[&str], extra: Value) -> String {
        let owners: Vec<Value> = owners
            .iter()
            .map(|owner| json!({"apiVersion": "v1", "kind": "K", "name": owner, "uid": owner}))
            .collect();
        let mut meta = json!({ "ownerReferences": owners });
        for (key, part) in extra.as_object().unwrap() {
            meta[key] = part.clone();
        }
        let identity = Identity {
            api_version: "v1".into(),
            kind: "K".into(),
            namespace: Some("default".into()),
            name: uid.into(),
            uid: uid.into(),
        };
        told(&graph.upsert(identity, &serde_json::from_value(meta).unwrap()))
    }

    fn told(work: &[Work]) -> String {
        work.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_is_worth_a_look() {
        let mut graph = Graph::default();
        assert_eq!(
            put(&mut graph, "pod", &["set"], json!({})),
            "",
            "the owner's kind may not have listed yet"
        );
        assert_eq!(put(&mut graph, "stray", &["gone"], json!({})), "");
        assert_eq!(put(&mut graph, "set", &["deploy"], json!({})), "");
        assert_eq!(put(&mut graph, "deploy", &[], json!({})), "");
        assert_eq!(told(&graph.complete()), "look at stray");
        assert_eq!(put(&mut graph, "late", &["gone"], json!({})), "look at late");
        assert_eq!(told(&graph.remove("deploy")), "look at set");
        assert_eq!(told(&graph.remove("set")), "look at pod");
        assert_eq!(told(&graph.remove("pod")), "");
    }

    #[test]
    fn an_owner_in_another_namespace_or_under_another_name_is_worth_a_look() {
        let mut graph = Graph::default();
        graph.complete();
        put(&mut graph, "owner", &[], json!({}));
        let child = |namespace: Option<&str>| Identity {
            api_version: "v1".into(),
            kind: "K".into(),
            namespace: namespace.map(str::to_owned),
            name: "child".into(),
            uid: "child".into(),
        };
        let of = |name: &str| -> ObjectMeta {
            let owner = json!({"apiVersion": "v1", "kind": "K", "name": name, "uid": "owner"});
            serde_json::from_value(json!({ "ownerReferences": [owner] })).unwrap()
        };
        for (namespace, name, looked_at) in [
            (Some("default"), "owner", ""),
            (Some("other"), "owner", "look at child"),
            (None, "owner", "look at child"),
            (Some("default"), "alias", "look at child"),
        ] {
            let work = graph.upsert(child(namespace), &of(name));
            assert_eq!(told(&work), looked_at, "{namespace:?} {name}");
        }
    }

    #[test]
    fn foreground_deletion_looks_at_dependents_and_again_when_they_go() {
        let mut graph = Graph::default();
        graph.complete();
        put(&mut graph, "owner", &[], json!({}));
        put(&mut graph, "child", &["owner"], json!({}));
        let going = json!({"deletionTimestamp": time(1), "finalizers": [FOREGROUND]});
        assert_eq!(put(&mut graph, "owner", &[], going), "look at owner, look at child");
        assert_eq!(put(&mut graph, "late", &["owner"], json!({})), "look at late");
        assert_eq!(put(&mut graph, "late", &[], json!({})), "look at owner", "let go of");
        assert_eq!(told(&graph.remove("child")), "look at owner");
    }

    #[test]
    fn orphaning_frees_the_dependents() {
        let mut graph = Graph::default();
        let going = json!({"deletionTimestamp": time(1), "finalizers": [ORPHAN]});
        assert_eq!(put(&mut graph, "owner", &[], going), "free the dependents of owner");
    }

    #[test]
    fn loops_of_owners_end() {
        let mut graph = Graph::default();
        put(&mut graph, "a", &["b"], json!({}));
        put(&mut graph, "b", &["a"], json!({}));
        assert_eq!(told(&graph.complete()), "");
        assert_eq!(told(&graph.remove("a")), "look at b");
        assert_eq!(told(&graph.remove("b")), "");
    }
}

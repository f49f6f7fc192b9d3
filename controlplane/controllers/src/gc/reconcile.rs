//! Looks at one object live and does what is decided.
//!
//! Owns: live reads of the object and its owners, and the requests. Must not know: how work comes
//! about. A newcomer's trap: each request names the uid, so that an object of the same name made in the
//! meantime is not touched (OWN-1).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{
    DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use parking_lot::Mutex;
use serde_json::json;

use super::Shared;
use super::graph::{FOREGROUND, Identity, ORPHAN, Work, has_finalizer};
use super::plan::{Decision, Owner, Policy, decide, without};
use crate::worker::{Error, Reconcile, ignore_not_found};

/// The workers' side of the collector.
pub(super) struct Collector {
    pub(super) shared: Arc<Shared>,
    pub(super) absent: Mutex<Absent>,
}

/// How many owners known to be gone are remembered.
const ABSENT_MAX: usize = 500;

/// Owners that were found to be gone, by uid and the namespace they were looked for in. A uid never
/// comes back, so this is never wrong, and saves one read for each of a thousand pods of one set.
#[derive(Debug, Default)]
pub(super) struct Absent {
    known: BTreeSet<(String, Option<String>)>,
    order: VecDeque<(String, Option<String>)>,
}

impl Absent {
    fn insert(&mut self, owner: (String, Option<String>)) {
        if self.known.insert(owner.clone()) {
            self.order.push_back(owner);
        }
        if self.order.len() > ABSENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Reconcile for Collector {
    type Key = Work;
    const NAME: &'static str = "garbage-collector";

    async fn reconcile(&self, work: &Work) -> Result<Option<Duration>, Error> {
        match work {
            Work::Look(uid) => self.look(uid).await?,
            Work::Free(uid) => self.free(uid).await?,
        }
        Ok(None)
    }
}

// === impl Collector ===

impl Collector {
    fn api(&self, identity: &Identity) -> Result<Api<DynamicObject>, Error> {
        let kinds = self.shared.kinds.read();
        let kind = kinds.find(&identity.api_version, &identity.kind).ok_or_else(|| {
            Error::NotYet(format!("{} {} is not served", identity.api_version, identity.kind))
        })?;
        let client = self.shared.client.clone();
        Ok(match &identity.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind.resource),
            None => Api::all_with(client, &kind.resource),
        })
    }

    /// The object as it is now, if it is still the one of this uid.
    async fn read(&self, identity: &Identity) -> Result<Option<ObjectMeta>, Error> {
        let live = self.api(identity)?.get_metadata_opt(&identity.name).await?;
        Ok(live.map(|live| live.metadata).filter(|meta| meta.uid.as_ref() == Some(&identity.uid)))
    }

    async fn look(&self, uid: &str) -> Result<(), Error> {
        let found = self.shared.graph.lock().get(uid).cloned();
        let Some(node) = found else { return Ok(()) };
        if node.deleting && !node.foreground {
            return Ok(());
        }
        let Some(meta) = self.read(&node.identity).await? else {
            self.shared.remove(uid);
            return Ok(());
        };
        if meta.deletion_timestamp.is_some() {
            if has_finalizer(&meta, FOREGROUND) {
                self.wait_for_dependents(&node.identity, &meta).await?;
            }
            return Ok(());
        }
        let mut owners = Vec::new();
        for owner in meta.owner_references.iter().flatten() {
            owners.push((owner.clone(), self.find(owner, &node.identity).await?));
        }
        let has_dependents = !self.shared.graph.lock().dependents(uid).is_empty();
        match decide(&meta, &owners, has_dependents) {
            Decision::Keep => {}
            Decision::Detach(uids) => self.detach(&node.identity, &meta, &uids).await?,
            Decision::Delete(policy) => {
                if policy == Policy::Foreground {
                    self.break_loop(&node.identity, &meta, uid).await?;
                }
                self.delete(&node.identity, &meta, policy).await?;
            }
        }
        Ok(())
    }

    /// What became of an owner, by a live read where the reference says it is.
    async fn find(&self, owner: &OwnerReference, dependent: &Identity) -> Result<Owner, Error> {
        let is_namespaced = {
            let kinds = self.shared.kinds.read();
            kinds.find(&owner.api_version, &owner.kind).map(|kind| kind.is_namespaced)
        };
        let namespace = match (is_namespaced, &dependent.namespace) {
            (Some(false), _) => None,
            (Some(true), Some(namespace)) => Some(namespace.clone()),
            // Not served, or a namespaced owner of an object without a namespace: it cannot be told.
            (None, _) | (Some(true), None) => return Ok(Owner::Unknown),
        };
        let place = (owner.uid.clone(), namespace.clone());
        if self.absent.lock().known.contains(&place) {
            return Ok(Owner::Absent);
        }
        let identity = Identity {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace,
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        };
        Ok(match self.read(&identity).await? {
            None => {
                self.absent.lock().insert(place);
                Owner::Absent
            }
            Some(meta) if meta.deletion_timestamp.is_some() && has_finalizer(&meta, FOREGROUND) => {
                Owner::Waiting
            }
            Some(_) => Owner::Solid,
        })
    }

    /// An object in foreground deletion goes when no dependent blocks it.
    async fn wait_for_dependents(
        &self,
        identity: &Identity,
        meta: &ObjectMeta,
    ) -> Result<(), Error> {
        let blocking: Vec<Work> = {
            let graph = self.shared.graph.lock();
            let dependents = graph.dependents(&identity.uid);
            let blocks = |owner: &OwnerReference| {
                owner.uid == identity.uid && owner.block_owner_deletion == Some(true)
            };
            dependents
                .iter()
                .filter(|node| node.owners.iter().any(blocks))
                .map(|node| Work::Look(node.identity.uid.clone()))
                .collect()
        };
        if blocking.is_empty() {
            return self.drop_finalizer(identity, meta, FOREGROUND).await;
        }
        self.shared.add(blocking);
        Ok(())
    }

    /// Two objects in foreground deletion that own each other would wait for ever.
    async fn break_loop(
        &self,
        identity: &Identity,
        meta: &ObjectMeta,
        uid: &str,
    ) -> Result<(), Error> {
        let is_looped = {
            let graph = self.shared.graph.lock();
            graph.dependents(uid).iter().any(|node| node.deleting && node.foreground)
        };
        if !is_looped {
            return Ok(());
        }
        let mut owners = meta.owner_references.clone().unwrap_or_default();
        for owner in &mut owners {
            owner.block_owner_deletion = Some(false);
        }
        let patch = json!({"metadata": {"uid": identity.uid, "ownerReferences": owners}});
        self.patch(identity, patch).await
    }

    async fn detach(
        &self,
        identity: &Identity,
        meta: &ObjectMeta,
        uids: &[String],
    ) -> Result<(), Error> {
        let owners = without(meta.owner_references.as_deref().unwrap_or_default(), uids);
        let patch = json!({"metadata": {
            "uid": identity.uid, "resourceVersion": meta.resource_version,
            "ownerReferences": owners}});
        self.patch(identity, patch).await
    }

    /// Sets the dependents of an object free, then lets it go.
    async fn free(&self, uid: &str) -> Result<(), Error> {
        let found = self.shared.graph.lock().get(uid).cloned();
        let Some(owner) = found else { return Ok(()) };
        let Some(meta) = self.read(&owner.identity).await? else { return Ok(()) };
        if meta.deletion_timestamp.is_none() || !has_finalizer(&meta, ORPHAN) {
            return Ok(());
        }
        let dependents: Vec<Identity> = {
            let graph = self.shared.graph.lock();
            graph.dependents(uid).iter().map(|node| node.identity.clone()).collect()
        };
        for dependent in dependents {
            if let Some(meta) = self.read(&dependent).await? {
                self.detach(&dependent, &meta, &[uid.to_owned()]).await?;
            }
        }
        self.drop_finalizer(&owner.identity, &meta, ORPHAN).await
    }

    async fn drop_finalizer(
        &self,
        identity: &Identity,
        meta: &ObjectMeta,
        finalizer: &str,
    ) -> Result<(), Error> {
        let left: Vec<&String> =
            meta.finalizers.iter().flatten().filter(|one| *one != finalizer).collect();
        let patch = json!({"metadata": {
            "uid": identity.uid, "resourceVersion": meta.resource_version, "finalizers": left}});
        self.patch(identity, patch).await
    }

    async fn patch(&self, identity: &Identity, patch: serde_json::Value) -> Result<(), Error> {
        let api = self.api(identity)?;
        let params = PatchParams::default();
        Ok(ignore_not_found(api.patch(&identity.name, &params, &Patch::Merge(patch)).await)?)
    }

    async fn delete(
        &self,
        identity: &Identity,
        meta: &ObjectMeta,
        policy: Policy,
    ) -> Result<(), Error> {
        let same = Preconditions {
            uid: Some(identity.uid.clone()),
            resource_version: meta.resource_version.clone(),
        };
        let propagation = match policy {
            Policy::Background => PropagationPolicy::Background,
            Policy::Foreground => PropagationPolicy::Foreground,
            Policy::Orphan => PropagationPolicy::Orphan,
        };
        let params = DeleteParams {
            propagation_policy: Some(propagation),
            preconditions: Some(same),
            ..DeleteParams::default()
        };
        tracing::debug!(
            kind = identity.kind,
            name = identity.name,
            ?policy,
            "deleting: no owner left"
        );
        ignore_not_found(self.api(identity)?.delete(&identity.name, &params).await)?;
        Ok(())
    }
}

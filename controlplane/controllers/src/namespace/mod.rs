//! Empties a namespace that is being deleted, then lets it go.
//!
//! Owns: deleting all content of all kinds, by discovery. Must not know: any kind but pods, which go
//! first. A newcomer's trap: content may be made, or held by finalizers, while we delete; the namespace
//! goes only when a fresh look finds nothing.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kijabi_client::time::now;
use kijabi_client::{Cache, Key, WorkQueue};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::discovery::verbs;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery, Scope};

use self::plan::{Findings, Remaining};
use crate::worker::{Error, Reconcile, code_of, ignore_not_found, message_of};
use crate::{Context, limits, worker};

/// The wait before another look while content remains.
const AGAIN: Duration = Duration::from_secs(2);

struct Namespaces {
    client: Client,
    cache: Arc<Cache<Namespace>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::<Key>::new());
    let to = queue.clone();
    context.caches.namespaces.subscribe(move |change| {
        if change.new.as_ref().is_some_and(|one| one.metadata.deletion_timestamp.is_some()) {
            to.add(Key::of(change.latest().as_ref()));
        }
    });
    let controller = Arc::new(Namespaces {
        client: context.client.clone(),
        cache: context.caches.namespaces.clone(),
    });
    worker::spawn(context, controller, queue, limits::WORKERS);
}

impl Reconcile for Namespaces {
    type Key = Key;
    const NAME: &'static str = "namespace";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        if !self.cache.get(key).is_some_and(|namespace| plan::is_to_empty(&namespace)) {
            return Ok(None);
        }
        // The cache may be behind; what is deleted here does not come back.
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Some(namespace) = api.get_opt(&key.name).await? else { return Ok(None) };
        if !plan::is_to_empty(&namespace) {
            return Ok(None);
        }
        let findings = self.empty(&key.name).await;
        let is_empty = findings.is_empty();
        let latest = match plan::conditions(&namespace, &findings, now()) {
            None => namespace,
            Some(conditions) => {
                let mut changed = namespace;
                changed.status.get_or_insert_default().conditions = Some(conditions);
                api.replace_status(&key.name, &PostParams::default(), &changed).await?
            }
        };
        if !is_empty {
            return Ok(Some(AGAIN));
        }
        let finalized = plan::finalized(&latest);
        let params = PostParams::default();
        ignore_not_found(
            api.replace_subresource("finalize", &key.name, &params, &finalized).await,
        )?;
        Ok(None)
    }
}

impl Namespaces {
    /// Deletes what is in the namespace; what it found left, and what failed.
    async fn empty(&self, namespace: &str) -> Findings {
        let mut findings = Findings::default();
        let kinds = match self.deletable_kinds().await {
            Ok(kinds) => kinds,
            Err(error) => {
                findings.discovery_error = Some(message_of(&error));
                return findings;
            }
        };
        let (pods, others): (Vec<_>, Vec<_>) =
            kinds.into_iter().partition(|(kind, _)| kind.group.is_empty() && kind.plural == "pods");
        // Pods first and alone: while any runs, what it uses stays.
        for group in [pods, others] {
            for (kind, capabilities) in group {
                match self.empty_kind(namespace, &kind, &capabilities).await {
                    Ok(remaining) => findings.remaining.extend(remaining),
                    Err(error) => findings.errors.push(message_of(&error)),
                }
            }
            if !findings.is_empty() {
                break;
            }
        }
        findings
    }

    async fn deletable_kinds(&self) -> kube::Result<Vec<(ApiResource, ApiCapabilities)>> {
        let discovery = Discovery::new(self.client.clone()).run().await?;
        let kinds = discovery.groups().flat_map(|group| group.recommended_resources());
        Ok(kinds
            .filter(|(_, capabilities)| {
                capabilities.scope == Scope::Namespaced
                    && capabilities.supports_operation(verbs::DELETE)
                    && capabilities.supports_operation(verbs::LIST)
            })
            .collect())
    }

    async fn empty_kind(
        &self,
        namespace: &str,
        kind: &ApiResource,
        capabilities: &ApiCapabilities,
    ) -> kube::Result<Option<Remaining>> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, kind);
        let params = DeleteParams::background();
        if capabilities.supports_operation(verbs::DELETE_COLLECTION) {
            match api.delete_collection(&params, &ListParams::default()).await {
                Err(error) if !matches!(code_of(&error), 404 | 405) => return Err(error),
                _ => {}
            }
        } else {
            for object in api.list_metadata(&ListParams::default()).await? {
                let name = object.metadata.name.unwrap_or_default();
                ignore_not_found(api.delete(&name, &params).await)?;
            }
        }
        let left = api.list_metadata(&ListParams::default()).await?;
        Ok(Remaining::of(&kind.plural, &kind.group, left.items.into_iter().map(|one| one.metadata)))
    }
}

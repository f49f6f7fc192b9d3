//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going away.
//!
//! Owns: that rule, and the namespaces that may not be deleted. Must not know: how a namespace is
//! emptied. A newcomer's trap: the cache may still show a namespace as active that was just deleted
//! here, so for a while after a deletion the store itself is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kijabi_base::clock::{self, Instant};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Attributes, ObjectAt, Objects, Operation, Plugin};
use crate::status::{ApiError, GroupResource};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// How long after a deletion the cache is not believed.
const DISTRUST: Duration = Duration::from_secs(30);
/// Most namespaces remembered as just deleted; beyond it, the store is asked for every one.
const DELETED_MAX: usize = 4_096;

/// The plugin.
pub(super) struct NamespaceLifecycle {
    objects: Arc<dyn Objects>,
    deleted: Mutex<BTreeMap<String, Instant>>,
}

impl NamespaceLifecycle {
    pub(super) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects, deleted: Mutex::default() }
    }

    fn remember_deleted(&self, name: &str) {
        let now = clock::now();
        let mut deleted = self.deleted.lock();
        deleted.retain(|_, at| now.duration_since(*at) < DISTRUST);
        if deleted.len() < DELETED_MAX {
            deleted.insert(name.to_owned(), now);
        }
    }

    fn distrusts_cache(&self, name: &str) -> bool {
        let deleted = self.deleted.lock();
        deleted.len() >= DELETED_MAX
            || deleted.get(name).is_some_and(|at| clock::now().duration_since(*at) < DISTRUST)
    }

    async fn namespace(&self, name: &str) -> Result<Option<Arc<Value>>, ApiError> {
        let at = ObjectAt { group: "", plural: "namespaces", namespace: "", name };
        if !self.distrusts_cache(name)
            && let Some(found) = self.objects.get(at).await?
        {
            return Ok(Some(found));
        }
        self.objects.get_live(at).await
    }

    async fn check(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        let name = attributes.namespace;
        if name.is_empty() || attributes.kind.kind == "Namespace" {
            return Ok(());
        }
        let Some(namespace) = self.namespace(name).await? else {
            return Err(ApiError::not_found(GroupResource::new("", "namespaces"), name));
        };
        let terminating = namespace["status"]["phase"] == "Terminating"
            || !namespace["metadata"]["deletionTimestamp"].is_null();
        if attributes.operation == Operation::Create && terminating {
            let why = format!(
                "unable to create new content in namespace {name} because it is being terminated"
            );
            let cause = format!("namespace {name} is being terminated");
            return Err(attributes.forbidden(&why).with_cause(
                "NamespaceTerminating",
                &cause,
                "metadata.namespace",
            ));
        }
        Ok(())
    }
}

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        _object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(self.check(attributes))
    }

    fn validate<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        _object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let is_delete = attributes.operation == Operation::Delete;
        let outcome = if is_delete && attributes.is_object("", "namespaces") {
            if IMMORTAL.contains(&attributes.name) {
                Err(attributes.forbidden("this namespace may not be deleted"))
            } else {
                self.remember_deleted(attributes.name);
                Ok(())
            }
        } else {
            Ok(())
        };
        Box::pin(std::future::ready(outcome))
    }
}

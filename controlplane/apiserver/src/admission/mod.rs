//! Admission: what may still be changed or refused after authorization, before the store.
//!
//! Owns: the order of the plugins, which is Kubernetes' order. Must not know: how objects are
//! stored; plugins look others up through [`Objects`]. A newcomer's trap: `admit` runs on a create
//! before the strategy prepares the object, `validate` after the object is in its final form, and
//! both run on dry runs too.

#[cfg(test)]
pub(crate) mod fixture;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod reserve;
mod service_account;
#[cfg(test)]
mod tests;
mod tolerations;

use std::sync::Arc;

use futures::future::BoxFuture;
use kijabi_meta::kind::Kind;
use serde_json::Value;

use crate::status::{ApiError, GroupResource};
use crate::user::User;

pub use reserve::{Allocator, Reservation};

/// What is done with the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// POST, or a PUT/PATCH that creates.
    Create,
    /// PUT or PATCH.
    Update,
    /// DELETE, once for each object of a deletecollection.
    Delete,
}

/// The circumstances of one admission.
#[derive(Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// What is done.
    pub operation: Operation,
    /// The kind whose resource is addressed.
    pub kind: &'static Kind,
    /// The subresource, empty for the object itself.
    pub subresource: &'a str,
    /// The namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The name; empty on a create with generateName.
    pub name: &'a str,
    /// The stored object, on update and delete.
    pub old: Option<&'a Value>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

impl Attributes<'_> {
    /// The resource as error texts name it.
    pub fn resource(&self) -> GroupResource<'static> {
        GroupResource::of(self.kind)
    }

    /// Whether the object itself of `plural` in `group` is addressed, no subresource.
    pub fn is_object(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.kind.group == group && self.kind.plural == plural
    }

    /// 403 with `why`.
    pub fn forbidden(&self, why: &str) -> ApiError {
        ApiError::forbidden(self.resource(), self.name, why)
    }
}

/// How plugins see other objects.
pub trait Objects: Send + Sync {
    /// An object, as fresh as the watch cache.
    fn get<'a>(&'a self, at: ObjectAt<'a>) -> BoxFuture<'a, Result<Option<Arc<Value>>, ApiError>>;

    /// An object, as the store has it now.
    fn get_live<'a>(
        &'a self,
        at: ObjectAt<'a>,
    ) -> BoxFuture<'a, Result<Option<Arc<Value>>, ApiError>>;

    /// All objects of a resource, as fresh as the watch cache.
    fn list<'a>(
        &'a self,
        group: &'a str,
        plural: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Arc<Value>>, ApiError>>;

    /// The pods of a namespace that are on a node, as fresh as the watch cache.
    fn pods_on<'a>(
        &'a self,
        node: &'a str,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Arc<Value>>, ApiError>>;
}

/// The place of an object.
#[derive(Clone, Copy, Debug)]
pub struct ObjectAt<'a> {
    /// API group, empty for the core group.
    pub group: &'a str,
    /// The plural, such as `namespaces`.
    pub plural: &'a str,
    /// The namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
}

/// One admission plugin.
pub trait Plugin: Send + Sync {
    /// The plugin's name, as `--enable-admission-plugins` has it.
    fn name(&self) -> &'static str;

    /// Changes or refuses an object that is about to be created or updated.
    fn admit<'a>(
        &'a self,
        _attributes: &'a Attributes<'a>,
        _object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Refuses an operation. `object` is the final object, on a delete the stored one if known.
    fn validate<'a>(
        &'a self,
        _attributes: &'a Attributes<'a>,
        _object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The plugins, in order, and the pools that objects take from.
#[derive(Default)]
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    allocators: Vec<Arc<dyn Allocator>>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.plugins.iter().map(|plugin| plugin.name())).finish()
    }
}

impl Chain {
    // Differs from Kubernetes: LimitRanger, ResourceQuota, PodSecurity, webhooks and policies do not
    // run, for the kinds that configure them are not served.
    /// The plugins that Kubernetes runs by default, as far as their kinds are served, in its order.
    pub fn standard(objects: &Arc<dyn Objects>, allocators: Vec<Arc<dyn Allocator>>) -> Self {
        let plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle::new(objects.clone())),
            Box::new(service_account::ServiceAccount::new(objects.clone())),
            Box::new(node_restriction::NodeRestriction::new(objects.clone())),
            Box::new(tolerations::TaintNodesByCondition),
            Box::new(priority::Priority),
            Box::new(tolerations::DefaultTolerationSeconds),
        ];
        Self { plugins, allocators }
    }

    /// A chain of `plugins`, without pools.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins, allocators: Vec::new() }
    }

    /// The mutating pass: after decoding and defaulting, before the strategy prepares the object.
    pub async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        for plugin in &self.plugins {
            plugin.admit(attributes, object).await?;
        }
        Ok(())
    }

    /// The validating pass: on the final object, and on every delete (before anything is stored).
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), ApiError> {
        for plugin in &self.plugins {
            plugin.validate(attributes, object).await?;
        }
        Ok(())
    }

    /// Takes what a valid object needs from the pools, last before it is stored. The answer is
    /// committed when the object is stored and aborted when it is not.
    pub async fn reserve(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<Reservation, ApiError> {
        let mut taken = Reservation::none();
        for allocator in &self.allocators {
            match allocator.reserve(attributes, object).await {
                Ok(more) => taken = taken.and(more),
                Err(error) => {
                    taken.abort().await;
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// Gives back what an object had that is deleted now.
    pub async fn release(&self, attributes: &Attributes<'_>, object: &Value) {
        for allocator in &self.allocators {
            allocator.release(attributes, object).await;
        }
    }
}

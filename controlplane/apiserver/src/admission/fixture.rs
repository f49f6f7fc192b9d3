//! Objects for tests of plugins and token checks: a list in memory.
//!
//! Owns: nothing outside tests. A newcomer's trap: `kind` of an object here is its plural, so that
//! one list can hold all kinds.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use super::{ObjectAt, Objects};
use crate::status::ApiError;

#[derive(Debug, Default)]
pub(crate) struct Fixture(Vec<Arc<Value>>);

impl Fixture {
    pub(crate) fn new(objects: Vec<Value>) -> Self {
        Self(objects.into_iter().map(Arc::new).collect())
    }

    fn find(&self, at: ObjectAt<'_>) -> Option<Arc<Value>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let is = |object: &&Arc<Value>| {
            let meta = &object["metadata"];
            object["kind"] == at.plural
                && text(&meta["namespace"]) == at.namespace
                && text(&meta["name"]) == at.name
        };
        self.0.iter().find(is).cloned()
    }
}

impl Objects for Fixture {
    fn get<'a>(&'a self, at: ObjectAt<'a>) -> BoxFuture<'a, Result<Option<Arc<Value>>, ApiError>> {
        Box::pin(std::future::ready(Ok(self.find(at))))
    }

    fn get_live<'a>(
        &'a self,
        at: ObjectAt<'a>,
    ) -> BoxFuture<'a, Result<Option<Arc<Value>>, ApiError>> {
        self.get(at)
    }

    fn list<'a>(
        &'a self,
        _group: &'a str,
        plural: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Arc<Value>>, ApiError>> {
        let all = self.0.iter().filter(|object| object["kind"] == plural).cloned().collect();
        Box::pin(std::future::ready(Ok(all)))
    }

    fn pods_on<'a>(
        &'a self,
        node: &'a str,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Arc<Value>>, ApiError>> {
        Box::pin(async move {
            let mut pods = self.list("", "pods").await?;
            pods.retain(|pod| {
                pod["spec"]["nodeName"] == node && pod["metadata"]["namespace"] == namespace
            });
            Ok(pods)
        })
    }
}

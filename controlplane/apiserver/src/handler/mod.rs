//! What is done for a resource request: one file a verb or subresource.
//!
//! Owns: the way from an authorized request to an answer. Must not know: sockets, or how the store
//! keeps things. A newcomer's trap: every change of an object, whichever verb asks for it, goes
//! through the one loop in `change.rs`; a rule added anywhere else would be missed by the others.

mod apply;
mod binding;
mod change;
mod collection;
mod create;
mod decode;
mod delete;
mod deletion;
mod eviction;
mod list;
mod managed;
mod namespace;
mod options;
mod patch;
mod review;
mod scale;
mod token;
mod update;
mod watch;
mod watch_stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, StatusCode, header};
use kijabi_base::{clock, rng};
use kijabi_meta::kind::Kind;
use serde_json::Value;

use crate::admission::{Attributes, Chain, Operation};
use crate::authn::token::Tokens;
use crate::authz::Authorizer;
use crate::body::RequestBody;
use crate::exchange::{self, ApiRequest, ResourceHandler, Response, Warnings};
use crate::negotiate::Output;
use crate::registry::Registry;
use crate::request::RequestInfo;
use crate::status::{ApiError, GroupResource};
use crate::user::User;

/// Serves the resources of a registry.
#[derive(Clone, Debug)]
pub struct Handlers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Arc<Registry>,
    admission: Chain,
    tokens: Option<Arc<Tokens>>,
    authorizer: Option<Authorizer>,
}

/// One request on its way: what it is about and how it wants its answer.
#[derive(Debug)]
struct Call {
    kind: &'static Kind,
    /// The namespace, empty for cluster-scoped kinds and for all namespaces.
    namespace: String,
    /// The name in the path, empty for a collection.
    name: String,
    info: RequestInfo,
    user: User,
    headers: HeaderMap,
    warnings: Warnings,
    output: Output,
}

impl Handlers {
    /// Handlers on a registry, with an admission chain.
    pub fn new(registry: Arc<Registry>, admission: Chain) -> Self {
        Self(Arc::new(Inner { registry, admission, tokens: None, authorizer: None }))
    }

    /// The same, with service-account tokens to be had and questions about rights answered.
    pub fn with_identities(
        registry: Arc<Registry>,
        admission: Chain,
        tokens: Arc<Tokens>,
        authorizer: Authorizer,
    ) -> Self {
        let (tokens, authorizer) = (Some(tokens), Some(authorizer));
        Self(Arc::new(Inner { registry, admission, tokens, authorizer }))
    }

    fn tokens(&self) -> Option<&Tokens> {
        self.0.tokens.as_deref()
    }

    fn authorizer(&self) -> Option<&Authorizer> {
        self.0.authorizer.as_ref()
    }

    fn registry(&self) -> &Registry {
        &self.0.registry
    }

    fn admission(&self) -> &Chain {
        &self.0.admission
    }

    async fn serve(&self, request: ApiRequest) -> Result<Response, ApiError> {
        let (call, body) = Call::new(request)?;
        call.check_verb()?;
        match (call.info.subresource.as_str(), call.info.verb) {
            ("", "get") => self.get(&call).await,
            ("", "list") => self.list(&call).await,
            ("", "watch") => self.watch(&call).await,
            ("", "create") if call.kind.kind == "Binding" => self.create_binding(&call, body).await,
            ("", "create") if review::is_review(&call) => self.create_review(&call, body).await,
            ("", "create") => self.create(&call, body).await,
            ("" | "status" | "finalize", "update") => self.put(&call, body).await,
            ("" | "status", "patch") => self.patch(&call, body).await,
            ("", "delete") => self.delete(&call, body).await,
            ("", "deletecollection") => self.delete_collection(&call, body).await,
            ("status", "get") => self.get(&call).await,
            ("scale", "get") => self.get_scale(&call).await,
            ("scale", "update") => self.put_scale(&call, body).await,
            ("scale", "patch") => self.patch_scale(&call, body).await,
            ("binding", "create") => self.create_binding(&call, body).await,
            ("token", "create") => self.create_token(&call, body).await,
            ("eviction", "create") => self.create_eviction(&call, body).await,
            _ => Err(ApiError::unknown_resource()),
        }
    }

    /// The object as the store has it now.
    async fn live(&self, call: &Call) -> Result<Value, ApiError> {
        let stored = change::read(self.registry(), call.kind, &call.namespace, &call.name).await?;
        stored.map(|stored| stored.object).ok_or_else(|| call.not_found())
    }

    async fn get(&self, call: &Call) -> Result<Response, ApiError> {
        let version = call.info.query.get("resourceVersion").unwrap_or_default();
        let object = if version.is_empty() {
            self.live(call).await?
        } else {
            let version = options::resource_version(version)?;
            let cache = self.registry().cache(call.kind)?;
            cache.wait_fresh(version).await?;
            let entry = cache.get(&call.namespace, &call.name).ok_or_else(|| call.not_found())?;
            change::shown_as(call.kind, entry.object())
        };
        call.output.object(StatusCode::OK, call.kind, &object)
    }
}

impl ResourceHandler for Handlers {
    fn handle(&self, request: ApiRequest) -> BoxFuture<'static, Response> {
        let handlers = self.clone();
        Box::pin(async move {
            handlers.serve(request).await.unwrap_or_else(|error| exchange::error(&error))
        })
    }
}

// === impl Call ===

impl Call {
    fn new(request: ApiRequest) -> Result<(Self, RequestBody), ApiError> {
        let ApiRequest { info, user, headers, body, warnings, .. } = request;
        let kind = Registry::kind(&info.api_group, &info.api_version, &info.resource)
            .ok_or_else(ApiError::unknown_resource)?;
        let namespace = effective_namespace(kind, &info)?;
        let unknown_subresource =
            !info.subresource.is_empty() && kind.subresource(&info.subresource).is_none();
        if unknown_subresource || info.parts.len() > 3 {
            return Err(ApiError::unknown_resource());
        }
        let output = Output::negotiate(&headers, &info.query)?;
        if !kind.deprecation.is_empty() {
            warnings.add(kind.deprecation);
        }
        let named = matches!(info.verb, "get" | "update" | "patch" | "delete" | "create");
        let name = if named { info.name.clone() } else { String::new() };
        Ok((Self { kind, namespace, name, info, user, headers, warnings, output }, body))
    }

    /// 405 for a verb that the resource or subresource does not have.
    fn check_verb(&self) -> Result<(), ApiError> {
        let verb = self.info.verb;
        let known = match self.subresource() {
            "" => self.kind.verbs,
            name => self.kind.subresource(name).map_or(&[][..], |one| one.verbs),
        };
        let on_collection = matches!(verb, "create" | "deletecollection");
        let all_namespaces = self.kind.namespaced && self.namespace.is_empty();
        let misplaced = (on_collection && all_namespaces)
            || (verb == "create" && self.subresource().is_empty() && !self.name.is_empty())
            || (verb != "create"
                && !on_collection
                && !matches!(verb, "list" | "watch")
                && self.name.is_empty());
        if known.contains(&verb) && !misplaced {
            return Ok(());
        }
        Err(ApiError::method_not_allowed())
    }

    /// The same request, about another object.
    fn about(&self, kind: &'static Kind, name: &str) -> Self {
        Self {
            kind,
            namespace: self.namespace.clone(),
            name: name.into(),
            info: self.info.clone(),
            user: self.user.clone(),
            headers: self.headers.clone(),
            warnings: self.warnings.clone(),
            output: self.output.clone(),
        }
    }

    fn subresource(&self) -> &str {
        &self.info.subresource
    }

    fn resource(&self) -> GroupResource<'static> {
        GroupResource::of(self.kind)
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(self.resource(), &self.name)
    }

    /// Who is written into `managedFields`: the parameter, or the first word of the user agent.
    fn manager(&self, asked: &str) -> String {
        if !asked.is_empty() {
            return asked.to_owned();
        }
        let agent = self.headers.get(header::USER_AGENT).and_then(|one| one.to_str().ok());
        kijabi_meta::managed::manager_of_agent(agent.unwrap_or_default())
    }

    fn attributes<'a>(
        &'a self,
        operation: Operation,
        name: &'a str,
        old: Option<&'a Value>,
        dry_run: bool,
    ) -> Attributes<'a> {
        Attributes {
            user: &self.user,
            operation,
            kind: self.kind,
            subresource: &self.info.subresource,
            namespace: &self.namespace,
            name,
            old,
            dry_run,
        }
    }

    fn invalid(&self, name: &str, errors: &[kijabi_meta::field::FieldError]) -> ApiError {
        ApiError::invalid(self.kind.group, self.kind.kind, name, errors)
    }
}

/// The namespace the request is about; 404 if the path has one where none belongs or the reverse.
fn effective_namespace(kind: &Kind, info: &RequestInfo) -> Result<String, ApiError> {
    // The path of a namespace names it twice, as namespace and as name.
    let own = kind.plural == "namespaces" && info.namespace == info.name;
    let namespace = if own { "" } else { info.namespace.as_str() };
    let collection = matches!(info.verb, "list" | "watch" | "create" | "deletecollection");
    let misplaced =
        if kind.namespaced { namespace.is_empty() && !collection } else { !namespace.is_empty() };
    if misplaced { Err(ApiError::unknown_resource()) } else { Ok(namespace.into()) }
}

/// The wall clock as Kubernetes writes it.
fn timestamp() -> String {
    timestamp_after(0)
}

fn timestamp_after(seconds: i64) -> String {
    let now = clock::wall_ms() as i64 / 1_000;
    let at = jiff::Timestamp::from_second(now.saturating_add(seconds));
    at.unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn new_uid() -> String {
    let mut bytes = [0; 16];
    rng::fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// A text of the object's metadata, empty if it is not there.
fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|one| one.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether deletion of the object has begun.
fn is_terminating(object: &Value) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
}

/// The object's finalizers.
fn finalizers(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

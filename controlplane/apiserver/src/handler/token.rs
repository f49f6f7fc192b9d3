//! `serviceaccounts/token`: a signed token for an account, bound to a pod, secret or node if asked.
//!
//! Owns: what may be asked for. Must not know: how tokens are signed. A newcomer's trap: an agent
//! asks for its pods' tokens, so for agents the bound pod must be one of their node's.

use http::StatusCode;
use jiff::Timestamp;
use kijabi_meta::codec::{self, Expected};
use kijabi_meta::field::FieldError;
use kijabi_meta::managed::{Rules, Write, track_update};
use kijabi_meta::schema;
use serde_json::{Value, json};

use super::options::WriteOptions;
use super::{Call, Handlers, change, decode, managed, meta, new_uid, timestamp};
use crate::authn::token::{Bound, Subject, Tokens};
use crate::body::RequestBody;
use crate::exchange::Response;
use crate::registry::Registry;
use crate::status::{ApiError, GroupResource};

const GROUP: &str = "authentication.k8s.io";
const API_VERSION: &str = "authentication.k8s.io/v1";
const REQUEST: Expected<'static> = Expected { group: GROUP, version: "v1", kind: "TokenRequest" };
const SECONDS_DEFAULT: i64 = 3_600;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;

impl Handlers {
    pub(super) async fn create_token(
        &self,
        call: &Call,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let tokens = self.tokens().ok_or_else(ApiError::unknown_resource)?;
        let options = WriteOptions::parse(&call.info.query, "CreateOptions", false)?;
        let mut request = decode::read(call, body, REQUEST, options.field_validation).await?;
        decode::match_namespace(call, &mut request)?;
        if !matches!(meta(&request, "name"), "" | "-") && meta(&request, "name") != call.name {
            return Err(ApiError::bad_request(
                "name in URL does not match name in TokenRequest object",
            ));
        }
        record_manager(call, &options, &mut request);
        let account = self.live(call).await?;
        fill(&mut request["spec"], tokens.issuer());
        check(&request["spec"])?;
        let bound = self.bound(call, &request["spec"]["boundObjectRef"]).await?;
        check_node(call, &bound)?;
        let audiences: Vec<String> = request["spec"]["audiences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect();
        let subject = Subject {
            namespace: &call.namespace,
            name: &call.name,
            uid: meta(&account, "uid"),
            bound,
            audiences: &audiences,
            seconds: request["spec"]["expirationSeconds"].as_i64().unwrap_or(SECONDS_DEFAULT),
        };
        let answer = issued(tokens, &subject, &request)?;
        Ok(call.output.plain(StatusCode::CREATED, &answer))
    }

    /// The object the token is to be bound to, as it is now.
    async fn bound(&self, call: &Call, wanted: &Value) -> Result<Bound, ApiError> {
        let text = |field: &str| wanted[field].as_str().unwrap_or_default();
        let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
        if wanted.is_null() {
            return Ok(Bound::default());
        }
        let object = match (text("apiVersion"), kind) {
            ("v1" | "", "Pod") => self.one("pods", &call.namespace, name).await?,
            ("v1" | "", "Secret") => self.one("secrets", &call.namespace, name).await?,
            ("v1" | "", "Node") => self.one("nodes", "", name).await?,
            _ => {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {}, Kind={kind}",
                    text("apiVersion")
                )));
            }
        };
        let present = meta(&object, "uid").to_owned();
        if !uid.is_empty() && uid != present {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            );
            let resource = GroupResource::new("", "serviceaccounts/token");
            return Err(ApiError::conflict(resource, &call.name, &why));
        }
        let is = Some((name.to_owned(), present));
        match kind {
            "Secret" => Ok(Bound { secret: is, ..Bound::default() }),
            "Node" => Ok(Bound { node: is, ..Bound::default() }),
            _ => self.bound_to_pod(call, &object, is).await,
        }
    }

    async fn bound_to_pod(
        &self,
        call: &Call,
        pod: &Value,
        is: Option<(String, String)>,
    ) -> Result<Bound, ApiError> {
        if pod["spec"]["serviceAccountName"] != call.name.as_str() {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different \
                 serviceaccount name.",
                call.name
            )));
        }
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let mut bound = Bound { pod: is, ..Bound::default() };
        if !node.is_empty() {
            // A node that is not there any more is named all the same, without a uid.
            let found = self.one("nodes", "", node).await;
            let uid = found.map(|node| meta(&node, "uid").to_owned()).unwrap_or_default();
            bound.node = Some((node.to_owned(), uid));
        }
        Ok(bound)
    }

    async fn one(&self, plural: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
        let kind = Registry::kind("", "v1", plural).ok_or_else(ApiError::unknown_resource)?;
        let stored = change::read(self.registry(), kind, namespace, name).await?;
        let missing = || ApiError::not_found(GroupResource::of(kind), name);
        stored.map(|stored| stored.object).ok_or_else(missing)
    }
}

/// Nobody keeps the request, but its answer says who set what, as every created object does.
fn record_manager(call: &Call, options: &WriteOptions, request: &mut Value) {
    let Some(known) = schema::type_of_kind(GROUP, "v1", "TokenRequest") else { return };
    let mut nothing = codec::normalized(json!({}), known);
    nothing["kind"] = "TokenRequest".into();
    nothing["apiVersion"] = API_VERSION.into();
    let manager = call.manager(&options.field_manager);
    let write = Write {
        manager: &manager,
        api_version: API_VERSION,
        subresource: call.subresource(),
        time: managed::now(),
        reset: &[],
    };
    track_update(Rules::Known(known), &nothing, request, &write);
}

// Differs from Kubernetes: a pod's token of 3607 seconds really ends after an hour; Kubernetes
// lets it live on for a year unless told not to.
/// Defaults of the spec.
fn fill(spec: &mut Value, issuer: &str) {
    if !spec.is_object() {
        *spec = json!({});
    }
    if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
        spec["audiences"] = json!([issuer]);
    }
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = SECONDS_DEFAULT.into();
    }
    if spec["boundObjectRef"].is_null() {
        spec["boundObjectRef"] = Value::Null;
    }
}

fn check(spec: &Value) -> Result<(), ApiError> {
    let field = "spec.expirationSeconds";
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(0);
    let detail = if seconds < SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if seconds > SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = FieldError::invalid(field, &seconds.into(), detail);
    Err(ApiError::invalid(GROUP, "TokenRequest", "", &[error]))
}

/// An agent gets tokens for pods of its own node only.
fn check_node(call: &Call, bound: &Bound) -> Result<(), ApiError> {
    let Some(node) = call.user.node() else { return Ok(()) };
    let forbidden = |why: &str| Err(ApiError::forbidden(call.resource(), &call.name, why));
    if bound.pod.is_none() {
        return forbidden("node requested token not bound to a pod");
    }
    if bound.node.as_ref().is_none_or(|(name, _)| name != node) {
        return forbidden("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}

fn issued(tokens: &Tokens, subject: &Subject<'_>, request: &Value) -> Result<Value, ApiError> {
    let (token, expires) = tokens.issue(subject)?;
    let expires = Timestamp::from_second(expires).unwrap_or(Timestamp::MAX);
    Ok(json!({
        "kind": "TokenRequest",
        "apiVersion": API_VERSION,
        "metadata": {
            "name": subject.name,
            "namespace": subject.namespace,
            "uid": new_uid(),
            "creationTimestamp": timestamp(),
            "managedFields": request["metadata"]["managedFields"],
        },
        "spec": request["spec"],
        "status": {"token": token, "expirationTimestamp": expires.to_string()},
    }))
}

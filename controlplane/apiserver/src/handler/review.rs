//! Reviews: who am I, what may I, may I, may he, whose token is this.
//!
//! Owns: the six questions that are asked by creating an object nobody keeps. Must not know: how
//! the answers are found. A newcomer's trap: a review that says "no" is a success; only a question
//! that makes no sense is an error.

use http::StatusCode;
use kijabi_meta::field::FieldError;
use serde_json::{Map, Value, json};

use super::options::WriteOptions;
use super::{Call, Handlers, decode, managed, meta, timestamp};
use crate::authz::{Authorizer, rules_status};
use crate::body::RequestBody;
use crate::exchange::Response;
use crate::request::RequestInfo;
use crate::status::ApiError;
use crate::user::{AUTHENTICATED, User};

const AUTHORIZATION: &str = "authorization.k8s.io";
/// The verbs that rules can name; any other is one that nobody has.
const VERBS: [&str; 17] = [
    "*",
    "approve",
    "attest",
    "bind",
    "create",
    "delete",
    "deletecollection",
    "escalate",
    "get",
    "impersonate",
    "list",
    "patch",
    "proxy",
    "sign",
    "update",
    "use",
    "watch",
];

/// Whether a kind is a review.
pub(super) fn is_review(call: &Call) -> bool {
    matches!(call.kind.group, AUTHORIZATION | "authentication.k8s.io")
}

impl Handlers {
    pub(super) async fn create_review(
        &self,
        call: &Call,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let options = WriteOptions::parse(&call.info.query, "CreateOptions", false)?;
        let expected = decode::expected(call.kind);
        let mut review = decode::read(call, body, expected, options.field_validation).await?;
        decode::match_namespace(call, &mut review)?;
        let authorizer = self.authorizer().ok_or_else(ApiError::unknown_resource)?;
        let answer = match call.kind.kind {
            "SelfSubjectReview" => who_am_i(call),
            "SelfSubjectRulesReview" => what_may_i(call, &review)?,
            "TokenReview" => {
                managed::created(call, &options, &mut review);
                review["status"] = self.whose_token(&review["spec"]).await?;
                review
            }
            "SelfSubjectAccessReview" => {
                managed::created(call, &options, &mut review);
                check_attributes(&review["spec"])?;
                review["status"] = may(authorizer, &call.user, &review["spec"]).await?;
                review
            }
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                managed::created(call, &options, &mut review);
                check_subject(&review["spec"])?;
                check_attributes(&review["spec"])?;
                if call.kind.namespaced {
                    check_local(call, &review)?;
                }
                let user = subject(&review["spec"]);
                review["status"] = may(authorizer, &user, &review["spec"]).await?;
                review
            }
            _ => return Err(ApiError::unknown_resource()),
        };
        Ok(call.output.plain(StatusCode::CREATED, &answer))
    }

    async fn whose_token(&self, spec: &Value) -> Result<Value, ApiError> {
        let tokens = self.tokens().ok_or_else(ApiError::unknown_resource)?;
        let texts = |value: &Value| -> Vec<String> {
            let all = value.as_array().into_iter().flatten();
            all.filter_map(|one| one.as_str().map(str::to_owned)).collect()
        };
        let mut audiences = texts(&spec["audiences"]);
        if audiences.is_empty() {
            audiences.push(tokens.issuer().to_owned());
        }
        let token = spec["token"].as_str().unwrap_or_default();
        let Some((mut user, fitting)) = tokens.authenticate_for(token, &audiences).await? else {
            return Ok(json!({"user": {}, "error": "invalid bearer token"}));
        };
        user.groups.push(AUTHENTICATED.into());
        Ok(json!({"authenticated": true, "user": user_info(&user), "audiences": fitting}))
    }
}

fn who_am_i(call: &Call) -> Value {
    json!({
        "kind": call.kind.kind,
        "apiVersion": call.kind.api_version(),
        "metadata": {"creationTimestamp": timestamp()},
        "status": {"userInfo": user_info(&call.user)},
    })
}

fn what_may_i(call: &Call, review: &Value) -> Result<Value, ApiError> {
    if review["spec"]["namespace"].as_str().unwrap_or_default().is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    Ok(json!({
        "kind": call.kind.kind,
        "apiVersion": call.kind.api_version(),
        "metadata": {},
        "spec": {},
        "status": rules_status(&call.user),
    }))
}

fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        info.insert("extra".into(), json!(user.extra));
    }
    Value::Object(info)
}

/// The user of a SubjectAccessReview.
fn subject(spec: &Value) -> User {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
    let extra = spec["extra"].as_object().into_iter().flatten();
    User {
        name: text(&spec["user"]),
        uid: text(&spec["uid"]),
        groups: texts(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.to_lowercase(), texts(values))).collect(),
    }
}

fn invalid(errors: &[FieldError]) -> ApiError {
    ApiError::invalid(AUTHORIZATION, "", "", errors)
}

fn check_attributes(spec: &Value) -> Result<(), ApiError> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let error = match (resource.is_null(), path.is_null()) {
        (true, true) => FieldError::invalid(
            "spec.resourceAttributes",
            resource,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (false, false) => FieldError::invalid(
            "spec.nonResourceAttributes",
            path,
            "cannot be specified in combination with resourceAttributes",
        ),
        _ => return Ok(()),
    };
    Err(invalid(&[error]))
}

fn check_subject(spec: &Value) -> Result<(), ApiError> {
    let has_user = spec["user"].as_str().is_some_and(|user| !user.is_empty());
    let has_groups = spec["groups"].as_array().is_some_and(|groups| !groups.is_empty());
    if has_user || has_groups {
        return Ok(());
    }
    let detail = "at least one of user or group must be specified";
    Err(invalid(&[FieldError::invalid("spec.user", &"".into(), detail)]))
}

/// A local review is about its own namespace's resources only.
fn check_local(call: &Call, review: &Value) -> Result<(), ApiError> {
    let spec = &review["spec"];
    let namespace = &spec["resourceAttributes"]["namespace"];
    let error = if !spec["nonResourceAttributes"].is_null() {
        let detail = "disallowed on this kind of request";
        FieldError::invalid("spec.nonResourceAttributes", &spec["nonResourceAttributes"], detail)
    } else if *namespace != call.namespace.as_str() {
        let detail = "must match metadata.namespace";
        FieldError::invalid("spec.resourceAttributes.namespace", namespace, detail)
    } else {
        return Ok(());
    };
    Err(ApiError::invalid(AUTHORIZATION, "", meta(review, "name"), &[error]))
}

async fn may(authorizer: &Authorizer, user: &User, spec: &Value) -> Result<Value, ApiError> {
    match authorizer.authorize(user, &question(spec)).await {
        Ok(()) => Ok(json!({"allowed": true})),
        Err(refused) if refused.code() == 403 => Ok(json!({"allowed": false})),
        Err(error) => Err(error),
    }
}

/// The request that is asked about.
fn question(spec: &Value) -> RequestInfo {
    let verb_of = |asked: &Value| {
        let asked = asked.as_str().unwrap_or_default();
        VERBS.iter().copied().find(|verb| *verb == asked).unwrap_or_default()
    };
    let path = &spec["nonResourceAttributes"];
    if !path.is_null() {
        let asked = path["path"].as_str().unwrap_or_default();
        return RequestInfo {
            path: asked.into(),
            verb: verb_of(&path["verb"]),
            ..RequestInfo::default()
        };
    }
    let resource = &spec["resourceAttributes"];
    let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
    RequestInfo {
        is_resource: true,
        verb: verb_of(&resource["verb"]),
        api_group: text("group"),
        api_version: text("version"),
        namespace: text("namespace"),
        resource: text("resource"),
        subresource: text("subresource"),
        name: text("name"),
        ..RequestInfo::default()
    }
}

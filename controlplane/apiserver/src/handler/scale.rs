//! `/scale`: the replicas of an object, as an `autoscaling/v1` Scale.
//!
//! Owns: the way between a Scale and the object's spec. Must not know: how an object is stored. A
//! newcomer's trap: the Scale's version is its object's, so a stale Scale conflicts like any PUT.

use http::StatusCode;
use kijabi_meta::codec::Expected;
use kijabi_meta::field::FieldError;
use kijabi_meta::schema;
use kijabi_meta::selector::LabelSelector;
use serde_json::{Value, json};

use super::change::{Change, Rules};
use super::managed::Tracking;
use super::options::WriteOptions;
use super::patch::{Patch, PatchType};
use super::{Call, Handlers, decode, meta};
use crate::body::{self, RequestBody};
use crate::exchange::Response;
use crate::status::ApiError;

const SCALE: Expected<'static> = Expected { group: "autoscaling", version: "v1", kind: "Scale" };

impl Handlers {
    pub(super) async fn get_scale(&self, call: &Call) -> Result<Response, ApiError> {
        let object = self.live(call).await?;
        Ok(call.output.plain(StatusCode::OK, &scale_of(&object)))
    }

    pub(super) async fn put_scale(
        &self,
        call: &Call,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let options = WriteOptions::parse(&call.info.query, "UpdateOptions", false)?;
        let mut scale = decode::read(call, body, SCALE, options.field_validation).await?;
        decode::match_namespace(call, &mut scale)?;
        decode::match_name(call, &scale)?;
        self.change_scale(call, &options, &mut |_| Ok(scale.clone())).await
    }

    pub(super) async fn patch_scale(
        &self,
        call: &Call,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let kind = match PatchType::of(call)? {
            PatchType::Other(kind) => kind,
            PatchType::Apply => return Err(super::apply::unsupported()),
        };
        let options = WriteOptions::parse(&call.info.query, "PatchOptions", false)?;
        let patch = Patch { kind, body: body::read(body).await? };
        let target = schema::type_of_kind(SCALE.group, SCALE.version, SCALE.kind)
            .ok_or_else(ApiError::unknown_resource)?;
        let mut wish = |present: &Value| {
            let scale = patch.apply(call, &options, present, target)?;
            decode::match_name(call, &scale)?;
            Ok(scale)
        };
        self.change_scale(call, &options, &mut wish).await
    }

    /// Carries the replicas of the wished Scale over to the object.
    async fn change_scale(
        &self,
        call: &Call,
        options: &WriteOptions,
        wish: &mut (dyn FnMut(&Value) -> Result<Value, ApiError> + Send),
    ) -> Result<Response, ApiError> {
        let mut wish = |old: &Value| {
            let scale = wish(&scale_of(old))?;
            check(&call.name, &scale)?;
            let mut new = old.clone();
            for field in ["uid", "resourceVersion"] {
                let given = meta(&scale, field);
                kijabi_meta::objectmeta::set(
                    &mut new,
                    field,
                    match given {
                        "" => Value::Null,
                        given => given.into(),
                    },
                );
            }
            new["spec"]["replicas"] = scale["spec"]["replicas"].as_i64().unwrap_or(0).into();
            Ok(new)
        };
        let change = Change {
            call,
            options,
            rules: Rules::Object,
            tracking: Tracking::Update,
            wish: &mut wish,
        };
        let changed = self.change(change).await?.ok_or_else(|| call.not_found())?;
        Ok(call.output.plain(StatusCode::OK, &scale_of(&changed.object)))
    }
}

fn check(name: &str, scale: &Value) -> Result<(), ApiError> {
    let replicas = &scale["spec"]["replicas"];
    if replicas.as_i64().unwrap_or(0) >= 0 {
        return Ok(());
    }
    let detail = "must be greater than or equal to 0";
    let error = FieldError::invalid("spec.replicas", replicas, detail);
    Err(ApiError::invalid("autoscaling", "Scale", name, &[error]))
}

/// The Scale of a Deployment or ReplicaSet.
fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {},
        "status": {"replicas": number(&object["status"]["replicas"])},
    });
    let wanted = number(&object["spec"]["replicas"]);
    if wanted != 0 {
        scale["spec"]["replicas"] = wanted.into();
    }
    let selector = LabelSelector::from_object(object["spec"].get("selector"));
    if let Ok(selector) = selector
        && !selector.to_string().is_empty()
    {
        scale["status"]["selector"] = selector.to_string().into();
    }
    scale
}

//! PUT: the object, its status or a namespace's finalizers.
//!
//! Owns: nothing but the way from the body to the change. Must not know: how a change is stored. A
//! newcomer's trap: a PUT may create the object for a few kinds (leases, endpoints).

use http::StatusCode;
use serde_json::Value;

use super::change::{Change, Rules};
use super::managed::{self, Tracking};
use super::options::WriteOptions;
use super::{Call, Handlers, decode};
use crate::body::RequestBody;
use crate::exchange::Response;
use crate::status::ApiError;

impl Handlers {
    pub(super) async fn put(&self, call: &Call, body: RequestBody) -> Result<Response, ApiError> {
        let options = WriteOptions::parse(&call.info.query, "UpdateOptions", false)?;
        let expected = decode::expected(call.kind);
        let mut object = decode::read(call, body, expected, options.field_validation).await?;
        decode::match_namespace(call, &mut object)?;
        decode::match_name(call, &object)?;
        call.kind.strategy.default(&mut object);
        let rules = rules_of(call.subresource());
        let mut wish = |_: &Value| Ok(object.clone());
        let change =
            Change { call, options: &options, rules, tracking: Tracking::Update, wish: &mut wish };
        if let Some(changed) = self.change(change).await? {
            return call.output.object(StatusCode::OK, call.kind, &changed.object);
        }
        if rules != Rules::Object || !call.kind.strategy.may_create_on_update() {
            return Err(call.not_found());
        }
        managed::created(call, &options, &mut object);
        let created = self.insert(call, &options, object).await?;
        call.output.object(StatusCode::CREATED, call.kind, &created)
    }
}

/// The rules that a subresource's update is under.
pub(super) fn rules_of(subresource: &str) -> Rules {
    match subresource {
        "status" => Rules::Status,
        "finalize" => Rules::Finalize,
        _ => Rules::Object,
    }
}

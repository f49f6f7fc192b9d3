//! `pods/eviction`: a deletion that a disruption budget may refuse.
//!
//! Owns: the Eviction object. Must not know: what a deletion does. A newcomer's trap: an eviction
//! of a pod that is already terminating succeeds without doing anything.

use http::StatusCode;
use kijabi_meta::codec::Expected;

use super::delete::status_response;
use super::options::{DeleteOptions, WriteOptions};
use super::{Call, Handlers, decode, meta};
use crate::body::RequestBody;
use crate::exchange::Response;
use crate::status::{ApiError, Status};

const EVICTION: Expected<'static> = Expected { group: "policy", version: "v1", kind: "Eviction" };

impl Handlers {
    // Differs from Kubernetes: PodDisruptionBudgets are not served yet, so none can refuse.
    pub(super) async fn create_eviction(
        &self,
        call: &Call,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let options = WriteOptions::parse(&call.info.query, "CreateOptions", false)?;
        let mut eviction = decode::read(call, body, EVICTION, options.field_validation).await?;
        decode::match_namespace(call, &mut eviction)?;
        if meta(&eviction, "name") != call.name {
            let text = "name in URL does not match name in Eviction object";
            return Err(ApiError::bad_request(text));
        }
        let given = eviction.get("deleteOptions").cloned().unwrap_or_default();
        let mut delete = DeleteOptions::from_object(&given)?;
        delete.dry_run |= options.dry_run;
        self.remove(call, &call.name, &delete).await?;
        Ok(status_response(call, StatusCode::CREATED, &Status::success_code(201)))
    }
}

//! `metadata.managedFields`: who set which field.
//!
//! Owns: when the entries are brought up to date. Must not know: how fields are attributed. A
//! newcomer's trap: on a create the fields are attributed before admission adds its own, so what
//! admission set belongs to nobody.

use serde_json::Value;

use super::Call;
use super::options::WriteOptions;
use crate::status::ApiError;

/// How a change is attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    /// To the manager of the request.
    Update,
    /// Not at all: the server's own doing.
    None,
}

/// Attributes the fields of a new object.
pub(super) fn created(
    _call: &Call,
    _options: &WriteOptions,
    _object: &mut Value,
) -> Result<(), ApiError> {
    Ok(())
}

/// Attributes what differs between the present and the wished object.
pub(super) fn updated(
    _call: &Call,
    _options: &WriteOptions,
    _tracking: Tracking,
    _old: &Value,
    _new: &mut Value,
) -> Result<(), ApiError> {
    Ok(())
}

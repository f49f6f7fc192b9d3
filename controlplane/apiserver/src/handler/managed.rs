//! `metadata.managedFields`: who set which field.
//!
//! Owns: when the entries are brought up to date, and in whose name. Must not know: how fields are
//! attributed. A newcomer's trap: on a create the fields are attributed before admission adds its
//! own, so what admission set belongs to nobody.

use jiff::Timestamp;
use kijabi_base::clock;
use kijabi_meta::codec;
use kijabi_meta::kind::Kind;
use kijabi_meta::managed::{self, Rules, Write};
use serde_json::{Map, Value};

use super::Call;
use super::options::WriteOptions;
use super::patch::type_of;

/// How a change is attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    /// To the manager of the request.
    Update,
    /// Not here: the server's own doing, or an apply that did it itself.
    None,
}

/// Attributes the fields of a new object.
pub(super) fn created(call: &Call, options: &WriteOptions, object: &mut Value) {
    with_write(call, options, |rules, write| {
        managed::track_update(rules, &empty(call.kind), object, write);
    });
}

/// Attributes what differs between the present and the wished object.
pub(super) fn updated(call: &Call, options: &WriteOptions, old: &Value, new: &mut Value) {
    with_write(call, options, |rules, write| managed::track_update(rules, old, new, write));
    if call.subresource() == "scale" {
        forget_scale_times(new);
    }
}

/// Kubernetes keeps no time for what was set through a Scale; entries without one stand first.
fn forget_scale_times(object: &mut Value) {
    let Some(entries) = object["metadata"]["managedFields"].as_array_mut() else { return };
    for entry in entries.iter_mut().filter(|entry| entry["subresource"] == "scale") {
        if let Some(fields) = entry.as_object_mut() {
            fields.remove("time");
        }
    }
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    entries.sort_by_key(|entry| (text(entry, "operation"), text(entry, "time")));
}

/// The empty object of a kind in normal form.
pub(super) fn empty(kind: &Kind) -> Value {
    let mut object = codec::normalized(Value::Object(Map::new()), type_of(kind));
    object["kind"] = kind.kind.into();
    object["apiVersion"] = kind.api_version().into();
    object
}

/// Calls `act` with what a request's writes are recorded as.
pub(super) fn with_write<T>(
    call: &Call,
    options: &WriteOptions,
    act: impl FnOnce(Rules<'_>, &Write<'_>) -> T,
) -> T {
    let manager = call.manager(&options.field_manager);
    let api_version = call.kind.api_version();
    let write = Write {
        manager: &manager,
        api_version: &api_version,
        subresource: call.subresource(),
        time: now(),
        reset: reset_fields(call.kind, call.subresource()),
    };
    act(Rules::Known(type_of(call.kind)), &write)
}

/// The fields that a request at this place cannot change and so does not own.
fn reset_fields(kind: &Kind, subresource: &str) -> &'static [&'static [&'static str]] {
    match subresource {
        "status" if kind.plural == "pods" => {
            &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
        }
        "status" if kind.group == "apps" => &[&["spec"], &["metadata", "labels"]],
        "status" => &[&["spec"]],
        "finalize" => &[&["status"]],
        _ if kind.subresource("status").is_some() => &[&["status"]],
        _ => &[],
    }
}

/// The wall clock, in whole seconds as `managedFields` has it.
pub(super) fn now() -> Timestamp {
    Timestamp::from_second((clock::wall_ms() / 1_000) as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

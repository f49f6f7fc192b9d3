//! The table of kinds: adding a kind is one entry here and one file with its rules.
//!
//! Owns: what the API server must know of a kind to serve it. Must not know: how it is served. A
//! newcomer's trap: several entries may share one storage prefix (core/v1 and events.k8s.io/v1
//! Events are the same objects); `storage_version_of` says which entry's form is stored.

use jiff::Timestamp;
use serde_json::Value;

use crate::field::FieldError;

/// Everything the API server must know to serve one resource of one group and version.
#[derive(Debug)]
pub struct Kind {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// API version within the group, such as `v1`.
    pub version: &'static str,
    /// The kind, such as `Pod`.
    pub kind: &'static str,
    /// The resource in paths, such as `pods`.
    pub plural: &'static str,
    /// The singular name, such as `pod`.
    pub singular: &'static str,
    /// Short names for clients, such as `po`.
    pub short_names: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// The verbs that discovery shows and the server takes, sorted as Kubernetes sorts them.
    pub verbs: &'static [&'static str],
    /// The subresources.
    pub subresources: &'static [Subresource],
    /// Path of the resource below `/registry/`, such as `pods` or `services/specs`.
    pub storage_prefix: &'static str,
    /// The type in the schema table, such as `io.k8s.api.core.v1.Pod`.
    pub schema: &'static str,
    /// Rules of this kind.
    pub strategy: &'static dyn Strategy,
    /// Columns of the kind's table, without the server-added ones.
    pub columns: &'static [Column],
}

/// A subresource of a resource.
#[derive(Debug)]
pub struct Subresource {
    /// The last path segment, such as `status`.
    pub name: &'static str,
    /// Group, version, kind of its body; group and version empty when they are the resource's own.
    pub gvk: (&'static str, &'static str, &'static str),
    /// The verbs.
    pub verbs: &'static [&'static str],
}

/// One column of a kind's table (`kubectl get`).
#[derive(Debug)]
pub struct Column {
    /// Header, such as `Ready`.
    pub name: &'static str,
    /// JSON type: `string`, `integer`, `date`, …
    pub kind: &'static str,
    /// OpenAPI format, `name` for the name column.
    pub format: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
    /// One line of help.
    pub description: &'static str,
}

/// The rules of one kind. All pure; every method works on the decoded, version-converted object.
/// Metadata common to all kinds (name, labels, ownerReferences, …) is handled by the caller.
pub trait Strategy: Sync + std::fmt::Debug {
    /// Fills in defaults, as Kubernetes does when it reads an object from a client or the store.
    fn default(&self, object: &mut Value);

    /// Clears what a client may not set at creation (status, …) and sets what the server sets
    /// (generation, phase, …). Runs before validation.
    fn prepare_create(&self, object: &mut Value);

    /// The same for an update of the main resource: status comes from `old`, `generation` grows
    /// when the spec differs.
    fn prepare_update(&self, object: &mut Value, old: &Value);

    /// The same for an update through `/status`: all but status and some metadata comes from `old`.
    fn prepare_status_update(&self, object: &mut Value, old: &Value);

    /// What is wrong with a new object, `metadata` apart.
    fn validate_create(&self, object: &Value) -> Vec<FieldError>;

    /// What is wrong with an update, `metadata` apart.
    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError>;

    /// What is wrong with an update through `/status`.
    fn validate_status_update(&self, object: &Value, old: &Value) -> Vec<FieldError>;

    /// What is wrong with a name of this kind: the details of field errors, empty when it is good.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String>;

    /// The value of a field that a field selector may name, or `None` if the field is not
    /// supported. `metadata.name` and `metadata.namespace` are handled by the caller.
    fn selectable_field(&self, object: &Value, field: &str) -> Option<String>;

    /// Whether `field` may stand in a field selector (again without the two metadata fields).
    fn is_selectable(&self, field: &str) -> bool;

    /// The cells of the object's table row, one a column of [`Kind::columns`].
    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value>;

    /// Grace period in seconds for a deletion with the asked period, or `None` if objects of this
    /// kind are deleted at once. Pods answer with their own period.
    fn grace_period_seconds(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether an update may create the object (`allowCreateOnUpdate`: leases, endpoints, …).
    fn may_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without a resourceVersion is taken (`allowUnconditionalUpdate`).
    fn may_update_unconditionally(&self) -> bool {
        true
    }
}

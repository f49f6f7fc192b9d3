//! The table of kinds: adding a kind is one entry here and one file with its rules.
//!
//! Owns: what the API server must know of a kind to serve it. Must not know: how it is served. A
//! newcomer's trap: several entries may share one storage prefix (core/v1 and events.k8s.io/v1
//! Events are the same objects); [`Kind::storage`] says which entry's form is stored.

use jiff::Timestamp;
use serde_json::Value;

use crate::field::FieldError;
pub use crate::kinds::later::LATER;
pub use crate::kinds::served::KINDS;

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
    /// Text of the `Warning` header that every answer about this resource carries, or empty.
    pub deprecation: &'static str,
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

/// The rules of one kind. All pure; every method works on the decoded object in this entry's version.
/// Metadata common to all kinds (name, labels, ownerReferences, …) is handled by the caller.
/// A method that a kind does not write itself does nothing, refuses nothing, supports nothing.
pub trait Strategy: Sync + std::fmt::Debug {
    /// Makes an object of this version the one that is stored.
    fn to_storage(&self, _object: &mut Value) {}

    /// Makes a stored object one of this version.
    fn to_served(&self, _object: &mut Value) {}

    /// Fills in defaults, as Kubernetes does when it reads an object from a client or the store.
    fn default(&self, _object: &mut Value) {}

    /// Clears what a client may not set at creation (status, …) and sets what the server sets
    /// (generation, phase, …). Runs before validation.
    fn prepare_create(&self, _object: &mut Value) {}

    /// The same for an update of the main resource: status comes from `old`, `generation` grows
    /// when the spec differs.
    fn prepare_update(&self, _object: &mut Value, _old: &Value) {}

    /// The same for an update through `/status`: all but status and some metadata comes from `old`.
    fn prepare_status_update(&self, _object: &mut Value, _old: &Value) {}

    /// What is wrong with a new object, `metadata` apart.
    fn validate_create(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with an update, `metadata` apart.
    fn validate_update(&self, _object: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with an update through `/status`.
    fn validate_status_update(&self, _object: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with a name of this kind: the details of field errors, empty when it is good.
    /// With `prefix`, `name` is a `generateName`. Most kinds take any DNS subdomain.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::kinds::check::subdomain_name(name, prefix)
    }

    /// Texts of `Warning` headers for a request that creates (`old` is `None`) or updates the
    /// object.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// The value of a field that a field selector may name, or `None` if the field is not
    /// supported. `metadata.name` and `metadata.namespace` are handled by the caller.
    fn selectable_field(&self, _object: &Value, _field: &str) -> Option<String> {
        None
    }

    /// Whether `field` may stand in a field selector (again without the two metadata fields).
    fn is_selectable(&self, _field: &str) -> bool {
        false
    }

    /// The cells of the object's table row, one a column of [`Kind::columns`].
    fn row(&self, _object: &Value, _now: Timestamp) -> Vec<Value> {
        Vec::new()
    }

    /// The conditions of the object's table row; most rows have none.
    fn row_conditions(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }

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

/// The entry of a resource.
pub fn lookup(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|one| one.group == group && one.version == version && one.plural == plural)
}

/// The entry of a kind.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|one| one.group == group && one.version == version && one.kind == kind)
}

/// The groups that are served with their versions, the preferred one first, in Kubernetes' order
/// (which sorts by priority, not by name).
pub fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    for one in KINDS {
        match groups.iter_mut().find(|(group, _)| *group == one.group) {
            Some((_, versions)) if versions.contains(&one.version) => {}
            Some((_, versions)) => versions.push(one.version),
            None => groups.push((one.group, vec![one.version])),
        }
    }
    groups
}

impl Kind {
    /// `v1` or `group/version`, as `apiVersion` has it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.into()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The entry whose form is stored for the objects of this one.
    pub fn storage(&'static self) -> &'static Kind {
        let first = |one: &&Kind| {
            !one.storage_prefix.is_empty() && one.storage_prefix == self.storage_prefix
        };
        KINDS.iter().find(first).unwrap_or(self)
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// Whether the resource takes a verb.
    pub fn takes(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_in_the_order_of_kubernetes() {
        let names: Vec<_> = groups().into_iter().map(|(group, _)| group).collect();
        let wanted = [
            "",
            "apps",
            "events.k8s.io",
            "authentication.k8s.io",
            "authorization.k8s.io",
            "coordination.k8s.io",
            "discovery.k8s.io",
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn rows_have_a_cell_for_each_column() {
        for kind in KINDS.iter().chain(LATER) {
            let mut object = serde_json::json!({"metadata": {"name": "x"}});
            kind.strategy.default(&mut object);
            let cells = kind.strategy.row(&object, Timestamp::UNIX_EPOCH).len();
            assert_eq!(cells, kind.columns.len(), "{}", kind.plural);
        }
    }

    #[test]
    fn both_events_are_stored_as_the_core_one() {
        let new = lookup("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(new.storage().group, "");
        assert_eq!(lookup("", "v1", "pods").unwrap().storage().plural, "pods");
        assert_eq!(lookup("", "v1", "bindings").unwrap().storage().plural, "bindings");
        assert_eq!(lookup("apps", "v2", "deployments").map(|one| one.plural), None);
    }
}

//! The table of kinds: adding a kind is one entry here and one file with its rules.
//!
//! Owns: what the API server must know of a kind to serve it. Must not know: how it is served. A
//! newcomer's trap: several entries may share one storage prefix (core/v1 and events.k8s.io/v1
//! Events are the same objects); [`Kind::storage`] says which entry's form is stored.

use jiff::Timestamp;
use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::{self, table};

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

const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

const fn subresource(
    name: &'static str,
    gvk: (&'static str, &'static str, &'static str),
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, gvk, verbs }
}

const fn status(kind: &'static str) -> Subresource {
    subresource("status", ("", "", kind), STATUS_VERBS)
}

const SCALE: Subresource = subresource("scale", ("autoscaling", "v1", "Scale"), STATUS_VERBS);

/// What most entries have in common.
const COMMON: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: ALL_VERBS,
    subresources: &[],
    storage_prefix: "",
    schema: "",
    strategy: &kinds::binding::Binding,
    columns: &[],
    deprecation: "",
};

/// The kinds that are served, group by group in Kubernetes' order, resources by name.
pub static KINDS: &[Kind] = &[
    // Bindings are never stored: the resource has no verb but `create`, and no storage prefix.
    Kind {
        kind: "Binding",
        plural: "bindings",
        singular: "binding",
        verbs: CREATE,
        schema: "io.k8s.api.core.v1.Binding",
        strategy: &kinds::binding::Binding,
        ..COMMON
    },
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        storage_prefix: "configmaps",
        schema: "io.k8s.api.core.v1.ConfigMap",
        strategy: &kinds::configmap::ConfigMap,
        columns: table::CONFIGMAP,
        ..COMMON
    },
    Kind {
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        storage_prefix: "services/endpoints",
        schema: "io.k8s.api.core.v1.Endpoints",
        strategy: &kinds::endpoints::Endpoints,
        columns: table::ENDPOINTS,
        deprecation: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        ..COMMON
    },
    Kind {
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        storage_prefix: "events",
        schema: "io.k8s.api.core.v1.Event",
        strategy: &kinds::event::CoreEvent,
        columns: table::EVENT,
        ..COMMON
    },
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
        subresources: &[
            subresource("finalize", ("", "", "Namespace"), &["update"]),
            status("Namespace"),
        ],
        storage_prefix: "namespaces",
        schema: "io.k8s.api.core.v1.Namespace",
        strategy: &kinds::namespace::Namespace,
        columns: table::NAMESPACE,
        ..COMMON
    },
    Kind {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        subresources: &[status("Node")],
        storage_prefix: "minions",
        schema: "io.k8s.api.core.v1.Node",
        strategy: &kinds::node::Node,
        columns: table::NODE,
        ..COMMON
    },
    Kind {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            subresource("binding", ("", "", "Binding"), CREATE),
            subresource("eviction", ("policy", "v1", "Eviction"), CREATE),
            subresource("log", ("", "", "Pod"), &["get"]),
            status("Pod"),
        ],
        storage_prefix: "pods",
        schema: "io.k8s.api.core.v1.Pod",
        strategy: &kinds::pod::Pod,
        columns: table::POD,
        ..COMMON
    },
    Kind {
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        storage_prefix: "secrets",
        schema: "io.k8s.api.core.v1.Secret",
        strategy: &kinds::secret::Secret,
        columns: table::SECRET,
        ..COMMON
    },
    Kind {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        subresources: &[subresource(
            "token",
            ("authentication.k8s.io", "v1", "TokenRequest"),
            CREATE,
        )],
        storage_prefix: "serviceaccounts",
        schema: "io.k8s.api.core.v1.ServiceAccount",
        strategy: &kinds::serviceaccount::ServiceAccount,
        columns: table::SERVICE_ACCOUNT,
        ..COMMON
    },
    Kind {
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[status("Service")],
        storage_prefix: "services/specs",
        schema: "io.k8s.api.core.v1.Service",
        strategy: &kinds::service::Service,
        columns: table::SERVICE,
        ..COMMON
    },
    Kind {
        group: "apps",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[SCALE, status("Deployment")],
        storage_prefix: "deployments",
        schema: "io.k8s.api.apps.v1.Deployment",
        strategy: &kinds::deployment::Deployment,
        columns: table::DEPLOYMENT,
        ..COMMON
    },
    Kind {
        group: "apps",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[SCALE, status("ReplicaSet")],
        storage_prefix: "replicasets",
        schema: "io.k8s.api.apps.v1.ReplicaSet",
        strategy: &kinds::replicaset::ReplicaSet,
        columns: table::REPLICA_SET,
        ..COMMON
    },
    Kind {
        group: "events.k8s.io",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        storage_prefix: "events",
        schema: "io.k8s.api.events.v1.Event",
        strategy: &kinds::event::NewEvent,
        columns: table::EVENT,
        ..COMMON
    },
    // Reviews are questions: like bindings, they are created and not kept.
    Kind {
        group: "authentication.k8s.io",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        namespaced: false,
        verbs: CREATE,
        schema: "io.k8s.api.authentication.v1.SelfSubjectReview",
        strategy: &kinds::binding::Binding,
        ..COMMON
    },
    Kind {
        group: "authentication.k8s.io",
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        namespaced: false,
        verbs: CREATE,
        schema: "io.k8s.api.authentication.v1.TokenReview",
        strategy: &kinds::binding::Binding,
        ..COMMON
    },
    Kind {
        group: "authorization.k8s.io",
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        verbs: CREATE,
        schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
        strategy: &kinds::binding::Binding,
        ..COMMON
    },
    Kind {
        group: "authorization.k8s.io",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        namespaced: false,
        verbs: CREATE,
        schema: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
        strategy: &kinds::binding::Binding,
        ..COMMON
    },
    Kind {
        group: "authorization.k8s.io",
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        namespaced: false,
        verbs: CREATE,
        schema: "io.k8s.api.authorization.v1.SubjectAccessReview",
        strategy: &kinds::binding::Binding,
        ..COMMON
    },
    Kind {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        storage_prefix: "leases",
        schema: "io.k8s.api.coordination.v1.Lease",
        strategy: &kinds::lease::Lease,
        columns: table::LEASE,
        ..COMMON
    },
    Kind {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        storage_prefix: "endpointslices",
        schema: "io.k8s.api.discovery.v1.EndpointSlice",
        strategy: &kinds::endpointslice::EndpointSlice,
        columns: table::ENDPOINT_SLICE,
        ..COMMON
    },
];

/// Kinds whose rules are written but that are not served, since nothing acts on them yet.
pub static LATER: &[Kind] = &[
    Kind {
        kind: "LimitRange",
        plural: "limitranges",
        singular: "limitrange",
        short_names: &["limits"],
        storage_prefix: "limitranges",
        schema: "io.k8s.api.core.v1.LimitRange",
        strategy: &kinds::limitrange::LimitRange,
        columns: table::ROLE,
        ..COMMON
    },
    Kind {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        subresources: &[status("PersistentVolumeClaim")],
        storage_prefix: "persistentvolumeclaims",
        schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
        strategy: &kinds::persistentvolumeclaim::PersistentVolumeClaim,
        columns: table::PERSISTENT_VOLUME_CLAIM,
        ..COMMON
    },
    Kind {
        kind: "PodTemplate",
        plural: "podtemplates",
        singular: "podtemplate",
        storage_prefix: "podtemplates",
        schema: "io.k8s.api.core.v1.PodTemplate",
        strategy: &kinds::podtemplate::PodTemplate,
        columns: table::POD_TEMPLATE,
        ..COMMON
    },
    Kind {
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        short_names: &["rc"],
        categories: &["all"],
        subresources: &[SCALE, status("ReplicationController")],
        storage_prefix: "controllers",
        schema: "io.k8s.api.core.v1.ReplicationController",
        strategy: &kinds::replicationcontroller::ReplicationController,
        columns: table::REPLICATION_CONTROLLER,
        ..COMMON
    },
    Kind {
        kind: "ResourceQuota",
        plural: "resourcequotas",
        singular: "resourcequota",
        short_names: &["quota"],
        subresources: &[status("ResourceQuota")],
        storage_prefix: "resourcequotas",
        schema: "io.k8s.api.core.v1.ResourceQuota",
        strategy: &kinds::resourcequota::ResourceQuota,
        columns: table::RESOURCE_QUOTA,
        ..COMMON
    },
    Kind {
        group: "apps",
        kind: "ControllerRevision",
        plural: "controllerrevisions",
        singular: "controllerrevision",
        storage_prefix: "controllerrevisions",
        schema: "io.k8s.api.apps.v1.ControllerRevision",
        strategy: &kinds::controllerrevision::ControllerRevision,
        columns: table::CONTROLLER_REVISION,
        ..COMMON
    },
    Kind {
        group: "apps",
        kind: "DaemonSet",
        plural: "daemonsets",
        singular: "daemonset",
        short_names: &["ds"],
        categories: &["all"],
        subresources: &[status("DaemonSet")],
        storage_prefix: "daemonsets",
        schema: "io.k8s.api.apps.v1.DaemonSet",
        strategy: &kinds::daemonset::DaemonSet,
        columns: table::DAEMON_SET,
        ..COMMON
    },
    Kind {
        group: "apps",
        kind: "StatefulSet",
        plural: "statefulsets",
        singular: "statefulset",
        short_names: &["sts"],
        categories: &["all"],
        subresources: &[SCALE, status("StatefulSet")],
        storage_prefix: "statefulsets",
        schema: "io.k8s.api.apps.v1.StatefulSet",
        strategy: &kinds::statefulset::StatefulSet,
        columns: table::STATEFUL_SET,
        ..COMMON
    },
    Kind {
        group: "batch",
        kind: "CronJob",
        plural: "cronjobs",
        singular: "cronjob",
        short_names: &["cj"],
        categories: &["all"],
        subresources: &[status("CronJob")],
        storage_prefix: "cronjobs",
        schema: "io.k8s.api.batch.v1.CronJob",
        strategy: &kinds::cronjob::CronJob,
        columns: table::CRON_JOB,
        ..COMMON
    },
    Kind {
        group: "batch",
        kind: "Job",
        plural: "jobs",
        singular: "job",
        categories: &["all"],
        subresources: &[status("Job")],
        storage_prefix: "jobs",
        schema: "io.k8s.api.batch.v1.Job",
        strategy: &kinds::job::Job,
        columns: table::JOB,
        ..COMMON
    },
    Kind {
        group: "networking.k8s.io",
        kind: "IngressClass",
        plural: "ingressclasses",
        singular: "ingressclass",
        namespaced: false,
        storage_prefix: "ingressclasses",
        schema: "io.k8s.api.networking.v1.IngressClass",
        strategy: &kinds::ingressclass::IngressClass,
        columns: table::INGRESS_CLASS,
        ..COMMON
    },
    Kind {
        group: "networking.k8s.io",
        kind: "Ingress",
        plural: "ingresses",
        singular: "ingress",
        short_names: &["ing"],
        subresources: &[status("Ingress")],
        storage_prefix: "ingress",
        schema: "io.k8s.api.networking.v1.Ingress",
        strategy: &kinds::ingress::Ingress,
        columns: table::INGRESS,
        ..COMMON
    },
    Kind {
        group: "networking.k8s.io",
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        singular: "networkpolicy",
        short_names: &["netpol"],
        storage_prefix: "networkpolicies",
        schema: "io.k8s.api.networking.v1.NetworkPolicy",
        strategy: &kinds::networkpolicy::NetworkPolicy,
        columns: table::NETWORK_POLICY,
        ..COMMON
    },
    Kind {
        group: "policy",
        kind: "PodDisruptionBudget",
        plural: "poddisruptionbudgets",
        singular: "poddisruptionbudget",
        short_names: &["pdb"],
        subresources: &[status("PodDisruptionBudget")],
        storage_prefix: "poddisruptionbudgets",
        schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
        strategy: &kinds::poddisruptionbudget::PodDisruptionBudget,
        columns: table::POD_DISRUPTION_BUDGET,
        ..COMMON
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        singular: "clusterrolebinding",
        namespaced: false,
        storage_prefix: "clusterrolebindings",
        schema: "io.k8s.api.rbac.v1.ClusterRoleBinding",
        strategy: &kinds::rbac::Binding { cluster: true },
        columns: table::ROLE_BINDING,
        ..COMMON
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "ClusterRole",
        plural: "clusterroles",
        singular: "clusterrole",
        namespaced: false,
        storage_prefix: "clusterroles",
        schema: "io.k8s.api.rbac.v1.ClusterRole",
        strategy: &kinds::rbac::Role { cluster: true },
        columns: table::ROLE,
        ..COMMON
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "RoleBinding",
        plural: "rolebindings",
        singular: "rolebinding",
        storage_prefix: "rolebindings",
        schema: "io.k8s.api.rbac.v1.RoleBinding",
        strategy: &kinds::rbac::Binding { cluster: false },
        columns: table::ROLE_BINDING,
        ..COMMON
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        kind: "Role",
        plural: "roles",
        singular: "role",
        storage_prefix: "roles",
        schema: "io.k8s.api.rbac.v1.Role",
        strategy: &kinds::rbac::Role { cluster: false },
        columns: table::ROLE,
        ..COMMON
    },
    Kind {
        group: "storage.k8s.io",
        kind: "StorageClass",
        plural: "storageclasses",
        singular: "storageclass",
        short_names: &["sc"],
        namespaced: false,
        storage_prefix: "storageclasses",
        schema: "io.k8s.api.storage.v1.StorageClass",
        strategy: &kinds::storageclass::StorageClass,
        columns: table::STORAGE_CLASS,
        ..COMMON
    },
    Kind {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        plural: "priorityclasses",
        singular: "priorityclass",
        short_names: &["pc"],
        namespaced: false,
        storage_prefix: "priorityclasses",
        schema: "io.k8s.api.scheduling.v1.PriorityClass",
        strategy: &kinds::priorityclass::PriorityClass,
        columns: table::PRIORITY_CLASS,
        ..COMMON
    },
    Kind {
        group: "node.k8s.io",
        kind: "RuntimeClass",
        plural: "runtimeclasses",
        singular: "runtimeclass",
        namespaced: false,
        storage_prefix: "runtimeclasses",
        schema: "io.k8s.api.node.v1.RuntimeClass",
        strategy: &kinds::runtimeclass::RuntimeClass,
        columns: table::RUNTIME_CLASS,
        ..COMMON
    },
];

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

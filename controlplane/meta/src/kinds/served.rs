//! The table of the kinds that are served.
//!
//! Owns: one entry a resource, group by group in the order of Kubernetes' discovery. Must not know:
//! how an entry is served. A newcomer's trap: the order is what `kubectl api-resources` shows.

use super::{binding, table};
use crate::kind::{Kind, Subresource};

pub(super) const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
pub(super) const CREATE: &[&str] = &["create"];
pub(super) const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

pub(super) const fn subresource(
    name: &'static str,
    gvk: (&'static str, &'static str, &'static str),
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, gvk, verbs }
}

pub(super) const fn status(kind: &'static str) -> Subresource {
    subresource("status", ("", "", kind), STATUS_VERBS)
}

pub(super) const SCALE: Subresource =
    subresource("scale", ("autoscaling", "v1", "Scale"), STATUS_VERBS);

/// What most entries have in common.
pub(super) const COMMON: Kind = Kind {
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
    strategy: &binding::Binding,
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
        strategy: &super::binding::Binding,
        ..COMMON
    },
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        storage_prefix: "configmaps",
        schema: "io.k8s.api.core.v1.ConfigMap",
        strategy: &super::configmap::ConfigMap,
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
        strategy: &super::endpoints::Endpoints,
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
        strategy: &super::event::CoreEvent,
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
        strategy: &super::namespace::Namespace,
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
        strategy: &super::node::Node,
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
        strategy: &super::pod::Pod,
        columns: table::POD,
        ..COMMON
    },
    Kind {
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        storage_prefix: "secrets",
        schema: "io.k8s.api.core.v1.Secret",
        strategy: &super::secret::Secret,
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
        strategy: &super::serviceaccount::ServiceAccount,
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
        strategy: &super::service::Service,
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
        strategy: &super::deployment::Deployment,
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
        strategy: &super::replicaset::ReplicaSet,
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
        strategy: &super::event::NewEvent,
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
        strategy: &super::binding::Binding,
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
        strategy: &super::binding::Binding,
        ..COMMON
    },
    Kind {
        group: "authorization.k8s.io",
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        verbs: CREATE,
        schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
        strategy: &super::binding::Binding,
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
        strategy: &super::binding::Binding,
        ..COMMON
    },
    Kind {
        group: "authorization.k8s.io",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        namespaced: false,
        verbs: CREATE,
        schema: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
        strategy: &super::binding::Binding,
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
        strategy: &super::binding::Binding,
        ..COMMON
    },
    Kind {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        storage_prefix: "leases",
        schema: "io.k8s.api.coordination.v1.Lease",
        strategy: &super::lease::Lease,
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
        strategy: &super::endpointslice::EndpointSlice,
        columns: table::ENDPOINT_SLICE,
        ..COMMON
    },
];

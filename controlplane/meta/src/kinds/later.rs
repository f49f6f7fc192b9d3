//! The table of the kinds that are written but not served.
//!
//! Owns: entries that wait for what acts on them: a controller, an admission rule, an authorizer.
//! Must not know: when that is. A newcomer's trap: to serve one is to move its entry to the table of
//! served kinds, at its place in the order.

use super::served::{COMMON, SCALE, status};
use super::table;
use crate::kind::Kind;

/// Kinds whose rules are written but that are not served, since nothing acts on them yet.
pub static LATER: &[Kind] = &[
    Kind {
        kind: "LimitRange",
        plural: "limitranges",
        singular: "limitrange",
        short_names: &["limits"],
        storage_prefix: "limitranges",
        schema: "io.k8s.api.core.v1.LimitRange",
        strategy: &super::limitrange::LimitRange,
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
        strategy: &super::persistentvolumeclaim::PersistentVolumeClaim,
        columns: table::PERSISTENT_VOLUME_CLAIM,
        ..COMMON
    },
    Kind {
        kind: "PodTemplate",
        plural: "podtemplates",
        singular: "podtemplate",
        storage_prefix: "podtemplates",
        schema: "io.k8s.api.core.v1.PodTemplate",
        strategy: &super::podtemplate::PodTemplate,
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
        strategy: &super::replicationcontroller::ReplicationController,
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
        strategy: &super::resourcequota::ResourceQuota,
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
        strategy: &super::controllerrevision::ControllerRevision,
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
        strategy: &super::daemonset::DaemonSet,
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
        strategy: &super::statefulset::StatefulSet,
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
        strategy: &super::cronjob::CronJob,
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
        strategy: &super::job::Job,
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
        strategy: &super::ingressclass::IngressClass,
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
        strategy: &super::ingress::Ingress,
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
        strategy: &super::networkpolicy::NetworkPolicy,
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
        strategy: &super::poddisruptionbudget::PodDisruptionBudget,
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
        strategy: &super::rbac::Binding { cluster: true },
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
        strategy: &super::rbac::Role { cluster: true },
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
        strategy: &super::rbac::Binding { cluster: false },
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
        strategy: &super::rbac::Role { cluster: false },
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
        strategy: &super::storageclass::StorageClass,
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
        strategy: &super::priorityclass::PriorityClass,
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
        strategy: &super::runtimeclass::RuntimeClass,
        columns: table::RUNTIME_CLASS,
        ..COMMON
    },
];

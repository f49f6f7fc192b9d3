//! The rules of each kind: one file a kind, and what they share.
//!
//! Owns: defaults, preparation, validation and table rows. Must not know: requests or storage. A
//! newcomer's trap: what admission and allocators do (service accounts, priorities, cluster IPs)
//! is not here; these rules see one object, or its old and new form, and nothing else.

pub mod binding;
pub(crate) mod check;
pub mod configmap;
pub mod controllerrevision;
pub(crate) mod cron;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod event;
pub(crate) mod golang;
pub mod ingress;
pub mod ingressclass;
pub mod job;
pub mod later;
pub mod lease;
pub mod limitrange;
pub(crate) mod look;
pub mod namespace;
pub mod networkpolicy;
pub mod node;
pub mod persistentvolumeclaim;
pub mod pod;
pub mod poddisruptionbudget;
pub mod podtemplate;
pub mod priorityclass;
pub mod rbac;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod runtimeclass;
pub mod secret;
pub mod served;
pub mod service;
pub mod serviceaccount;
pub mod show;
pub mod statefulset;
pub mod storageclass;
pub(crate) mod table;
pub(crate) mod template;

//! The caches all controllers share: one watch a kind, however many controllers read it.
//!
//! Owns: which kinds and which indexes. Must not know: what controllers do. A newcomer's trap: the
//! caches are filled by separate watches, so one may be ahead of another.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kijabi_base::tasks::Shutdown;
use kijabi_client::Cache;
use kijabi_client::cache::spawn_watch;
use kube::runtime::watcher::Config;
use kube::{Api, Client};

use crate::owner::{controller_of, controller_uid};

/// The caches.
pub(crate) struct Caches {
    /// Indexes: `owner` (uid of the controller), `orphan` (namespace, of pods without one), `node`.
    pub(crate) pods: Arc<Cache<Pod>>,
    /// Indexes: `owner`.
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) nodes: Arc<Cache<Node>>,
    /// The nodes' Leases only.
    pub(crate) leases: Arc<Cache<Lease>>,
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    /// Those named `default` only.
    pub(crate) service_accounts: Arc<Cache<ServiceAccount>>,
    /// Those named `kube-root-ca.crt` only.
    pub(crate) root_ca_maps: Arc<Cache<ConfigMap>>,
    pub(crate) services: Arc<Cache<Service>>,
    pub(crate) endpoints: Arc<Cache<Endpoints>>,
    /// Indexes: `service` (namespace/name).
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
}

impl Caches {
    pub(crate) fn new() -> Self {
        Self {
            pods: Cache::new(&[
                ("owner", controller_uid),
                ("orphan", orphan_namespace),
                ("node", |pod| vec![crate::pods::node_of(pod).to_owned()]),
            ]),
            replica_sets: Cache::new(&[("owner", controller_uid)]),
            deployments: Cache::new(&[]),
            nodes: Cache::new(&[]),
            leases: Cache::new(&[]),
            namespaces: Cache::new(&[]),
            service_accounts: Cache::new(&[]),
            root_ca_maps: Cache::new(&[]),
            services: Cache::new(&[]),
            endpoints: Cache::new(&[]),
            slices: Cache::new(&[("service", crate::endpointslice::service_index)]),
        }
    }

    /// Resolves once all have listed.
    pub(crate) async fn wait_synced(&self) {
        tokio::join!(
            self.pods.wait_synced(),
            self.replica_sets.wait_synced(),
            self.deployments.wait_synced(),
            self.nodes.wait_synced(),
            self.leases.wait_synced(),
            self.namespaces.wait_synced(),
            self.service_accounts.wait_synced(),
            self.root_ca_maps.wait_synced(),
            self.services.wait_synced(),
            self.endpoints.wait_synced(),
            self.slices.wait_synced(),
        );
    }

    /// Starts the watches; they end with `term`.
    pub(crate) fn watch(&self, client: &Client, term: &Shutdown) {
        let named = |name: &str| Config::default().fields(&format!("metadata.name={name}"));
        let client = || client.clone();
        macro_rules! follow {
            ($name:literal, $cache:expr, $api:expr, $config:expr) => {
                spawn_watch($name, $api, $config, $cache.clone(), term.clone());
            };
            ($name:literal, $cache:expr) => {
                follow!($name, $cache, Api::all(client()), Config::default());
            };
        }
        follow!("controllers-namespaces", self.namespaces);
        follow!("controllers-nodes", self.nodes);
        let leases = Api::namespaced(client(), "kube-node-lease");
        follow!("controllers-leases", self.leases, leases, Config::default());
        let accounts = Api::all(client());
        follow!("controllers-serviceaccounts", self.service_accounts, accounts, named("default"));
        let maps = Api::all(client());
        follow!("controllers-rootca", self.root_ca_maps, maps, named("kube-root-ca.crt"));
        follow!("controllers-services", self.services);
        follow!("controllers-endpoints", self.endpoints);
        follow!("controllers-endpointslices", self.slices);
        follow!("controllers-deployments", self.deployments);
        follow!("controllers-replicasets", self.replica_sets);
        follow!("controllers-pods", self.pods);
    }
}

fn orphan_namespace(pod: &Pod) -> Vec<String> {
    let has_owner = controller_of(&pod.metadata).is_some();
    pod.metadata.namespace.iter().filter(|_| !has_owner).cloned().collect()
}

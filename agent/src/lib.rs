//! The node agent: registers a Node and runs the pods bound to it through a CRI runtime.
//!
//! Owns: containerd's life cycle, pod workers, volumes, probes, the node server. Must not know:
//! the store or the apiserver's inside; it is an ordinary Kubernetes client. A newcomer's trap:
//! nothing is stopped when the agent stops. Containers outlive it and are adopted at the next
//! start; only [`teardown`] removes them.

pub mod api;
mod command;
pub mod containerd;
mod error;
pub mod events;
pub mod hollow;
pub mod image;
pub mod limits;
pub mod node;
pub mod pod;
pub mod quantity;
pub mod runtime;
pub mod server;
mod time;
pub mod volume;

mod agent;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Taint;

pub use agent::run;
pub use containerd::teardown::teardown;
pub use error::Error;

/// The version the Node reports as `kubeletVersion`.
pub const KUBELET_VERSION: &str = "v1.36.2";

/// Everything the agent of one node needs.
#[derive(Clone)]
pub struct Config {
    /// Name of the Node object.
    pub node_name: String,
    /// A client that may act as this node.
    pub client: kube::Client,
    /// The agent's own folder: containerd, pod volumes, logs. [`teardown`] removes it.
    pub data_dir: PathBuf,
    /// An existing CRI socket; without it the agent runs its own containerd under `data_dir`.
    pub runtime_endpoint: Option<PathBuf>,
    /// This node's pod range. Without it the agent waits for `spec.podCIDR` of its Node.
    pub pod_cidr: Option<String>,
    /// All pods' range: traffic from pods to elsewhere leaves under the node's address.
    pub cluster_cidr: Option<String>,
    /// The address to report; without it the one the default route uses, or loopback.
    pub node_ip: Option<IpAddr>,
    /// Labels set on the Node beside the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints the Node is registered with.
    pub taints: Vec<Taint>,
    /// DNS servers for pods with dnsPolicy ClusterFirst; none: those pods get the node's own.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Most pods this node takes.
    pub pods_max: u32,
    /// The node's HTTPS server; none: no logs can be fetched from this node.
    pub server: Option<ServerConfig>,
}

/// The node's HTTPS server (the kubelet's port 10250).
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 picks a free one, which the Node then reports.
    pub bind: SocketAddr,
    /// PEM file of the serving certificate chain.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// PEM file of the CA that signs the clients' certificates.
    pub client_ca: PathBuf,
}

impl Config {
    /// A configuration with Kubernetes' defaults for everything that has one.
    pub fn new(node_name: impl Into<String>, client: kube::Client, data_dir: PathBuf) -> Self {
        Self {
            node_name: node_name.into(),
            client,
            data_dir,
            runtime_endpoint: None,
            pod_cidr: None,
            cluster_cidr: None,
            node_ip: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            pods_max: limits::PODS_MAX,
            server: None,
        }
    }
}

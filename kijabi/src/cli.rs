//! The command line.
//!
//! Owns: names, defaults and help of every flag but the store's. Must not know: what the roles do
//! with them. A newcomer's trap: flag names follow the Kubernetes component of the same role where
//! it has one (`--secure-port`, `--advertise-address`, `--etcd-servers`, …).

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::backup::flags as backup;

/// A cluster control plane: an etcd v3 store, a Kubernetes control plane on it, and node agents.
#[derive(Debug, Parser)]
#[command(name = "kijabi", version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// Least severe log lines to write: error, warn, info, debug, trace, or a tracing filter.
    #[arg(long, global = true, env = "KIJABI_LOG", default_value = "info")]
    pub(crate) log: String,
    /// The role or task.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster on this machine, in this process, until SIGTERM.
    Up(Up),
    /// Remove everything a stopped `kijabi up` left: pods, containers, network, mounts.
    Down(Down),
    /// Run a store member; takes etcd's flags (`kijabi store --help`).
    Store,
    /// Run an API server on an etcd endpoint.
    Apiserver(Apiserver),
    /// Run the scheduler.
    Scheduler(Scheduler),
    /// Run the controllers.
    ControllerManager(ControllerManager),
    /// Run a node agent, or many simulated ones.
    Agent(Box<Agent>),
    /// Make load on an etcd endpoint and measure it.
    Bench(Box<kijabi_benches::load::Bench>),
    /// Save, look at and restore snapshots of a store.
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Make a store member from a snapshot or a stopped member of etcd.
    Import(backup::Import),
    /// Write a snapshot that etcd's own tools restore.
    Export(backup::Export),
    /// Print the administrator's kubeconfig.
    Kubeconfig(Kubeconfig),
    /// Assemble the demo web server's image and import it, or write it to a file.
    DemoImage(DemoImage),
}

/// Where a cluster of `kijabi up` keeps everything.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataDir {
    /// The cluster's folder.
    #[arg(long, env = "KIJABI_DATA", default_value = "/var/lib/kijabi")]
    pub(crate) data_dir: PathBuf,
}

/// How an API server is reached, alone or in `kijabi up`.
#[derive(Args, Debug)]
pub(crate) struct ApiFlags {
    /// Address the API server listens on.
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) bind_address: IpAddr,
    /// Port of the API server; 0 picks a free one.
    #[arg(long, default_value_t = 6443)]
    pub(crate) secure_port: u16,
    /// Address other nodes reach the API server by; loopback if not given.
    #[arg(long)]
    pub(crate) advertise_address: Option<IpAddr>,
    /// Range of services' addresses.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub(crate) service_cluster_ip_range: String,
    /// Answer unauthenticated requests as system:anonymous (403) instead of 401.
    #[arg(long)]
    pub(crate) anonymous_auth: bool,
}

impl ApiFlags {
    /// The API server's settings that these flags name; the others have their defaults.
    pub(crate) fn config(&self) -> anyhow::Result<kijabi_apiserver::Config> {
        let service_cidr = self
            .service_cluster_ip_range
            .parse()
            .map_err(|why: String| anyhow::anyhow!("--service-cluster-ip-range: {why}"))?;
        Ok(kijabi_apiserver::Config {
            listen: (self.bind_address, self.secure_port).into(),
            advertise_address: self.advertise_address,
            service_cidr,
            anonymous_auth: self.anonymous_auth,
            hostname: crate::component::host_name(),
            ..kijabi_apiserver::Config::default()
        })
    }
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// This node's name; the host name if not given.
    #[arg(long)]
    pub(crate) node_name: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiFlags,
    /// Port of the node agent's server; 0 picks a free one.
    #[arg(long, default_value_t = 10250)]
    pub(crate) kubelet_port: u16,
    /// Another URL to serve the store on, without TLS, such as http://127.0.0.1:2379.
    #[arg(long)]
    pub(crate) listen_client_urls: Vec<String>,
    /// Range of all pods' addresses.
    #[arg(long, default_value = "172.16.0.0/16")]
    pub(crate) cluster_cidr: String,
    /// CRI socket of a container runtime to use instead of an own containerd.
    #[arg(long)]
    pub(crate) container_runtime_endpoint: Option<PathBuf>,
    /// Simulated nodes to run instead of a real one.
    #[arg(long, default_value_t = 0)]
    pub(crate) hollow: u32,
}

#[derive(Args, Debug)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Args, Debug)]
pub(crate) struct Kubeconfig {
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Args, Debug)]
pub(crate) struct DemoImage {
    #[command(flatten)]
    pub(crate) data: DataDir,
    /// The image's full name and tag.
    #[arg(long, default_value = "localhost/echo-hname:v1")]
    pub(crate) name: String,
    /// What the web server's `Server:` header says.
    #[arg(long, default_value = "echo-hname/1")]
    pub(crate) server: String,
    /// Write the image to this file instead of importing it into the cluster's containerd.
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Apiserver {
    /// etcd endpoints, separated by commas: http://host:port or unix:///path.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub(crate) etcd_servers: Vec<String>,
    /// Folder of certificates and keys; made at the first start.
    #[arg(long, default_value = "pki")]
    pub(crate) cert_dir: PathBuf,
    /// Where to write the administrator's kubeconfig.
    #[arg(long)]
    pub(crate) admin_kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) api: ApiFlags,
}

#[derive(Args, Debug)]
pub(crate) struct Scheduler {
    /// How to reach the API server, and as whom.
    #[arg(long)]
    pub(crate) kubeconfig: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct ControllerManager {
    /// How to reach the API server, and as whom.
    #[arg(long)]
    pub(crate) kubeconfig: PathBuf,
    /// The cluster's CA certificate, published in each namespace.
    #[arg(long)]
    pub(crate) root_ca_file: PathBuf,
    /// Range of all pods' addresses; each node gets a part.
    #[arg(long, default_value = "172.16.0.0/16")]
    pub(crate) cluster_cidr: String,
}

#[derive(Args, Debug)]
pub(crate) struct Agent {
    /// How to reach the API server, and as whom.
    #[arg(long)]
    pub(crate) kubeconfig: PathBuf,
    /// The agent's folder.
    #[arg(long, default_value = "/var/lib/kijabi/agent")]
    pub(crate) data_dir: PathBuf,
    /// This node's name; the host name if not given.
    #[arg(long)]
    pub(crate) node_name: Option<String>,
    /// The node's address to report.
    #[arg(long)]
    pub(crate) node_ip: Option<IpAddr>,
    /// The node's range of pod addresses; from its Node object if not given.
    #[arg(long)]
    pub(crate) pod_cidr: Option<String>,
    /// Range of all pods' addresses: traffic from pods to elsewhere leaves as the node's.
    #[arg(long, default_value = "172.16.0.0/16")]
    pub(crate) cluster_cidr: String,
    /// CRI socket of a container runtime to use instead of an own containerd.
    #[arg(long)]
    pub(crate) container_runtime_endpoint: Option<PathBuf>,
    /// Certificate of the node's server; without it no logs are served.
    #[arg(long, requires_all = ["tls_private_key_file", "client_ca_file"])]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Its private key.
    #[arg(long)]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// CA of the clients of the node's server.
    #[arg(long)]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Port of the node's server; 0 picks a free one.
    #[arg(long, default_value_t = 10250)]
    pub(crate) port: u16,
    /// Labels for the Node, as key=value, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub(crate) node_labels: Vec<String>,
    /// Simulate this many nodes instead of being one.
    #[arg(long, default_value_t = 0)]
    pub(crate) hollow: u32,
    /// Names of simulated nodes: this and a number.
    #[arg(long, default_value = "hollow-")]
    pub(crate) hollow_prefix: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}

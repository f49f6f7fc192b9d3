//! `kijabi up`: a whole cluster on this machine, in this process.
//!
//! Owns: the order in which the roles start and stop, and the cluster's folder. Must not know: how
//! a role works. A newcomer's trap: the roles meet only at sockets, as they would on different
//! machines: the API server dials the store, everything else dials the API server.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kijabi_apiserver::ApiServer;
use kijabi_apiserver::pki::{Pki, write_private};
use kijabi_base::tasks::{self, Shutdown};
use kijabi_server::Member;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{cli, component};

/// The administrator's kubeconfig in the cluster's folder.
pub(crate) const ADMIN_KUBECONFIG: &str = "admin.conf";
/// The agent's folder in the cluster's folder.
pub(crate) const AGENT_FOLDER: &str = "agent";
/// Names the running process.
pub(crate) const PID_FILE: &str = "kijabi.pid";
/// How often it is looked whether the Node is there yet.
const NODE_POLL: Duration = Duration::from_millis(500);

/// Runs the cluster until `shutdown`, or until a role fails.
pub(crate) async fn up(args: cli::Up, shutdown: Shutdown) -> anyhow::Result<()> {
    let data = folder(&args.data.data_dir)?;
    let node_name = args.node_name.clone().unwrap_or_else(component::host_name);
    let member = start_store(&args, &data, &node_name).await?;
    let ended = with_store(&args, &data, &node_name, &member, &shutdown).await;
    // Whatever the reason is: a process must not end while the store is at work.
    member.shutdown().await;
    let _ = std::fs::remove_file(data.join(PID_FILE));
    ended
}

async fn with_store(
    args: &cli::Up,
    data: &Path,
    node_name: &str,
    member: &Member,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    // Only the process that holds the store's lock may say that it is the cluster.
    std::fs::write(data.join(PID_FILE), format!("{}\n", std::process::id()))
        .context("cannot write the pid file")?;
    let api = start_apiserver(args, data).await?;
    tracing::info!(port = api.local_addr().port(), "the API server serves");
    // These stop before the servers they talk to.
    let clients = shutdown.child();
    let mut roles: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let started = async {
        let admin = api.pki().admin_kubeconfig()?;
        write_private(&data.join(ADMIN_KUBECONFIG), admin.as_bytes())?;
        start_clients(args, data, node_name, api.pki(), &clients, &mut roles).await
    };
    let ended = match started.await {
        Err(error) => Err(error),
        Ok(()) => tokio::select! {
            () = shutdown.wait() => Ok(()),
            Some(ended) = roles.join_next() => first_end(ended),
            () = api.wait() => Err(anyhow::anyhow!("the API server stopped")),
            ended = member.wait() => ended.context("the store stopped"),
        },
    };
    clients.trigger();
    while let Some(ended) = roles.join_next().await {
        if let Err(error) = first_end(ended) {
            tracing::warn!("{error:#}");
        }
    }
    api.shutdown().await;
    ended
}

/// What a role that ended before it was asked to has to say.
fn first_end(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    ended.context("a role panicked").and_then(|result| result)
}

/// The cluster's folder, for root only.
fn folder(path: &Path) -> anyhow::Result<PathBuf> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the data folder {}", path.display()))?;
    let closed = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    closed.with_context(|| format!("cannot close the data folder {} to others", path.display()))?;
    path.canonicalize().with_context(|| format!("cannot read the data folder {}", path.display()))
}

async fn start_store(args: &cli::Up, data: &Path, name: &str) -> anyhow::Result<Member> {
    let mut listen = vec![format!("unix://{}", data.join("store.sock").display())];
    listen.extend(args.listen_client_urls.iter().cloned());
    let config = kijabi_server::Config {
        name: name.to_owned(),
        data_dir: data.join("store"),
        listen_client_urls: listen,
        // One member: nobody to talk to.
        listen_peer_urls: Vec::new(),
        ..kijabi_server::Config::default()
    };
    Ok(Member::start(config).await?)
}

async fn start_apiserver(args: &cli::Up, data: &Path) -> anyhow::Result<ApiServer> {
    let config = kijabi_apiserver::Config {
        etcd_endpoints: vec![format!("unix://{}", data.join("store.sock").display())],
        pki_dir: data.join("pki"),
        // This machine is the node.
        allow_loopback_nodes: true,
        ..args.api.config()?
    };
    Ok(ApiServer::start(config).await?)
}

/// Starts scheduler, controllers and agent, each as a client with an identity of its own.
async fn start_clients(
    args: &cli::Up,
    data: &Path,
    node_name: &str,
    pki: &Pki,
    shutdown: &Shutdown,
    roles: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let identity = node_name.to_owned();
    let options = kijabi_scheduler::Options {
        client: component::client(&pki.component_kubeconfig("system:kube-scheduler", None)?)
            .await?,
        identity: identity.clone(),
    };
    let stop = shutdown.clone();
    role(roles, "the scheduler", async move { Ok(kijabi_scheduler::run(options, stop).await?) });

    let user = "system:kube-controller-manager";
    let options = kijabi_controllers::Options {
        client: component::client(&pki.component_kubeconfig(user, None)?).await?,
        root_ca_pem: pki.ca_pem().to_owned(),
        cluster_cidr: args.cluster_cidr.clone(),
        identity,
    };
    let stop = shutdown.clone();
    role(
        roles,
        "the controllers",
        async move { Ok(kijabi_controllers::run(options, stop).await?) },
    );

    let stop = shutdown.clone();
    if args.hollow > 0 {
        let client = component::client(&pki.admin_kubeconfig()?).await?;
        let config = kijabi_agent::hollow::Config::new(client, args.hollow);
        role(roles, "the hollow nodes", async move {
            Ok(kijabi_agent::hollow::run(config, stop).await?)
        });
    } else {
        let config = agent_config(args, data, node_name, pki).await?;
        let admin = component::client(&pki.admin_kubeconfig()?).await?;
        let label = label_control_plane(admin, node_name.to_owned());
        let _task = tasks::spawn_until("node role", shutdown.clone(), label);
        role(roles, "the node agent", async move { Ok(kijabi_agent::run(config, stop).await?) });
    }
    Ok(())
}

fn role<F>(roles: &mut JoinSet<anyhow::Result<()>>, name: &'static str, run: F)
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let handle = tasks::spawn(name, run);
    roles.spawn(async move {
        let result = handle.await.with_context(|| format!("{name} panicked"))?;
        result.with_context(|| format!("{name} stopped"))
    });
}

/// Gives this machine's Node its role. A node may not say this of itself (NodeRestriction), so it
/// is done as the administrator, as soon as the Node is there.
async fn label_control_plane(admin: kube::Client, node_name: String) {
    let nodes: Api<Node> = Api::all(admin);
    let labels = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let patch = Patch::Merge(labels);
    while nodes.patch_metadata(&node_name, &PatchParams::default(), &patch).await.is_err() {
        tokio::time::sleep(NODE_POLL).await;
    }
}

async fn agent_config(
    args: &cli::Up,
    data: &Path,
    node_name: &str,
    pki: &Pki,
) -> anyhow::Result<kijabi_agent::Config> {
    let client = component::client(&pki.node_kubeconfig(node_name)?).await?;
    let agent = data.join(AGENT_FOLDER);
    std::fs::create_dir_all(&agent).context("cannot make the agent's folder")?;
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    addresses.extend(args.api.advertise_address);
    let serving = pki.node_serving(node_name, &addresses)?;
    let (cert, key) = (agent.join("kubelet.crt"), agent.join("kubelet.key"));
    let client_ca = agent.join("client-ca.crt");
    write_private(&cert, serving.cert_pem.as_bytes())?;
    write_private(&key, serving.key_pem.as_bytes())?;
    write_private(&client_ca, pki.ca_pem().as_bytes())?;
    let mut config = kijabi_agent::Config::new(node_name, client, agent);
    config.runtime_endpoint.clone_from(&args.container_runtime_endpoint);
    config.cluster_cidr = Some(args.cluster_cidr.clone());
    // The one machine of this cluster reaches itself by loopback, whatever else it is called.
    config.node_ip = Some(args.api.advertise_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let bind = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), args.kubelet_port).into();
    config.server = Some(kijabi_agent::ServerConfig { bind, cert, key, client_ca });
    Ok(config)
}

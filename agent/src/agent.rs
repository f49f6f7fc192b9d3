//! Joins the parts of one node: runtime, Node object, pod workers, server.
//!
//! Must not know: how any of them works. A newcomer's trap: the order matters only once, at the
//! start; afterwards each part lives on its own and ends with the shutdown.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kijabi_base::tasks::{self, Shutdown};
use tokio::sync::Semaphore;

use crate::api::Kube;
use crate::containerd::{self, Paths, network};
use crate::events::Recorder;
use crate::image::{import, pause};
use crate::limits::PULLS_MAX;
use crate::node::Heartbeat;
use crate::node::machine::{self, Machine};
use crate::node::status::Facts;
use crate::pod::{Known, NodeContext, Shared};
use crate::runtime::Runtime;
use crate::runtime::cri::Cri;
use crate::server::{Bound, rotate_logs};
use crate::volume::Volumes;
use crate::{Config, Error};

/// How often our containerd is looked at.
const RUNTIME_LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the Node is asked for its pod range while it has none.
const POD_CIDR_EVERY: Duration = Duration::from_secs(1);

/// Runs the agent of one node until `shutdown`. Containers keep running afterwards.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let paths = Paths::new(&config.data_dir);
    let server = match &config.server {
        Some(server) => Some(Bound::bind(server).await?),
        None => None,
    };
    let runtime = runtime(&config, &paths).await?;
    let facts = Facts {
        name: config.node_name.clone(),
        address: config.node_ip.unwrap_or_else(machine::own_address),
        machine: Machine::read(&paths.data),
        pods_max: config.pods_max,
        runtime: runtime.version().await?,
        port: server.as_ref().map(|it| it.address().port()),
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        pod_cidr: config.pod_cidr.clone(),
    };
    let source = Arc::new(Kube::new(config.client.clone(), shutdown.clone()));
    let shared = shared(&config, &paths, &facts, source, runtime.clone(), &shutdown);
    let heartbeat =
        Heartbeat { client: config.client.clone(), facts, runtime, data: Some(paths.data.clone()) };
    let node = tokio::select! {
        () = shutdown.wait() => return Ok(()),
        node = heartbeat.register() => node,
    };
    if let Some(server) = server {
        let serving = server.serve(shared.clone(), shutdown.clone());
        tasks::spawn("node-server", serving);
    }
    tasks::spawn("log-rotation", rotate_logs(shared.clone(), shutdown.clone()));
    let own_runtime = config.runtime_endpoint.is_none();
    if own_runtime {
        tasks::spawn("containerd-watch", watch_runtime(paths.clone(), shutdown.clone()));
    }
    // The node's heartbeat does not wait for the network: it says what is missing.
    let (heart, beating) = (heartbeat, shutdown.clone());
    let heart = tasks::spawn("heartbeat", async move { heart.run(beating).await });
    if own_runtime {
        network(&config, &paths, node, &shutdown).await?;
    }
    crate::pod::run(shared, shutdown).await;
    let _ = heart.await;
    Ok(())
}

/// What the pod workers of this node share.
fn shared(
    config: &Config,
    paths: &Paths,
    facts: &Facts,
    source: Arc<Kube>,
    runtime: Arc<dyn Runtime>,
    shutdown: &Shutdown,
) -> Arc<Shared> {
    let events = Recorder::start(source.clone(), &facts.name, shutdown.clone());
    Arc::new(Shared {
        source,
        runtime,
        events,
        node: NodeContext {
            name: facts.name.clone(),
            ip: facts.address,
            runtime_name: facts.runtime.name.clone(),
            pods_max: facts.pods_max,
            allocatable: (facts.machine.cpus as i64 * 1_000, facts.machine.memory_bytes as i64),
            cluster_dns: config.cluster_dns.clone(),
            cluster_domain: config.cluster_domain.clone(),
            cgroup: paths.cgroup(),
        },
        volumes: Some(Volumes::new(paths)),
        pulls: Semaphore::new(PULLS_MAX),
        known: Known::default(),
    })
}

/// Starts our containerd again if it is gone. Containers do not notice: their shims hold them.
async fn watch_runtime(paths: Paths, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(RUNTIME_LOOK_EVERY) => {}
        }
        if containerd::running(&paths).is_none() {
            match containerd::ensure(&paths).await {
                Ok(_) => tracing::warn!("containerd was gone and was started again"),
                Err(error) => tracing::error!(%error, "containerd is gone"),
            }
        }
    }
}

/// Sets the pod network up as soon as this node's pod range is known.
async fn network(
    config: &Config,
    paths: &Paths,
    mut node: Node,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let nodes: kube::Api<Node> = kube::Api::all(config.client.clone());
    let cluster = config.cluster_cidr.as_deref().map(str::parse).transpose()?;
    loop {
        if let Some(cidr) = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_ref()) {
            return network::configure(paths, cidr.parse()?, cluster).await;
        }
        tokio::select! {
            () = shutdown.wait() => return Ok(()),
            () = tokio::time::sleep(POD_CIDR_EVERY) => {}
        }
        if let Ok(found) = nodes.get(&config.node_name).await {
            node = found;
        }
    }
}

async fn runtime(config: &Config, paths: &Paths) -> Result<Arc<dyn Runtime>, Error> {
    if let Some(endpoint) = &config.runtime_endpoint {
        let runtime = Cri::connect(endpoint);
        runtime.version().await?;
        return Ok(Arc::new(runtime));
    }
    let start = containerd::ensure(paths).await?;
    let runtime = Cri::connect(&paths.socket);
    tracing::info!(?start, socket = %paths.socket.display(), "containerd runs");
    if runtime.image(pause::NAME).await?.is_none() {
        import::import(&paths.socket, &pause::build()?).await?;
    }
    Ok(Arc::new(runtime))
}

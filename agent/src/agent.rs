//! Joins the parts of one node: runtime, Node object, pod workers, server.
//!
//! Must not know: how any of them works. A newcomer's trap: the order matters only once, at the
//! start; afterwards each part lives on its own and ends with the shutdown.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kijabi_base::tasks::Shutdown;

use crate::containerd::{self, Paths, network};
use crate::image::{import, pause};
use crate::node::Heartbeat;
use crate::node::machine::{self, Machine};
use crate::node::status::Facts;
use crate::runtime::Runtime;
use crate::runtime::cri::Cri;
use crate::{Config, Error};

/// How often the Node is asked for its pod range while it has none.
const POD_CIDR_EVERY: Duration = Duration::from_secs(1);

/// Runs the agent of one node until `shutdown`. Containers keep running afterwards.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let paths = Paths::new(&config.data_dir);
    let runtime = runtime(&config, &paths).await?;
    let facts = Facts {
        name: config.node_name.clone(),
        address: config.node_ip.unwrap_or_else(machine::own_address),
        machine: Machine::read(&paths.data),
        pods_max: config.pods_max,
        runtime: runtime.version().await?,
        port: None,
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        pod_cidr: config.pod_cidr.clone(),
    };
    let heartbeat = Heartbeat {
        client: config.client.clone(),
        facts,
        runtime: runtime.clone(),
        data: Some(paths.data.clone()),
    };
    let node = tokio::select! {
        () = shutdown.wait() => return Ok(()),
        node = heartbeat.register() => node,
    };
    if config.runtime_endpoint.is_none() {
        network(&config, &paths, node, &shutdown).await?;
    }
    heartbeat.run(shutdown).await;
    Ok(())
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

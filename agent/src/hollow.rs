//! Simulated nodes: the agent's own code on a runtime that only pretends.
//!
//! For scheduling and scale tests on one machine. Must not know: what a pod does. A newcomer's
//! trap: everything but the runtime, the volumes and the node server is the real agent; pods become
//! Ready with addresses of 198.18.0.0/15 that nothing answers on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Taint;
use kijabi_base::tasks::Shutdown;
use tokio::sync::Semaphore;

use crate::Error;
use crate::api::Kube;
use crate::events::Recorder;
use crate::limits::{PODS_MAX, PULLS_MAX};
use crate::node::Heartbeat;
use crate::node::machine::Machine;
use crate::node::status::Facts;
use crate::pod::{Known, NodeContext, Shared};
use crate::runtime::memory::{Addresses, Memory};
use crate::runtime::{Runtime, Version};

/// Most simulated nodes in one process.
pub const NODES_MAX: u32 = 10_000;

/// Simulated nodes to be run.
#[derive(Clone)]
pub struct Config {
    /// A client that may act as all these nodes.
    pub client: kube::Client,
    /// How many.
    pub count: u32,
    /// Names are this and a number from 0: `hollow-0`.
    pub prefix: String,
    /// Labels on every node.
    pub labels: BTreeMap<String, String>,
    /// Taints on every node.
    pub taints: Vec<Taint>,
    /// Most pods a node.
    pub pods_max: u32,
}

impl Config {
    /// `count` nodes named `hollow-0` and up.
    pub fn new(client: kube::Client, count: u32) -> Self {
        Self {
            client,
            count,
            prefix: "hollow-".to_owned(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            pods_max: PODS_MAX,
        }
    }
}

/// Runs the simulated nodes until `shutdown`.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    if config.count > NODES_MAX {
        return Err(Error::Config(format!(
            "{} simulated nodes asked for, {NODES_MAX} is the most",
            config.count
        )));
    }
    let addresses = Addresses::default();
    let source = Arc::new(Kube::new(config.client.clone(), shutdown.clone()));
    let nodes = futures::stream::FuturesUnordered::new();
    for index in 0..config.count {
        let (config, addresses, shutdown) = (config.clone(), addresses.clone(), shutdown.clone());
        let source = source.clone();
        nodes.push(kijabi_base::tasks::spawn("hollow-node", async move {
            node(&config, index, addresses, source, shutdown).await;
        }));
    }
    nodes.for_each(|_| async {}).await;
    Ok(())
}

async fn node(
    config: &Config,
    index: u32,
    addresses: Addresses,
    source: Arc<Kube>,
    shutdown: Shutdown,
) {
    let name = format!("{}{index}", config.prefix);
    let runtime: Arc<dyn Runtime> = Arc::new(Memory::new(addresses));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let facts = Facts {
        address: address(index),
        machine: Machine::hollow(&name),
        name,
        pods_max: config.pods_max,
        runtime: Version { name: "hollow".to_owned(), version },
        port: None,
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        pod_cidr: None,
    };
    let shared = Arc::new(Shared {
        events: Recorder::start(source.clone(), &facts.name, shutdown.clone()),
        source,
        runtime: runtime.clone(),
        node: NodeContext {
            name: facts.name.clone(),
            ip: facts.address,
            runtime_name: facts.runtime.name.clone(),
            pods_max: facts.pods_max,
            allocatable: (facts.machine.cpus as i64 * 1_000, facts.machine.memory_bytes as i64),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            cgroup: String::new(),
        },
        volumes: None,
        pulls: Semaphore::new(PULLS_MAX),
        known: Known::default(),
    });
    let heartbeat = Heartbeat { client: config.client.clone(), facts, runtime, data: None };
    tokio::select! {
        () = shutdown.wait() => return,
        _ = heartbeat.register() => {}
    }
    tokio::join!(heartbeat.run(shutdown.clone()), crate::pod::run(shared, shutdown));
}

/// Node addresses: 100.64.0.0/10, the range shared by carriers, which no cluster uses for itself.
fn address(index: u32) -> IpAddr {
    const FIRST: u32 = u32::from_be_bytes([100, 64, 0, 1]);
    Ipv4Addr::from(FIRST + index).into()
}

//! `kijabi agent`: one real node, or many simulated ones.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use kijabi_agent::{Config, ServerConfig, hollow};
use kijabi_base::tasks::Shutdown;

use crate::{cli, component};

/// Runs the agent, or simulated nodes if `--hollow` asks for them.
pub(crate) async fn agent(args: cli::Agent, shutdown: Shutdown) -> anyhow::Result<()> {
    let client = component::client_of_file(&args.kubeconfig).await?;
    if args.hollow > 0 {
        let mut config = hollow::Config::new(client, args.hollow);
        config.prefix = args.hollow_prefix;
        return Ok(hollow::run(config, shutdown).await?);
    }
    let node_name = args.node_name.unwrap_or_else(component::host_name);
    let mut config = Config::new(node_name, client, args.data_dir);
    config.runtime_endpoint = args.container_runtime_endpoint;
    config.pod_cidr = args.pod_cidr;
    config.cluster_cidr = Some(args.cluster_cidr);
    config.node_ip = args.node_ip;
    config.labels = labels(&args.node_labels)?;
    if let (Some(cert), Some(key), Some(client_ca)) =
        (args.tls_cert_file, args.tls_private_key_file, args.client_ca_file)
    {
        let bind = ([0, 0, 0, 0], args.port).into();
        config.server = Some(ServerConfig { bind, cert, key, client_ca });
    }
    kijabi_agent::run(config, shutdown).await.context("the node agent stopped")
}

/// `key=value` pairs.
fn labels(pairs: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            bail!("--node-labels: {pair:?} is not key=value");
        };
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

//! The roles, each started alone.
//!
//! Owns: from a role's flags to its settings. Must not know: how `kijabi up` joins them. A
//! newcomer's trap: the store reads its own arguments (etcd's), see [`store`].

mod agent;
pub(crate) mod store;

use anyhow::Context as _;
use kijabi_apiserver::ApiServer;

use crate::cli::{self, Cli, Command};
use crate::{backup, component, demo, down, logging, up};

/// Runs what the command line asks for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Store => unreachable!("main hands the store its arguments unread"),
        Command::Kubeconfig(args) => return kubeconfig(&args),
        _ => logging::start(&cli.log)?,
    }
    match cli.command {
        Command::Up(args) => component::run(|shutdown| up::up(args, shutdown)),
        Command::Down(args) => component::run(|_| down::down(args)),
        Command::Apiserver(args) => component::run(|shutdown| apiserver(args, shutdown)),
        Command::Scheduler(args) => component::run(|shutdown| scheduler(args, shutdown)),
        Command::ControllerManager(args) => component::run(|shutdown| controllers(args, shutdown)),
        Command::Agent(args) => component::run(|shutdown| agent::agent(*args, shutdown)),
        Command::Backup(args) => backup::backup(args),
        Command::Import(args) => backup::import(&args),
        Command::Export(args) => backup::export(args),
        Command::DemoImage(args) => component::run(|_| demo_image(args)),
        Command::Bench(args) => component::run(|_| kijabi_benches::load::run(*args)),
        Command::Store | Command::Kubeconfig(_) => unreachable!("handled above"),
    }
}

fn kubeconfig(args: &cli::Kubeconfig) -> anyhow::Result<()> {
    use std::io::Write as _;

    let path = args.data.data_dir.join(up::ADMIN_KUBECONFIG);
    let text = std::fs::read(&path)
        .with_context(|| format!("cannot read {} (is the cluster running?)", path.display()))?;
    std::io::stdout().write_all(&text).context("cannot write to standard output")
}

async fn demo_image(args: cli::DemoImage) -> anyhow::Result<()> {
    if let Some(output) = &args.output {
        return demo::write(output, &args.name, &args.server);
    }
    let tar = demo::image(&args.name, &args.server)?;
    let agent = args.data.data_dir.join(up::AGENT_FOLDER);
    kijabi_agent::image::import::import_into(&agent, &tar)
        .await
        .with_context(|| format!("cannot import {}", args.name))
}

async fn apiserver(
    args: cli::Apiserver,
    shutdown: kijabi_base::tasks::Shutdown,
) -> anyhow::Result<()> {
    let config = kijabi_apiserver::Config {
        etcd_endpoints: args.etcd_servers,
        pki_dir: args.cert_dir,
        ..args.api.config()?
    };
    let server = ApiServer::start(config).await?;
    tracing::info!(address = %server.local_addr(), "the API server serves");
    if let Some(path) = &args.admin_kubeconfig {
        kijabi_apiserver::pki::write_private(path, server.pki().admin_kubeconfig()?.as_bytes())?;
    }
    tokio::select! {
        () = shutdown.wait() => {
            server.shutdown().await;
            Ok(())
        }
        () = server.wait() => Err(anyhow::anyhow!("the API server stopped")),
    }
}

async fn scheduler(
    args: cli::Scheduler,
    shutdown: kijabi_base::tasks::Shutdown,
) -> anyhow::Result<()> {
    let client = component::client_of_file(&args.kubeconfig).await?;
    let options = kijabi_scheduler::Options { client, identity: election_identity() };
    Ok(kijabi_scheduler::run(options, shutdown).await?)
}

async fn controllers(
    args: cli::ControllerManager,
    shutdown: kijabi_base::tasks::Shutdown,
) -> anyhow::Result<()> {
    let client = component::client_of_file(&args.kubeconfig).await?;
    let root_ca_pem = std::fs::read_to_string(&args.root_ca_file)
        .with_context(|| format!("cannot read {}", args.root_ca_file.display()))?;
    let options = kijabi_controllers::Options {
        client,
        root_ca_pem,
        cluster_cidr: args.cluster_cidr,
        identity: election_identity(),
    };
    Ok(kijabi_controllers::run(options, shutdown).await?)
}

/// Who this process is in a leader election: two on one host must not be taken for one. (A whole
/// `kijabi up` uses its node's name: its data folder is locked, so there is only one, and after a
/// crash it need not wait for its own Lease to expire.)
fn election_identity() -> String {
    format!("{}_{:016x}", component::host_name(), kijabi_base::rng::positive_i64())
}

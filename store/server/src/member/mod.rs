//! A member from start to stop.
//!
//! Owns: the order in which the parts start and stop. Must not know: what they do. A newcomer's
//! trap: nothing is opened before the folder is locked and the ports are bound, so that a start
//! that fails leaves everything as it was.

mod cause;
mod core;
mod opened;

use std::net::SocketAddr;
use std::sync::Arc;

use kijabi_base::tasks::{self, Shutdown};
use kijabi_disk::lock::DataDir;
use kijabi_disk::wal::Wal;
use kijabi_machine::Caller;
use kijabi_proto::command::MemberAttributes;
use kijabi_proto::command::command::Request;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::cause::StartError;

use self::cause::Cause;
use self::core::Core;
use crate::cluster::remote::MembershipPort;
use crate::config::Config;
use crate::consensus::{Applier, Raft};
use crate::crew::RunningCrew;
use crate::error::Error;
use crate::fatal::{Fatal, MemberError};
use crate::ports::Ports;
use crate::serve::{Bound, Clients, Endpoints, Grpc};
use crate::store::Store;
use crate::transfer;

/// A running member. Dropping it does not stop it: call [`Member::shutdown`].
pub struct Member {
    client_addrs: Vec<SocketAddr>,
    monitoring_addrs: Vec<SocketAddr>,
    peer_addrs: Vec<SocketAddr>,
    client_urls: Vec<String>,
    shutdown: Shutdown,
    fatal: Fatal,
    stopped: watch::Sender<bool>,
    parts: Mutex<Option<Parts>>,
}

/// What is taken apart when the member stops.
struct Parts {
    raft: Raft,
    crew: RunningCrew,
    store: Store,
    wal: Wal,
    applier: Applier,
    servers: Vec<JoinHandle<()>>,
    /// They serve the other members, and end after the ones for clients: what clients still wait
    /// for may come from a leader.
    peer_servers: Vec<JoinHandle<()>>,
    peer_stop: Shutdown,
    /// Ends what runs behind the servers, after them.
    halt: Shutdown,
    _data: DataDir,
}

// === impl Member ===

impl Member {
    /// Starts a member and returns once it serves.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Ok(start(config).await?)
    }

    /// The TCP addresses it listens on for clients, with the ports the system chose.
    pub fn client_addrs(&self) -> &[SocketAddr] {
        &self.client_addrs
    }

    /// The TCP addresses it listens on for other members.
    pub fn peer_addrs(&self) -> &[SocketAddr] {
        &self.peer_addrs
    }

    /// The TCP addresses of `--listen-metrics-urls`.
    pub fn monitoring_addrs(&self) -> &[SocketAddr] {
        &self.monitoring_addrs
    }

    /// The URLs it listens on for clients.
    pub fn client_urls(&self) -> Vec<String> {
        self.client_urls.clone()
    }

    /// Stops it: requests that run may finish, then everything is made durable and closed.
    ///
    /// A leader hands the lead over first, while everything still runs.
    pub async fn shutdown(&self) {
        let parts = self.parts.lock().take();
        if let Some(parts) = parts {
            // In a task of its own: whoever asked may go away before it is done.
            let (shutdown, stopped) = (self.shutdown.clone(), self.stopped.clone());
            let _task = tasks::spawn("stop", async move {
                transfer::before_stop(&parts.store).await;
                shutdown.trigger();
                stop(parts).await;
                stopped.send_replace(true);
            });
        }
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Ends when the member has stopped: with an error if it stopped itself.
    pub async fn wait(&self) -> Result<(), MemberError> {
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            // Raft also says that it has ended when it was asked to: that is no fault.
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => Ok(()),
            why = self.fatal.wait() => {
                self.shutdown().await;
                why.into_result()
            }
        }
    }
}

async fn stop(parts: Parts) {
    let Parts { raft, crew, store, wal, applier, servers, peer_servers, peer_stop, halt, _data } =
        parts;
    drop(store);
    for server in servers {
        let _ = server.await;
    }
    peer_stop.trigger();
    for server in peer_servers {
        let _ = server.await;
    }
    halt.trigger();
    if let Err(error) = raft.shutdown().await {
        tracing::warn!(%error, "raft did not end as it should");
    }
    drop(crew);
    let state = applier.state();
    match tasks::blocking(move || state.flush()).await {
        Ok(Ok(())) => {}
        // Nothing is lost: the log has it all.
        Ok(Err(error)) => tracing::warn!(%error, "the state was not flushed"),
        Err(error) => tracing::warn!(%error, "the state was not flushed"),
    }
    let _ = tasks::blocking(move || wal.close()).await;
    tracing::info!("stopped");
}

/// Each connection is a descriptor; like Go's runtime, take all there may be.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of descriptors was not raised");
        }
    }
}

fn lock_memory() -> Result<(), Cause> {
    use rustix::mm::{MlockAllFlags, mlockall};
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .map_err(|error| Cause::Memory(error.into()))
}

async fn start(config: Config) -> Result<Member, Cause> {
    let data = DataDir::open(&config.data_dir)?;
    raise_descriptor_limit();
    if config.memory_lock {
        lock_memory()?;
    }
    let mut ports = Ports::bind(&config).await?;
    let opened = opened::open(Arc::new(config), data).await?;
    let config = Arc::clone(&opened.config);
    let (shutdown, fatal, identity) = (Shutdown::new(), Fatal::new(), opened.identity);
    let (mut parts, core) = Core::run(opened, &shutdown, &fatal);
    let client_urls: Vec<String> = ports.clients().map(Bound::url).collect();
    let monitoring_addrs = ports.monitoring().filter_map(Bound::address).collect();
    let peer_addrs = ports.members().filter_map(Bound::address).collect();
    // The other members first: without them there may be no leader.
    let endpoints = Arc::new(Endpoints::new(
        core.store.clone(),
        Arc::clone(&core.metrics),
        Arc::clone(core.hub.tally()),
    ));
    let membership = MembershipPort::new(core.cluster.clone());
    let peers = (core.peers.clone(), membership, parts.crew.spawner().clone());
    let stop_peers = parts.peer_stop.clone();
    parts.peer_servers = ports.serve_members(&config, peers, &endpoints, &stop_peers);
    parts.servers = ports.serve_monitoring(&config, &endpoints, &shutdown);
    let ready = tokio::select! {
        announced = announce(&core.store, &config, &client_urls) => {
            announced.map_err(Cause::NotReady)
        }
        // It may be told meanwhile that it is no member any more.
        why = fatal.wait() => Err(Cause::Stopped(why)),
    };
    if let Err(cause) = ready {
        shutdown.trigger();
        stop(parts).await;
        return Err(cause);
    }
    let client_addrs = ports.clients().filter_map(Bound::address).collect();
    let Core { store, hub, applier, size, metrics, cluster, .. } = core;
    let grpc = Grpc::new(&store, hub, applier, size, metrics, cluster);
    let clients = Box::new(Clients::new(grpc, &config, &shutdown));
    parts.servers.extend(ports.serve_clients(&config, clients, &endpoints, &shutdown));
    tracing::info!(
        name = %config.name,
        member_id = %format_args!("{:x}", identity.member_id),
        cluster_id = %format_args!("{:x}", identity.cluster_id),
        "ready to serve client requests"
    );
    let parts = Mutex::new(Some(parts));
    let stopped = watch::Sender::new(false);
    Ok(Member {
        client_addrs,
        monitoring_addrs,
        peer_addrs,
        client_urls,
        shutdown,
        fatal,
        stopped,
        parts,
    })
}

/// Waits for a leader and tells the cluster who this member is, through the log like any change:
/// once that is applied, everything before it is, too.
async fn announce(store: &Store, config: &Config, client_urls: &[String]) -> Result<(), Error> {
    // Other members may come later: like etcd, this one waits for them as long as it takes.
    let mut standing = store.watch_standing();
    let elected = standing.wait_for(|standing| standing.leader != 0).await;
    elected.map(|_| ()).map_err(|_closed| Error::Stopped)?;
    // Port 0 is a port that the system chose, so only the bound address tells it.
    let is_told = |url: &String| !url.ends_with(":0");
    let advertised = &config.advertise_client_urls;
    let advertised = if advertised.iter().all(is_told) { &advertised[..] } else { &[] };
    let attributes = MemberAttributes {
        id: store.member_id(),
        name: config.name.clone(),
        client_urls: if advertised.is_empty() { client_urls } else { advertised }.to_vec(),
        peer_urls: config.initial_advertise_peer_urls.clone(),
        is_learner: false,
    };
    loop {
        // Saying it twice does no harm.
        let said = Request::MemberAttributes(attributes.clone());
        match store.propose(&Caller::Member, said).await {
            Ok(_) => return Ok(()),
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => tracing::warn!(%error, "the cluster does not know this member yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Raft says that it has ended also when it was asked to, and may say so before the stop is
    /// complete: that is no fault.
    #[tokio::test]
    async fn a_member_that_was_stopped_has_not_failed_whatever_its_parts_said() {
        let member = Member {
            client_addrs: Vec::new(),
            monitoring_addrs: Vec::new(),
            peer_addrs: Vec::new(),
            client_urls: Vec::new(),
            shutdown: Shutdown::new(),
            fatal: Fatal::new(),
            stopped: watch::Sender::new(true),
            parts: Mutex::new(None),
        };
        member.fatal.stop("raft has stopped");
        // Without an order the choice between the two would be random.
        for _ in 0..100 {
            member.wait().await.unwrap();
        }
    }
}

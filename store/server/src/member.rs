//! A member from start to stop.
//!
//! Owns: the order in which the parts start and stop. Must not know: what they do. A newcomer's
//! trap: nothing is opened before the folder is locked and the ports are bound, so that a start
//! that fails leaves everything as it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use kijabi_base::clock::{self, Instant};
use kijabi_base::tasks::{self, Shutdown};
use kijabi_disk::lock::{DataDir, DataDirError, check_private};
use kijabi_disk::snapshot::StateHome;
use kijabi_disk::vfs::RealVfs;
use kijabi_disk::wal::{Wal, WalError, WalOptions};
use kijabi_machine::state::StateError;
use kijabi_machine::{Caller, Machine, Settings};
use kijabi_proto::command::MemberAttributes;
use kijabi_proto::command::command::Request;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::{Access, BadTokenOptions};
use crate::apply_hooks::ApplyHooks;
use crate::barrier::Barrier;
use crate::cluster::remote::{MembershipPort, Remote};
use crate::cluster::{self, Cluster, departure, force, join};
use crate::config::{Config, ETCD_VERSION};
use crate::consensus::{self, Applier, ConsensusError, LogStore, Network, Raft};
use crate::demise::Demise;
use crate::drivers::{self, DatabaseSize};
use crate::error::Error;
use crate::fatal::{Fatal, MemberError};
use crate::identity::{self, Identity, IdentityError};
use crate::integrity::Comparison;
use crate::metrics::Metrics;
use crate::outcomes::Outcomes;
use crate::peer::connect::{self, Patience};
use crate::peer::{Contact, PeerPort, Peers, Route, Streams};
use crate::ports::{PortError, Ports, hosts};
use crate::propose::Carrier;
use crate::serve::{self, Bound, ClientTls, Clients, Endpoints, Grpc};
use crate::store::{Standing, Store, StoreParts};
use crate::watch::Hub;
use crate::{barrier, propose, transfer};

/// Why a member did not start: one clear line, exit code 1.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Cause);

impl StartError {
    /// Whether somebody must change the settings before another try: exit code 2.
    // Differs from etcd: its exit code is 1, too, for what its flags could have told.
    pub fn is_usage(&self) -> bool {
        matches!(self.0, Cause::Port(_) | Cause::Identity(IdentityError::Config(_)))
    }
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("failed to mlock: {0}")]
    Memory(std::io::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    #[error(transparent)]
    Tokens(#[from] BadTokenOptions),
    #[error("{}; data-dir used by this member must be removed", departure::REMOVED)]
    Removed,
    #[error(transparent)]
    Stopped(MemberError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the member did not become ready: {0}")]
    NotReady(Error),
}

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
    let Parts { raft, store, wal, applier, servers, peer_servers, peer_stop, halt, _data } = parts;
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

async fn start(config: Config) -> Result<Member, Cause> {
    let data = DataDir::open(&config.data_dir)?;
    raise_descriptor_limit();
    if config.memory_lock {
        lock_memory()?;
    }
    let mut ports = Ports::bind(&config).await?;
    let opened = open(Arc::new(config), data).await?;
    let config = Arc::clone(&opened.config);
    let (shutdown, fatal, identity) = (Shutdown::new(), Fatal::new(), opened.identity);
    let (mut parts, core) = run_core(opened, &shutdown, &fatal);
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
    let (peers, stop_peers) = ((core.peers.clone(), membership), parts.peer_stop.clone());
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

/// What is on disk, opened, and Raft running on it.
struct Opened {
    config: Arc<Config>,
    identity: Identity,
    data: DataDir,
    wal: Wal,
    raft: Raft,
    machine: Arc<RwLock<Machine>>,
    applier: Applier,
    hub: Arc<Hub>,
    hooks: ApplyHooks,
    peers: Peers,
    remote: Remote,
    metrics: Arc<Metrics>,
    started: Instant,
}

async fn open(config: Arc<Config>, data: DataDir) -> Result<Opened, Cause> {
    let dir = data.path().join("member");
    let wal_dir = config.wal_dir.clone().unwrap_or_else(|| dir.join("wal"));
    check_private(&wal_dir)?;
    let (home, state) = StateHome::open(&dir.join("snap"))?;
    let silence = config.election_timeout;
    let (dial, patience) =
        (connect::dial(peer_tls(&config)?), Patience { connect: silence, silence });
    let remote = Remote::new(0, Arc::clone(&dial), patience);
    let identity = join::establish(&dir, &config, &remote).await?;
    let members = if identity.joined { BTreeMap::new() } else { identity::first_members(&config) };
    let peers = Peers::new(identity, Arc::clone(&dial), patience);
    let metrics = Arc::new(Metrics::of(
        identity.member_id,
        ETCD_VERSION,
        &config,
        &serve::gateway::routes::rpcs(),
    ));
    let wal = open_wal(&wal_dir, &metrics)?;
    let (state, settings, started) = (Arc::new(state), Settings::default(), clock::now());
    let machine = Machine::open(Arc::clone(&state) as _, settings)?;
    if machine.is_member_removed(identity.member_id) {
        return Err(Cause::Removed);
    }
    let hub = Hub::new(machine.revision());
    let machine = Arc::new(RwLock::new(machine));
    let (applied, term) = (machine.read().applied_index(), machine.read().applied_term());
    let outcomes = Outcomes::new(identity.member_id, term);
    let (feed, counters) = (Arc::clone(&hub), Arc::clone(&metrics));
    let access = Arc::new(Access::new(&config)?);
    access.set_enabled(machine.read().auth().enabled());
    let hooks = ApplyHooks::new(started, feed, applied, outcomes, counters);
    let hooks = hooks.with_access(access);
    let applier = Applier::new(Arc::clone(&machine), state, home, settings, hooks.clone());
    let log = LogStore::new(wal.clone());
    if config.force_new_cluster {
        force::begin_anew(&wal, &applier, &config, identity.member_id).await?;
    }
    let network = Network { peers: peers.clone(), metrics: Arc::clone(&metrics) };
    let id = identity.member_id;
    let raft = consensus::start(&config, id, network, log, applier.clone(), members).await?;
    let opened = Opened {
        config,
        identity,
        data,
        wal,
        raft,
        machine,
        applier,
        hub,
        hooks,
        peers,
        remote: Remote::new(identity.cluster_id, dial, patience),
        metrics,
        started,
    };
    Ok(opened)
}

/// What the services need.
struct Core {
    store: Store,
    hub: Arc<Hub>,
    applier: Applier,
    size: DatabaseSize,
    peers: PeerPort,
    cluster: Cluster,
    metrics: Arc<Metrics>,
}

/// Starts everything between Raft and the services.
fn run_core(opened: Opened, shutdown: &Shutdown, fatal: &Fatal) -> (Parts, Core) {
    let Opened {
        config,
        identity,
        data,
        wal,
        raft,
        machine,
        applier,
        hub,
        hooks,
        peers,
        remote,
        metrics,
        started,
    } = opened;
    let halt = Shutdown::new();
    let size = DatabaseSize::new(hooks.written_bytes(), Arc::clone(&metrics));
    size.measure(&applier);
    let (proposals, proposal_queue) = propose::queue();
    let (barriers, barrier_queue) = barrier::queue();
    let standing = watch::Sender::new(Standing::default());
    let compacted = watch::Sender::new(machine.read().compaction_finished());
    let (patience, contact) = (config.request_timeout(), Contact::default());
    let liveness = consensus::Liveness {
        contact: contact.clone(),
        limit: config.election_timeout,
        interval: config.heartbeat_interval,
    };
    let connections = peers.clone();
    let route = Route::new(raft.clone(), peers);
    let carrier = Carrier {
        member_id: identity.member_id,
        route: route.clone(),
        outcomes: hooks.outcomes().clone(),
        standing: standing.subscribe(),
        patience,
        metrics: Arc::clone(&metrics),
    };
    let barrier = Barrier {
        member_id: identity.member_id,
        route: route.clone(),
        standing: standing.subscribe(),
        applied: hooks.watch_applied(),
        patience,
        metrics: Arc::clone(&metrics),
    };
    let store = Store::new(StoreParts {
        config,
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        machine,
        proposals,
        barriers,
        standing: standing.subscribe(),
        compacted: compacted.subscribe(),
        started,
        carrier: carrier.clone(),
        metrics: Arc::clone(&metrics),
        access: hooks.access(),
        shutdown: shutdown.clone(),
    });
    let batches = propose::run(proposal_queue, carrier);
    tasks::spawn_until("proposals", halt.clone(), batches);
    tasks::spawn_until("read-barrier", halt.clone(), barrier::run(barrier_queue, barrier));
    let observer = observe(&store, &raft, liveness, standing, &metrics, fatal);
    tasks::spawn_until("standing", halt.clone(), observer);
    let measuring = size.clone().keep_measuring(applier.clone());
    tasks::spawn_until("database-size", halt.clone(), measuring);
    let bounding = drivers::bound_log(raft.clone(), Arc::clone(&metrics));
    tasks::spawn_until("log-size", halt.clone(), bounding);
    drivers::spawn_all(&halt, &store, &applier, hooks.compaction(), compacted, fatal.clone());
    let (to, with, by) = (store.clone(), applier.clone(), route.clone());
    let comparison = Comparison { store: to, applier: with, route: by };
    tasks::spawn_until("integrity", halt.clone(), comparison.run());
    let peer_stop = Shutdown::new();
    let (to, stop, counters) = (store.clone(), peer_stop.clone(), Arc::clone(&metrics));
    let streams = Streams::default();
    let demise = Demise::new(store.route().clone(), streams.clone());
    tasks::spawn_until("demise", halt.clone(), demise.clone().watch());
    let ends = (streams, demise);
    let peers = PeerPort::new(identity, applier.clone(), to, contact, ends, stop, counters);
    let cluster = Cluster::new(store.clone(), raft.clone(), remote, connections);
    cluster::run(&cluster, &halt, fatal);
    let parts = Parts {
        raft,
        store: store.clone(),
        wal,
        applier: applier.clone(),
        servers: Vec::new(),
        peer_servers: Vec::new(),
        peer_stop,
        halt,
        _data: data,
    };
    (parts, Core { store, hub, applier, size, peers, cluster, metrics })
}

/// TLS of connections to other members, if there are certificates for it.
fn peer_tls(config: &Config) -> Result<Option<Arc<ClientTls>>, Cause> {
    if config.peer_tls.is_empty() {
        return Ok(None);
    }
    let hosts = hosts(&config.listen_peer_urls.iter().collect::<Vec<_>>());
    let tls = ClientTls::new(&config.peer_tls, &config.tls, &config.data_dir, &hosts);
    Ok(Some(Arc::new(tls.map_err(PortError::Tls)?)))
}

fn open_wal(dir: &Path, metrics: &Arc<Metrics>) -> Result<Wal, WalError> {
    let metrics = Arc::clone(metrics);
    let on_sync = Arc::new(move |bytes, took| metrics.synced(bytes, took));
    Wal::open(Arc::new(RealVfs), dir, WalOptions { on_sync, ..WalOptions::default() })
}

/// Keeps the standing current, the leases' time while this member leads, and the metrics.
fn observe(
    store: &Store,
    raft: &Raft,
    liveness: consensus::Liveness,
    standing: watch::Sender<Standing>,
    metrics: &Arc<Metrics>,
    fatal: &Fatal,
) -> impl Future<Output = ()> + use<> {
    let (store, metrics) = (store.clone(), Arc::clone(metrics));
    let member_id = store.member_id();
    let changed = move |before, now| metrics.standing(before, now, member_id);
    let led = move |leads| {
        let extend_ms = store.config().election_timeout.as_millis() as u64;
        let now_ms = store.now_ms();
        let mut machine = store.machine().write();
        if leads {
            machine.leases_promote(now_ms, extend_ms);
        } else {
            machine.leases_demote();
        }
    };
    consensus::observe(raft.clone(), liveness, standing, led, changed, fatal.clone())
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

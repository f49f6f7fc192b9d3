//! What a member finds in its data folder, opened, with Raft running on it.
//!
//! Owns: the order in which files are opened. Must not know: ports and services. A newcomer's trap:
//! Raft speaks to the other members from here on, before anybody can speak to this one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use kijabi_base::clock::{self, Instant};
use kijabi_disk::lock::{DataDir, check_private};
use kijabi_disk::snapshot::StateHome;
use kijabi_disk::state::State;
use kijabi_disk::vfs::RealVfs;
use kijabi_disk::wal::{Wal, WalError, WalOptions};
use kijabi_machine::{Machine, Settings};
use parking_lot::RwLock;

use super::cause::Cause;
use crate::access::Access;
use crate::apply_hooks::ApplyHooks;
use crate::cluster::remote::Remote;
use crate::cluster::{force, join};
use crate::config::{Config, ETCD_VERSION};
use crate::consensus::{self, Applier, Awaited, Grants, LogStore, Network, Raft, RaftParts};
use crate::crew::RunningCrew;
use crate::identity::{self, Identity};
use crate::metrics::Metrics;
use crate::outcomes::Outcomes;
use crate::peer::connect::{self, Patience};
use crate::peer::{Activity, Peers};
use crate::ports::{PortError, hosts};
use crate::serve::{self, ClientTls};
use crate::watch::Hub;

/// What is on disk, opened, and Raft running on it.
pub(super) struct Opened {
    pub(super) config: Arc<Config>,
    pub(super) identity: Identity,
    pub(super) data: DataDir,
    pub(super) wal: Wal,
    pub(super) raft: Raft,
    /// What runs in one task with Raft.
    pub(super) crew: RunningCrew,
    pub(super) machine: Arc<RwLock<Machine>>,
    pub(super) applier: Applier,
    pub(super) hub: Arc<Hub>,
    pub(super) hooks: ApplyHooks,
    pub(super) peers: Peers,
    pub(super) remote: Remote,
    pub(super) metrics: Arc<Metrics>,
    /// Which commits other members wait for.
    pub(super) awaited: Awaited,
    pub(super) started: Instant,
}

/// Opens what is in the data folder and starts Raft on it.
pub(super) async fn open(config: Arc<Config>, data: DataDir) -> Result<Opened, Cause> {
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
    let metrics = Arc::new(Metrics::of(
        identity.member_id,
        ETCD_VERSION,
        &config,
        &serve::gateway::routes::rpcs(),
    ));
    let activity = Activity::new(Arc::clone(&metrics));
    let crew = RunningCrew::start("raft");
    let peers = Peers::new(identity, Arc::clone(&dial), patience, activity, crew.spawner().clone());
    let (state, settings, started) = (Arc::new(state), Settings::default(), clock::now());
    let (wal, machine) = read(&wal_dir, &metrics, &state, settings)?;
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
    let grants = Grants::new(log.clone());
    let awaited = Awaited::default();
    let network = Network {
        peers: peers.clone(),
        metrics: Arc::clone(&metrics),
        grants,
        log: log.clone(),
        awaited: awaited.clone(),
    };
    let parts = RaftParts { member_id: identity.member_id, network, log, applier: applier.clone() };
    let raft = consensus::start(crew.spawner(), &config, parts, members).await?;
    let opened = Opened {
        config,
        identity,
        data,
        wal,
        raft,
        crew,
        machine,
        applier,
        hub,
        hooks,
        peers,
        remote: Remote::new(identity.cluster_id, dial, patience),
        metrics,
        awaited,
        started,
    };
    Ok(opened)
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

/// Opens the log and the machine, both at once: each reads all it has.
fn read(
    wal_dir: &Path,
    metrics: &Arc<Metrics>,
    state: &Arc<State>,
    settings: Settings,
) -> Result<(Wal, Machine), Cause> {
    thread::scope(|scope| {
        let open = || open_wal(wal_dir, metrics);
        let log = thread::Builder::new().name("read-log".into()).spawn_scoped(scope, open)?;
        let machine = Machine::open(Arc::clone(state) as _, settings);
        let wal = log.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((wal?, machine?))
    })
}

fn open_wal(dir: &Path, metrics: &Arc<Metrics>) -> Result<Wal, WalError> {
    let metrics = Arc::clone(metrics);
    let on_sync = Arc::new(move |bytes, took| metrics.synced(bytes, took));
    Wal::open(Arc::new(RealVfs), dir, WalOptions { on_sync, ..WalOptions::default() })
}

//! What runs between Raft and the services.
//!
//! Owns: starting it, and how its parts know each other. Must not know: files and ports. A newcomer's
//! trap: what runs here serves clients that still wait, so it ends after the servers do.

use std::sync::Arc;

use kijabi_base::tasks::{self, Shutdown};
use kijabi_disk::wal::Wal;
use tokio::sync::watch;

use super::Parts;
use super::opened::Opened;
use crate::barrier::{self, Barrier};
use crate::cluster::{self, Cluster};
use crate::consensus::{self, Applier, Follow, LogStore};
use crate::demise::Demise;
use crate::drivers::{self, DatabaseSize};
use crate::fatal::Fatal;
use crate::integrity::Comparison;
use crate::leases;
use crate::metrics::Metrics;
use crate::peer::{Contact, PeerPort, PeerPortParts, Route, Streams};
use crate::propose::{self, Carrier};
use crate::store::{Standing, Store, StoreParts};
use crate::watch::Hub;

/// What the services need.
pub(super) struct Core {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) applier: Applier,
    pub(super) size: DatabaseSize,
    pub(super) peers: PeerPort,
    pub(super) cluster: Cluster,
    pub(super) metrics: Arc<Metrics>,
}

// === impl Core ===

impl Core {
    /// Starts everything between Raft and the services.
    pub(super) fn run(opened: Opened, shutdown: &Shutdown, fatal: &Fatal) -> (Parts, Self) {
        let (halt, peer_stop, contact) = (Shutdown::new(), Shutdown::new(), Contact::default());
        let (store, size) = run_store(&opened, &contact, shutdown, &halt, fatal);
        let Opened {
            identity,
            data,
            wal,
            raft,
            crew,
            applier,
            hub,
            peers,
            remote,
            metrics,
            awaited,
            ..
        } = opened;
        let comparison = Comparison {
            store: store.clone(),
            applier: applier.clone(),
            route: store.route().clone(),
        };
        tasks::spawn_until("integrity", halt.clone(), comparison.run());
        let cluster = Cluster::new(store.clone(), raft.clone(), remote, peers);
        cluster::run(&cluster, &halt, fatal);
        let streams = Streams::default();
        let demise = Demise::new(store.route().clone(), streams.clone());
        tasks::spawn_until("demise", halt.clone(), demise.clone().watch());
        let peers = PeerPort::new(PeerPortParts {
            identity,
            log: LogStore::new(wal.clone()),
            applier: applier.clone(),
            awaited,
            store: store.clone(),
            contact,
            streams,
            demise,
            stop: peer_stop.clone(),
            metrics: Arc::clone(&metrics),
        });
        let parts = Parts {
            raft,
            crew,
            store: store.clone(),
            wal,
            applier: applier.clone(),
            servers: Vec::new(),
            peer_servers: Vec::new(),
            peer_stop,
            halt,
            _data: data,
        };
        (parts, Self { store, hub, applier, size, peers, cluster, metrics })
    }
}

/// Starts the store: the way of proposals, renewals and reads, and what the member does by itself.
fn run_store(
    opened: &Opened,
    contact: &Contact,
    shutdown: &Shutdown,
    halt: &Shutdown,
    fatal: &Fatal,
) -> (Store, DatabaseSize) {
    let Opened { config, identity, raft, machine, applier, hooks, hub, metrics, .. } = opened;
    let (proposals, proposal_queue) = propose::queue();
    let (barriers, barrier_queue) = barrier::queue();
    let (renewals, renewal_queue) = leases::queue();
    let standing = watch::Sender::new(Standing::default());
    let compacted = watch::Sender::new(machine.read().compaction_finished());
    let (carrier, barrier) = ways(opened, &standing);
    let store = Store::new(StoreParts {
        config: Arc::clone(config),
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        machine: Arc::clone(machine),
        proposals,
        barriers,
        renewals,
        standing: standing.subscribe(),
        applied: hooks.watch_applied(),
        compacted: compacted.subscribe(),
        started: opened.started,
        carrier: carrier.clone(),
        metrics: Arc::clone(metrics),
        access: hooks.access(),
        shutdown: shutdown.clone(),
    });
    // They run with Raft: there is one of them for each write or read, and nothing beside.
    let crew = opened.crew.spawner();
    let proposing = propose::run(proposal_queue, carrier, crew.clone());
    crew.spawn_until(halt.clone(), proposing);
    crew.spawn_until(halt.clone(), barrier::run(barrier_queue, barrier));
    let renewing = leases::renew(renewal_queue, store.clone());
    tasks::spawn_until("lease-renewals", halt.clone(), renewing);
    let liveness = consensus::Liveness {
        contact: contact.clone(),
        limit: config.election_timeout,
        interval: config.heartbeat_interval,
    };
    let follow = Consequences {
        store: store.clone(),
        metrics: Arc::clone(metrics),
        wal: opened.wal.clone(),
    };
    let observing = consensus::observe(raft.clone(), liveness, standing, follow, fatal.clone());
    tasks::spawn_until("standing", halt.clone(), observing);
    tasks::spawn_until("watch-fan-out", halt.clone(), Arc::clone(hub).keep_telling());
    let size = DatabaseSize::new(hooks.written_bytes(), Arc::clone(metrics));
    size.measure(applier);
    let measuring = size.clone().keep_measuring(applier.clone());
    tasks::spawn_until("database-size", halt.clone(), measuring);
    let bounding = drivers::bound_log(raft.clone(), Arc::clone(metrics));
    tasks::spawn_until("log-size", halt.clone(), bounding);
    drivers::spawn_all(halt, &store, applier, hooks.compaction(), compacted, fatal.clone());
    (store, size)
}

/// The ways of writes and reads to the leader, wherever it is.
fn ways(opened: &Opened, standing: &watch::Sender<Standing>) -> (Carrier, Barrier) {
    let route = Route::new(opened.raft.clone(), opened.peers.clone());
    let patience = opened.config.request_timeout();
    let carrier = Carrier {
        member_id: opened.identity.member_id,
        route: route.clone(),
        outcomes: opened.hooks.outcomes().clone(),
        standing: standing.subscribe(),
        patience,
        metrics: Arc::clone(&opened.metrics),
    };
    let barrier = Barrier {
        member_id: opened.identity.member_id,
        route,
        standing: standing.subscribe(),
        applied: opened.hooks.watch_applied(),
        patience,
        metrics: Arc::clone(&opened.metrics),
    };
    (carrier, barrier)
}

/// What follows from how this member stands.
struct Consequences {
    store: Store,
    metrics: Arc<Metrics>,
    wal: Wal,
}

impl Follow for Consequences {
    fn changed(&self, before: Standing, now: Standing) {
        self.metrics.standing(before, now, self.store.member_id());
    }

    /// The leases' time is kept by the leader.
    fn led(&self, leads: bool) {
        let extend_ms = self.store.config().election_timeout.as_millis() as u64;
        let now_ms = self.store.now_ms();
        let mut machine = self.store.machine().write();
        if leads {
            machine.leases_promote(now_ms, extend_ms);
        } else {
            machine.leases_demote();
        }
    }

    fn replicates(&self, replicates: bool) {
        self.wal.set_replicates(replicates);
    }
}

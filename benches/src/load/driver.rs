//! A run: connections on threads, the phases, and what comes out.
//!
//! Owns: the order of phases and who is on which thread. Must not know: what an operation does. A
//! newcomer's trap: each thread has a runtime of its own and its share of the connections, so that
//! nothing of an operation goes from one thread to another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::anyhow;
use kijabi_base::clock;
use kijabi_base::tasks::{self, Shutdown};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::args::Common;
use super::lane::{Lane, MANY, Phase, Role, Schedule, Shared, Slot};
use super::latency::Percentiles;
use super::maintenance::{self, Chore};
use super::progress;
use super::server::{Meters, Usage};
use super::session::Session;
use super::workload::{Client, Load};

/// How long connections and watches may take to stand.
const STAND: Duration = Duration::from_secs(180);
/// How long operations that are under way at the end may take.
const DRAIN: Duration = Duration::from_secs(30);

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) operations: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    pub(super) elapsed: Duration,
    pub(super) latency: Percentiles,
    pub(super) usage: Usage,
    pub(super) chores: Vec<Chore>,
}

/// Connections with their clients on threads.
pub(super) struct Crew {
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<()>>,
    lanes: usize,
}

impl Crew {
    /// Connects; watchers begin to watch. Clients take turns on the connections.
    pub(super) fn start(
        session: &Session,
        clients: Vec<(Role, Box<dyn Client>)>,
        conns: usize,
        threads: usize,
        seed: u64,
        shared: &Arc<Shared>,
    ) -> Self {
        let conns = conns.max(1);
        let mut slots: Vec<Vec<Slot>> = (0..conns).map(|_| Vec::new()).collect();
        let (mut measured, mut watchers) = (0, 0);
        for (number, (role, client)) in clients.into_iter().enumerate() {
            let turn = if role == Role::Measured { &mut measured } else { &mut watchers };
            // Watchers from the other end, so that a single client has a connection to itself.
            let lane = *turn % conns;
            let lane = if role == Role::Measured { lane } else { conns - 1 - lane };
            *turn += 1;
            let rng = SmallRng::seed_from_u64(seed.wrapping_add((number as u64 + 1) << 20));
            slots[lane].push(Slot::new(client, role, rng));
        }
        let measured = measured.min(conns);
        let (phase, phases) = watch::channel(Phase::Waiting);
        let mut of_thread: Vec<Vec<Lane>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
        let mut lanes = 0;
        for (number, slots) in slots.into_iter().enumerate() {
            // A connection without anybody is part of the load that was asked for, but takes no
            // turn in the open loop.
            let turns = (number as u64, measured.max(1) as u64);
            let many = conns > MANY;
            let dialer = session.dialer.clone();
            let lane = Lane::new(number, turns, many, dialer, slots, shared.clone());
            of_thread[number % threads.max(1)].push(lane);
            lanes += 1;
        }
        let threads = of_thread.into_iter().map(|lanes| thread(lanes, phases.clone())).collect();
        Self { phase, threads, lanes }
    }

    /// All lanes go on to this.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Its connections. Those without clients to measure are quiet as soon as load is made.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Ends all of it.
    pub(super) async fn end(self) {
        self.enter(Phase::Ended);
        for thread in self.threads {
            let _ = thread.await;
        }
    }
}

fn thread(lanes: Vec<Lane>, phases: watch::Receiver<Phase>) -> JoinHandle<()> {
    tasks::blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime of one thread needs no more than a few files");
        runtime.block_on(async move {
            let running: Vec<_> = lanes
                .into_iter()
                .map(|lane| tasks::spawn("connection", lane.run(phases.clone())))
                .collect();
            for lane in running {
                let _ = lane.await;
            }
        });
    })
}

/// Runs a load: warms up, measures, and waits for what is under way.
pub(super) async fn run(
    common: &Common,
    session: &Session,
    load: &Arc<dyn Load>,
    meters: &Meters,
    shown: bool,
) -> anyhow::Result<Outcome> {
    let shared = Arc::new(Shared::new());
    let mut clients = load.watchers();
    for number in 0..common.clients {
        clients.extend(load.client(number).map(|client| (Role::Measured, client)));
    }
    let crew = Crew::start(session, clients, common.conns, common.threads(), common.seed, &shared);
    stand(&crew, &shared, load).await?;
    let started = clock::now();
    let measure_from = started + common.warm_up;
    let until = measure_from + common.duration;
    let interval = common.rate.map(|rate| 1.0 / rate.max(f64::MIN_POSITIVE));
    crew.enter(Phase::Running(Schedule { started, measure_from, until: Some(until), interval }));
    tokio::time::sleep_until(measure_from).await;
    let ended = Shutdown::new();
    if shown {
        progress::show(common.duration, shared.clone(), ended.clone());
    }
    load.measuring();
    let before = meters.read().await;
    let chores = common.maintenance.then(|| {
        let chores = maintenance::all(session.clone(), common.duration);
        tasks::spawn("maintenance", chores)
    });
    tokio::time::sleep_until(until).await;
    load.over();
    let usage = meters.read().await.since(&before);
    let operations = shared.done.load(Ordering::Relaxed);
    ended.trigger();
    let quiet = async {
        while shared.quiet.load(Ordering::Relaxed) < crew.lanes() {
            let _ = tokio::time::timeout(Duration::from_millis(50), shared.news.notified()).await;
        }
    };
    let _ = tokio::time::timeout(DRAIN, quiet).await;
    let chores = match chores {
        Some(chores) => chores.await??,
        None => Vec::new(),
    };
    load.ended().await;
    crew.end().await;
    let first_error = shared.first_error.lock().clone();
    // In the open loop what was due in time counts, also if its answer came later.
    let operations =
        if interval.is_some() { shared.done.load(Ordering::Relaxed) } else { operations };
    Ok(Outcome {
        operations,
        errors: shared.errors.load(Ordering::Relaxed),
        first_error,
        elapsed: common.duration,
        latency: shared.latencies.percentiles(),
        usage,
        chores,
    })
}

/// Waits until all connections and watches stand.
async fn stand(crew: &Crew, shared: &Shared, load: &Arc<dyn Load>) -> anyhow::Result<()> {
    let standing = async {
        while shared.connected.load(Ordering::Relaxed) < crew.lanes || !load.ready() {
            if let Some(why) = shared.first_error.lock().clone() {
                return Err(anyhow!(why));
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), shared.news.notified()).await;
        }
        Ok(())
    };
    tokio::time::timeout(STAND, standing)
        .await
        .unwrap_or_else(|_| Err(anyhow!("connections and watches do not stand in time")))
}

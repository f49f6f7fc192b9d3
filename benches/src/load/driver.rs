//! The clients: closed loop or open loop.
//!
//! Owns: when an operation is sent and from when its latency counts. Must not know: what it does.
//! A newcomer's trap: in the open loop an operation's latency begins at the time it was due, also
//! if it could only be sent later; otherwise a server that stalls would hide it (coordinated
//! omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use kijabi_base::tasks::{self, Shutdown};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::args::Common;
use super::latency::{Latencies, Percentiles};
use super::progress;
use super::server::{Meters, Usage};
use super::target::Target;
use super::workload::{Client, Load};

/// A client whose requests fail waits this long before the next.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
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
}

/// Runs the clients of one load.
pub(super) struct Driver {
    common: Common,
    target: Target,
    load: Arc<dyn Load>,
}

/// What the clients share.
struct Shared {
    started: Instant,
    measure_from: Instant,
    until: Instant,
    /// Seconds between two operations of the open loop.
    interval: Option<f64>,
    next: AtomicU64,
    done: Arc<AtomicU64>,
    errors: AtomicU64,
    first_error: parking_lot::Mutex<Option<String>>,
    latencies: Arc<Latencies>,
}

impl Driver {
    pub(super) fn new(common: &Common, target: Target, load: Arc<dyn Load>) -> Self {
        Self { common: common.clone(), target, load }
    }

    /// Warms up, measures, and waits for what is under way.
    pub(super) async fn run(self, meters: &Meters, shown: bool) -> anyhow::Result<Outcome> {
        let started = clock::now();
        let measure_from = started + self.common.warm_up;
        let shared = Arc::new(Shared {
            started,
            measure_from,
            until: measure_from + self.common.duration,
            interval: self.common.rate.map(|rate| 1.0 / rate.max(f64::MIN_POSITIVE)),
            next: AtomicU64::new(0),
            done: Arc::new(AtomicU64::new(0)),
            errors: AtomicU64::new(0),
            first_error: parking_lot::Mutex::new(None),
            latencies: Arc::new(Latencies::new()),
        });
        let ended = Shutdown::new();
        let mut clients = Vec::with_capacity(self.common.clients);
        for number in 0..self.common.clients.max(1) {
            let client = self.load.client(number, &self.target).await?;
            let rng = SmallRng::seed_from_u64(self.common.seed.wrapping_add(number as u64) << 16);
            clients.push(tasks::spawn("client", run_client(number, client, rng, shared.clone())));
        }
        tokio::time::sleep_until(measure_from).await;
        if shown {
            let (done, latencies) = (shared.done.clone(), shared.latencies.clone());
            progress::show(self.common.duration, done, latencies, ended.clone());
        }
        self.load.measuring();
        let before = meters.read().await;
        tokio::time::sleep_until(shared.until).await;
        let usage = meters.read().await.since(&before);
        let (operations, elapsed) =
            (shared.done.load(Ordering::Relaxed), clock::now() - measure_from);
        ended.trigger();
        for client in clients {
            let _ = tokio::time::timeout(DRAIN, client).await;
        }
        let first_error = shared.first_error.lock().clone();
        Ok(Outcome {
            operations,
            errors: shared.errors.load(Ordering::Relaxed),
            first_error,
            elapsed,
            latency: shared.latencies.percentiles(),
            usage,
        })
    }
}

async fn run_client(
    number: usize,
    mut client: Box<dyn Client>,
    mut rng: SmallRng,
    shared: Arc<Shared>,
) {
    loop {
        let mut due = clock::now();
        if let Some(interval) = shared.interval {
            let turn = shared.next.fetch_add(1, Ordering::Relaxed);
            due = shared.started + Duration::from_secs_f64(turn as f64 * interval);
            if due < shared.until {
                tokio::time::sleep_until(due).await;
            }
        }
        if due >= shared.until {
            return;
        }
        let answer = client.once(&mut rng).await;
        let now = clock::now();
        let recorded = due >= shared.measure_from && now <= shared.until;
        match answer {
            Ok(()) if recorded => {
                shared.done.fetch_add(1, Ordering::Relaxed);
                shared.latencies.record(number, now - due);
            }
            Ok(()) => {}
            Err(status) => {
                if recorded {
                    shared.errors.fetch_add(1, Ordering::Relaxed);
                    shared.first_error.lock().get_or_insert_with(|| status.to_string());
                }
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

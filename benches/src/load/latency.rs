//! Latencies of many clients at once.
//!
//! Owns: recording without one lock for all, and the percentiles. Must not know: of what. A
//! newcomer's trap: a histogram a client would be gigabytes with thousands of clients, so clients
//! share a few.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

const SHARDS: usize = 16;
/// Longest latency that is told apart, in microseconds; longer ones count as this.
const MICROS_MAX: u64 = 120_000_000;

/// Where latencies are recorded.
#[derive(Debug)]
pub(super) struct Latencies {
    shards: Vec<Mutex<Histogram<u64>>>,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Percentiles {
    /// Mean.
    pub mean: f64,
    /// Half are faster.
    pub p50: u64,
    /// 90 % are faster.
    pub p90: u64,
    /// 99 % are faster.
    pub p99: u64,
    /// 99.9 % are faster.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    pub(super) fn new() -> Self {
        let shard = || Mutex::new(Histogram::new_with_max(MICROS_MAX, 3).expect("valid bounds"));
        Self { shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Records one latency; those of different `client`s are seldom in each other's way.
    pub(super) fn record(&self, client: usize, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        self.shards[client % SHARDS].lock().saturating_record(micros);
    }

    /// All of them so far.
    pub(super) fn all(&self) -> Histogram<u64> {
        let mut all: Histogram<u64> = Histogram::new_with_max(MICROS_MAX, 3).expect("valid bounds");
        for shard in &self.shards {
            all.add(&*shard.lock()).expect("the same bounds");
        }
        all
    }

    /// The percentiles of all of them.
    pub(super) fn percentiles(&self) -> Percentiles {
        let all = self.all();
        if all.is_empty() {
            return Percentiles::default();
        }
        let at = |quantile| all.value_at_quantile(quantile);
        Percentiles {
            mean: all.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: all.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_over_all_clients() {
        let latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), Percentiles::default());
        for client in 0..1_000 {
            latencies.record(client, Duration::from_micros(client as u64 + 1));
        }
        let seen = latencies.percentiles();
        assert_eq!((seen.p50, seen.p90, seen.p99, seen.max), (500, 900, 990, 1_000));
        latencies.record(0, Duration::from_secs(1_000));
        assert!(latencies.percentiles().max >= 119_000_000);
    }
}

//! What a run shows while it runs.
//!
//! Owns: the progress bar on a terminal. Must not know: what is counted. A newcomer's trap: it
//! goes to standard error, so that the report on standard output can be piped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kijabi_base::tasks::{self, Shutdown};

use super::lane::Shared;

const TICK: Duration = Duration::from_millis(250);

/// Shows rate and p99, both of the last tick, until `ended`.
pub(super) fn show(length: Duration, shared: Arc<Shared>, ended: Shutdown) {
    let bar = ProgressBar::new(length.as_millis() as u64);
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}");
    bar.set_style(style.expect("a valid template"));
    tasks::spawn("progress", async move {
        let (mut before, mut elapsed) = (shared.done.load(Ordering::Relaxed), Duration::ZERO);
        let mut seen = shared.latencies.all();
        while !ended.is_triggered() {
            tokio::time::sleep(TICK).await;
            elapsed += TICK;
            let now = shared.done.load(Ordering::Relaxed);
            let rate = (now - before) as f64 / TICK.as_secs_f64();
            before = now;
            let all = shared.latencies.all();
            let mut last = all.clone();
            let p99 = match last.subtract(&seen) {
                Ok(()) if !last.is_empty() => last.value_at_quantile(0.99) as f64 / 1_000.0,
                _ => 0.0,
            };
            seen = all;
            bar.set_position(elapsed.as_millis() as u64);
            bar.set_message(format!("{rate:.0}/s, p99 {p99:.2} ms"));
        }
        bar.finish_and_clear();
    });
}

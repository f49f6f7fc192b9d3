//! The one way to start a task: it has a name, its panic is logged, and it ends with its owner.
#![allow(clippy::disallowed_methods, reason = "this is the seam")]

use std::future::Future;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::limits;

/// Tells everything that shares it to stop. Cloning shares; [`Shutdown::child`] can stop alone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(tokio_util::sync::CancellationToken);

impl Shutdown {
    /// A shutdown nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that stops with this one, or before it.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Asks for the stop. Idempotent.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the stop was asked for.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves once the stop is asked for.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}

/// Runs `future` in the background under `name`. A panic in it is logged and seen in the handle.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.instrument(tracing::debug_span!("task", name)))
}

/// Runs `future` until it ends or `shutdown` is triggered, whichever is first.
pub fn spawn_until<F>(name: &'static str, shutdown: Shutdown, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    spawn(name, async move {
        tokio::select! {
            // What the future sees of a stop, such as a part that has ended, is then no news to it.
            biased;
            () = shutdown.wait() => {}
            () = future => {}
        }
    })
}

/// Runs `work` on a thread that may block.
pub fn blocking<F, R>(work: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    tokio::task::spawn_blocking(work)
}

/// Upkeep that runs at once; more waits for its turn.
static UPKEEP: Semaphore = Semaphore::const_new(limits::UPKEEP_THREADS_MAX);

/// Runs `work` on a thread of its own that gets a core only when nothing else wants it much: what
/// takes long and nobody hurries for. `None` if it panicked, or there are no threads left.
pub async fn upkeep<F, R>(name: &'static str, work: F) -> Option<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let turn = UPKEEP.acquire().await.ok()?;
    let (sender, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Of this thread alone, on Linux. It cannot be taken back, hence no thread of a pool.
        let own = rustix::process::getpriority_process(None).unwrap_or_default();
        let niceness = own.max(UPKEEP_NICENESS);
        if let Err(error) = rustix::process::setpriority_process(None, niceness) {
            tracing::debug!(%error, name, "upkeep runs at the usual priority");
        }
        // Whoever waited may be gone.
        let _ = sender.send(work());
        drop(turn);
    });
    if let Err(error) = thread {
        tracing::error!(%error, name, "no thread for upkeep");
    }
    result.await.ok()
}

/// Between the usual 0 and the last, 19, which would never end beside a busy store.
const UPKEEP_NICENESS: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn upkeep_is_patient_and_its_panic_is_no_answer() {
        let niceness =
            || rustix::process::getpriority_process(None).expect("Linux knows the priority");
        let before = niceness();
        let running = upkeep("patient", niceness).await;
        assert_eq!(running, Some(UPKEEP_NICENESS.max(before)));
        assert_eq!(niceness(), before, "of that thread alone");
        assert_eq!(upkeep("panics", move || assert!(before > 100, "as it should")).await, None);
        assert_eq!(upkeep("after it", || 7).await, Some(7));
    }
}

//! The one way to start a task: it has a name, its panic is logged, and it ends with its owner.
#![allow(clippy::disallowed_methods, reason = "this is the seam")]

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument as _;

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

//! How every controller runs: workers take keys from its queue and reconcile them.
//!
//! Owns: retrying with backoff. Must not know: what is reconciled. A newcomer's trap: an error is
//! normal (conflicts, a cache that is behind) and only logged when it repeats.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::tasks;
use kijabi_client::WorkQueue;
pub(crate) use kijabi_client::message_of;

use crate::Context;

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API refused or could not be reached.
    #[error("{}", message_of(.0))]
    Api(#[from] kube::Error),
    /// Something that should pass by itself.
    #[error("{0}")]
    NotYet(String),
}

/// The HTTP status code of an API error; 0 if it is of another sort.
pub(crate) fn code_of(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// Not found is fine: what should be gone is gone.
pub(crate) fn ignore_not_found<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Err(error) if code_of(&error) == 404 => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// One controller's work on one key.
pub(crate) trait Reconcile: Send + Sync + 'static {
    /// What names a piece of work.
    type Key: Ord + Clone + Send + Sync + fmt::Display + 'static;
    /// For logs.
    const NAME: &'static str;

    /// Brings what `key` names in line. `Some(wait)` asks to be called again later.
    fn reconcile(
        &self,
        key: &Self::Key,
    ) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;
}

/// Starts `count` workers on `queue`. They begin once all caches have listed: a controller that
/// does not see what is there would make it again.
pub(crate) fn spawn<R: Reconcile>(
    context: &Context,
    controller: Arc<R>,
    queue: Arc<WorkQueue<R::Key>>,
    count: usize,
) {
    for _ in 0..count {
        let mut ready = context.ready.clone();
        let work = work(controller.clone(), queue.clone());
        tasks::spawn_until(R::NAME, context.term.clone(), async move {
            if ready.wait_for(|ready| *ready).await.is_ok() {
                work.await;
            }
        });
    }
}

async fn work<R: Reconcile>(controller: Arc<R>, queue: Arc<WorkQueue<R::Key>>) {
    loop {
        let key = queue.next().await;
        let outcome = controller.reconcile(&key).await;
        queue.done(&key);
        match outcome {
            Ok(again) => {
                queue.forget(&key);
                if let Some(wait) = again {
                    queue.add_after(key, wait);
                }
            }
            Err(error) => {
                tracing::debug!(controller = R::NAME, %key, %error, "trying again");
                queue.retry(key);
            }
        }
    }
}

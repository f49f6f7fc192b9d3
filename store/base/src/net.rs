//! What every listener needs: to be rid of a connection that never says anything.
//!
//! Owns: the time a connection has for its first request. Must not know: protocols. A newcomer's
//! trap: HTTP servers bound the time of a request's headers once they know which protocol is
//! spoken; a client that sends nothing at all is before that, and would be waited for for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether a connection has sent a whole request's head yet. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<AtomicBool>);

impl Heard {
    /// A connection that has not been heard of yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request has come.
    pub fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Resolves when `patience` is over and no request has come; never, if one has.
    pub async fn silent_for(&self, patience: Duration) {
        tokio::time::sleep(patience).await;
        if self.0.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_that_said_nothing_is_given_up() {
        let patience = Duration::from_secs(10);
        let (silent, talking) = (Heard::new(), Heard::new());
        talking.mark();
        tokio::select! {
            () = silent.silent_for(patience) => {}
            () = talking.silent_for(patience / 2) => panic!("it has sent a request"),
        }
    }
}

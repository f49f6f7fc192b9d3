//! The one way a member stops itself: better down than wrong.
//!
//! Owns: the first reason. Must not know: who waits for it.

use std::sync::Arc;

use tokio::sync::watch;

/// Why a member stopped itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the member stopped itself: {why}")]
pub struct MemberError {
    why: Arc<str>,
    /// It has nothing left to do; that is no fault.
    left: bool,
}

impl MemberError {
    /// What is to be said of the end.
    pub(crate) fn into_result(self) -> Result<(), Self> {
        if self.left { Ok(()) } else { Err(self) }
    }
}

/// Tells the member to stop. Cloning shares.
#[derive(Clone, Debug)]
pub(crate) struct Fatal(watch::Sender<Option<MemberError>>);

// === impl Fatal ===

impl Fatal {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Stops the member. The first reason counts.
    pub(crate) fn stop(&self, why: impl Into<Arc<str>>) {
        self.end(MemberError { why: why.into(), left: false });
    }

    /// Stops the member without a fault: the cluster has no place for it any more.
    pub(crate) fn leave(&self, why: impl Into<Arc<str>>) {
        self.end(MemberError { why: why.into(), left: true });
    }

    fn end(&self, error: MemberError) {
        self.0.send_if_modified(|reason| {
            if reason.is_some() {
                return false;
            }
            tracing::error!(why = %error.why, "the member stops itself");
            *reason = Some(error);
            true
        });
    }

    /// Resolves once the member is to stop.
    pub(crate) async fn wait(&self) -> MemberError {
        let mut reason = self.0.subscribe();
        let told = reason.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match told {
            Some(reason) => reason,
            // The sender is `self`.
            None => std::future::pending().await,
        }
    }
}

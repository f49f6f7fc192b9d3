//! The one way a member stops itself: better down than wrong.
//!
//! Owns: the first reason. Must not know: who waits for it.

use std::sync::Arc;

use tokio::sync::watch;

/// Why a member stopped itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the member stopped itself: {0}")]
pub struct MemberError(Arc<str>);

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
        let why = why.into();
        self.0.send_if_modified(|reason| {
            if reason.is_some() {
                return false;
            }
            tracing::error!(%why, "the member stops itself");
            *reason = Some(MemberError(why));
            true
        });
    }

    /// Resolves once the member is to stop.
    pub(crate) async fn wait(&self) -> MemberError {
        let mut reason = self.0.subscribe();
        match reason.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().expect("it was waited for"),
            // The sender is `self`.
            Err(_) => std::future::pending().await,
        }
    }
}

//! Entries that the leader sends, on one stream.
//!
//! Owns: what comes in and what is answered. Must not know: what Raft makes of it. A newcomer's
//! trap: what only tells of a commit is not answered if it was taken, so answers are fewer than
//! requests.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kijabi_proto::peer as pb;
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use parking_lot::Mutex;
use tonic::Status;

use super::contact::Contact;
use super::streams::Open;
use super::wire::{self, Malformed};
use crate::consensus::types::Vote;
use crate::consensus::{Raft, TypeConfig};
use crate::metrics::Metrics;

/// The stream of one leader.
pub(super) struct Entries {
    pub(super) leader: u64,
    pub(super) contact: Contact,
    pub(super) metrics: Arc<Metrics>,
    /// The stream is open for as long as this is there.
    pub(super) open: Open,
}

/// Which of the requests that Raft has not answered need no answer, in order. No more than Raft
/// takes at once.
type Silent = Arc<Mutex<VecDeque<bool>>>;

// === impl Entries ===

impl Entries {
    /// Hands what comes in to Raft. Ends at the first message that is none; the sender notices that
    /// answers are missing.
    pub(super) fn take(
        self,
        raft: &Raft,
        messages: impl Stream<Item = Result<pb::AppendRequest, Status>> + Send + 'static,
    ) -> impl Stream<Item = Result<pb::AppendResponse, Status>> + Send + 'static {
        let (silent, metrics, leader) = (Silent::default(), Arc::clone(&self.metrics), self.leader);
        let asked = Arc::clone(&silent);
        let requests = messages.map(move |message| {
            let checked = message.map_err(|error| error.to_string()).and_then(|message| {
                let is_silent = message.silent && message.entries.is_empty();
                let request = checked(message, leader).map_err(|error| error.to_string())?;
                metrics.peers.received(leader, bytes(&request));
                asked.lock().push_back(is_silent);
                Ok(request)
            });
            checked.map_err(|error| tracing::debug!(%error, "a stream of entries ended")).ok()
        });
        let requests = requests.take_while(|request| std::future::ready(request.is_some()));
        let requests = requests.filter_map(std::future::ready);
        raft.stream_append(Box::pin(requests)).filter_map(move |appended| {
            let silent = silent.lock().pop_front().unwrap_or(false);
            std::future::ready(self.answer(appended, silent).transpose())
        })
    }

    fn answer(
        &self,
        appended: Result<StreamAppendResult<TypeConfig>, impl std::fmt::Display>,
        silent: bool,
    ) -> Result<Option<pb::AppendResponse>, Status> {
        let appended =
            appended.map_err(|error| Status::unavailable(format!("raft has stopped: {error}")))?;
        if appended.is_ok() {
            self.contact.heard(self.leader);
        }
        // Open as long as answers may come.
        let _ = &self.open;
        Ok((!silent || appended.is_err()).then(|| wire::from_appended(&appended)))
    }
}

fn checked(
    message: pb::AppendRequest,
    leader: u64,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let request = wire::to_append(message)?;
    check_vote(&request.vote, leader)?;
    Ok(request)
}

/// Nobody speaks for somebody else.
pub(super) fn check_vote(vote: &Vote, sender: u64) -> Result<(), Malformed> {
    if vote.leader_id.voted_for == sender {
        return Ok(());
    }
    Err(Malformed("a vote of another member"))
}

fn bytes(request: &AppendEntriesRequest<TypeConfig>) -> usize {
    let sizes = request.entries.iter().map(|entry| match &entry.payload {
        EntryPayload::Normal(batch) => batch.0.len(),
        _ => 0,
    });
    sizes.sum()
}

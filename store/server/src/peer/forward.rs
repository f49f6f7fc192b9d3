//! Batches on their way to the leader, all on one stream: both ends of it.
//!
//! Owns: which batches are on the stream, and what the leader says of them. Must not know: what a
//! batch means, or what became of one that was taken. A newcomer's trap: the leader only speaks of
//! what it refuses. Whoever sent a batch sees in its own apply loop that it was taken; an answer
//! for that would be a packet more for each write.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kijabi_proto::command::Batch;
use kijabi_proto::peer as pb;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::client::{Client, never_sent};
use super::wire::Malformed;
use crate::consensus::{Awaited, Payload, Raft};
use crate::crew::Spawner;
use crate::limits::{FORWARDED_BATCHES_MAX, UNRESOLVED_BATCHES_MAX};
use crate::propose::{Submitted, submit_here};
use crate::status::EtcdError;

/// The batches that go to one other member. Cloning shares.
#[derive(Clone)]
pub(crate) struct Forwarder {
    client: Client,
    /// Raft's, which the stream belongs to.
    crew: Spawner,
    open: Arc<Mutex<Option<Open>>>,
}

/// A stream that is open, or being opened.
struct Open {
    queue: mpsc::Sender<pb::ProposeRequest>,
    sent: Arc<SentBatches>,
}

/// What was put on a stream and is waited for. No more than [`UNRESOLVED_BATCHES_MAX`].
#[derive(Default)]
struct SentBatches(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The number of the last batch.
    last: u64,
    by_number: BTreeMap<u64, oneshot::Sender<Verdict>>,
    ended: bool,
}

/// A batch on the stream.
pub(crate) struct Forwarded {
    number: u64,
    verdict: oneshot::Receiver<Verdict>,
    sent: Arc<SentBatches>,
}

/// What is known of a batch without its having been applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is certain that the leader has not taken it.
    Refused,
    /// The stream has ended. The leader may have taken it.
    Unknown,
}

// === impl Forwarder ===

impl Forwarder {
    pub(super) fn new(client: Client, crew: Spawner) -> Self {
        Self { client, crew, open: Arc::default() }
    }

    /// Sends a batch to be taken in `term`. `None` if it is certain that it was not sent.
    pub(crate) fn send(&self, term: u64, batch: bytes::Bytes) -> Option<Forwarded> {
        let mut open = self.open.lock();
        let goes_on = |open: &Open| !open.sent.is_ended() && !open.queue.is_closed();
        let current = open.take().filter(goes_on);
        let Open { queue, sent } = open.insert(current.unwrap_or_else(|| self.begin()));
        let (number, verdict) = sent.add()?;
        let forwarded = Forwarded { number, verdict, sent: Arc::clone(sent) };
        queue.try_send(pb::ProposeRequest { term, batch, number }).ok()?;
        Some(forwarded)
    }

    fn begin(&self) -> Open {
        let (queue, requests) = mpsc::channel(UNRESOLVED_BATCHES_MAX);
        let sent = Arc::<SentBatches>::default();
        let (mut client, waiting) = (self.client.clone(), Arc::clone(&sent));
        self.crew.spawn(async move {
            let verdict = match client.propose(ReceiverStream::new(requests)).await {
                Ok(answers) => listen(answers.into_inner(), &waiting).await,
                Err(status) if never_sent(&status) => Verdict::Refused,
                Err(status) => {
                    tracing::debug!(%status, "what became of batches is not known");
                    Verdict::Unknown
                }
            };
            waiting.end(verdict);
        });
        Open { queue, sent }
    }
}

/// Takes what the leader refuses until it ends the stream.
async fn listen(
    mut answers: tonic::Streaming<pb::ProposeResponse>,
    waiting: &SentBatches,
) -> Verdict {
    loop {
        match answers.message().await {
            Ok(Some(pb::ProposeResponse { refused })) => waiting.refused(refused),
            Ok(None) => return Verdict::Unknown,
            Err(status) => {
                tracing::debug!(%status, "what became of batches is not known");
                return Verdict::Unknown;
            }
        }
    }
}

// === impl SentBatches ===

impl SentBatches {
    fn is_ended(&self) -> bool {
        self.0.lock().ended
    }

    /// `None` if the stream has ended.
    fn add(&self) -> Option<(u64, oneshot::Receiver<Verdict>)> {
        let mut waiting = self.0.lock();
        if waiting.ended {
            return None;
        }
        let (sender, verdict) = oneshot::channel();
        waiting.last += 1;
        let number = waiting.last;
        waiting.by_number.insert(number, sender);
        Some((number, verdict))
    }

    fn refused(&self, number: u64) {
        if let Some(waiter) = self.forget(number) {
            let _ = waiter.send(Verdict::Refused);
        }
    }

    fn forget(&self, number: u64) -> Option<oneshot::Sender<Verdict>> {
        self.0.lock().by_number.remove(&number)
    }

    fn end(&self, verdict: Verdict) {
        let waiters = {
            let mut waiting = self.0.lock();
            waiting.ended = true;
            std::mem::take(&mut waiting.by_number)
        };
        for waiter in waiters.into_values() {
            let _ = waiter.send(verdict);
        }
    }
}

// === impl Forwarded ===

impl Forwarded {
    /// Waits for what the leader or the connection says; for ever if it was taken and all is well.
    pub(crate) async fn verdict(mut self) -> Verdict {
        (&mut self.verdict).await.unwrap_or(Verdict::Unknown)
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.sent.forget(self.number);
    }
}

/// The leader's end. Cloning shares.
#[derive(Clone)]
pub(super) struct Taker {
    raft: Raft,
    awaited: Awaited,
    /// Batches of all other members that are on their way through the log.
    places: Arc<Semaphore>,
}

// === impl Taker ===

impl Taker {
    pub(super) fn new(raft: Raft, awaited: Awaited) -> Self {
        Self { raft, awaited, places: Arc::new(Semaphore::new(FORWARDED_BATCHES_MAX)) }
    }

    /// Puts what a member sends into the log, and says which of it is not there.
    pub(super) fn take(
        self,
        sender: u64,
        requests: impl Stream<Item = Result<pb::ProposeRequest, Status>> + Send + 'static,
    ) -> impl Stream<Item = Result<pb::ProposeResponse, Status>> + Send + 'static {
        let taking = requests.map(move |request| {
            let this = self.clone();
            async move {
                let request = request?;
                let number = request.number;
                let taken = this.submit(sender, request).await?;
                Ok((!taken).then_some(pb::ProposeResponse { refused: number }))
            }
        });
        let answers = taking.buffer_unordered(FORWARDED_BATCHES_MAX);
        answers.filter_map(|answer: Result<_, Status>| std::future::ready(answer.transpose()))
    }

    /// Whether a batch was put into the log.
    async fn submit(&self, sender: u64, request: pb::ProposeRequest) -> Result<bool, Status> {
        let proposed = self.awaited.proposed(sender);
        let pb::ProposeRequest { term, batch, .. } = request;
        // What cannot be read back would stop every member.
        if Batch::decode(batch.clone()).is_err() {
            return Err(Malformed("a batch that cannot be read").into());
        }
        let Ok(_place) = self.places.try_acquire() else { return Ok(false) };
        match submit_here(&self.raft, term, Payload(batch)).await {
            Submitted::Refused => Ok(false),
            Submitted::Appended(index) => {
                proposed.committed(index.unwrap_or_default());
                Ok(true)
            }
            Submitted::Unknown => Err(EtcdError::Stopped.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_learns_of_a_refusal_and_of_the_end() {
        let sent = SentBatches::default();
        let (first, mut of_first) = sent.add().unwrap();
        let (second, mut of_second) = sent.add().unwrap();
        let (third, mut of_third) = sent.add().unwrap();
        sent.refused(second);
        sent.refused(second + 7);
        assert_eq!(of_second.try_recv(), Ok(Verdict::Refused));
        sent.forget(third);
        sent.end(Verdict::Unknown);
        assert_eq!(of_first.try_recv(), Ok(Verdict::Unknown));
        assert!(of_third.try_recv().is_err(), "nobody waits for it any more");
        assert!(sent.add().is_none() && sent.is_ended() && first < second);
    }
}

//! The stream of entries to one other member.
//!
//! Owns: when a request is taken from Raft, when it is sent, and which answers Raft is told. Must
//! not know: what they decide. A newcomer's trap: Raft notes when it hands out a request, and takes
//! an answer for a sign of life from then; so a request that repeats what is still under way must
//! not be answered by the answer to that (READ-1).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kijabi_base::clock::{self, Instant};
use kijabi_proto::peer as pb;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Sleep;
use tonic::Status;

use super::awaited::Waiting;
use super::types::{LogId, TypeConfig};
use crate::limits::REPLICATION_IN_FLIGHT_MAX;
use crate::metrics::Metrics;
use crate::peer::wire::{self, Malformed};

type Request = AppendEntriesRequest<TypeConfig>;

/// How long a follower may take to answer entries that were sent to it: its disk may be slow, but
/// a connection on which nothing comes back is given up.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Entries that came so soon after a commit may come so soon after the next one.
const SOON: Duration = Duration::from_millis(1);
/// How long a commit that nobody is known to wait for may wait for them if they do not.
// Differs from etcd: followers learn of the last of several commits that much later at most.
const HOLD_MAX: Duration = Duration::from_millis(3);

/// Requests that were sent and are not answered, in order. No more than
/// [`REPLICATION_IN_FLIGHT_MAX`].
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The last entry that each of them brings, or the one before if it brings none.
    ends: Mutex<VecDeque<Option<LogId>>>,
    /// Somebody has answered, ever.
    is_answered: AtomicBool,
    answered: Notify,
}

/// What is sent, as it is taken from Raft.
pub(super) struct Requests<S> {
    pub(super) input: S,
    pub(super) window: Arc<Window>,
    /// The last entry of this member's log.
    pub(super) appended: watch::Receiver<Option<u64>>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) target: u64,
    pub(super) metrics: Arc<Metrics>,
    pub(super) sent: Sent,
    pub(super) rhythm: Rhythm,
}

/// What the other member has been told on this stream.
#[derive(Debug, Default)]
pub(super) struct Sent {
    last: Option<u64>,
    committed: u64,
    /// Raft has nothing more to send.
    ended: bool,
}

/// Whether a commit is worth holding back.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// When Raft handed out a commit without entries.
    committed: Option<Instant>,
    /// Whether entries came soon after the last one.
    is_quick: bool,
    /// Ends what is held. It is set again only once it has run out: each time wakes the runtime's
    /// timers.
    timer: Pin<Box<Sleep>>,
}

/// What is done with an answer.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// It is for Raft.
    Yes,
    /// Another one that says the same is to come, and counts from later on.
    Later,
}

// === impl Window ===

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.lock().is_empty()
    }

    fn has_been_answered(&self) -> bool {
        self.is_answered.load(Ordering::Acquire)
    }

    fn is_full(&self) -> bool {
        self.ends.lock().len() >= REPLICATION_IN_FLIGHT_MAX
    }

    fn send(&self, end: Option<LogId>) {
        self.ends.lock().push_back(end);
    }

    /// The oldest request is answered with the entry up to which both logs are the same.
    fn answer(&self, matched: Option<&LogId>) -> Told {
        let repeated = {
            let mut ends = self.ends.lock();
            ends.pop_front();
            ends.front().is_some_and(|next| next.as_ref() == matched)
        };
        self.is_answered.store(true, Ordering::Release);
        self.answered.notify_one();
        if repeated { Told::Later } else { Told::Yes }
    }

    /// The next answer that is for Raft; an error if there is something to answer and nothing comes
    /// for too long.
    pub(super) async fn next_answer(
        &self,
        answers: &mut tonic::Streaming<pb::AppendResponse>,
    ) -> Result<Option<Result<StreamAppendResult<TypeConfig>, Malformed>>, Status> {
        loop {
            match tokio::time::timeout(ANSWER_TIMEOUT, answers.message()).await {
                Ok(Ok(Some(answer))) => {
                    let answer = wire::to_appended(answer);
                    let told = match &answer {
                        Ok(Ok(matched)) => self.answer(matched.as_ref()),
                        Ok(Err(_)) | Err(_) => Told::Yes,
                    };
                    if told == Told::Yes {
                        return Ok(Some(answer));
                    }
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(status)) => return Err(status),
                Err(_elapsed) if self.is_empty() => {}
                Err(_elapsed) => {
                    return Err(Status::deadline_exceeded("entries are not answered"));
                }
            }
        }
    }
}

// === impl Requests ===

impl<S: Stream<Item = Request> + Send + Unpin> Requests<S> {
    /// The next request; `None` if Raft ends the stream.
    pub(super) async fn next(&mut self) -> Option<pb::AppendRequest> {
        if self.sent.ended {
            return None;
        }
        self.worth_asking().await;
        let request = self.input.next().await?;
        self.rhythm.note(&request);
        let request = self.with_entries(request).await;
        let silent = self.needs_no_answer(&request);
        self.sent.last = end(&request).map(|id| id.index);
        self.sent.committed = self.sent.committed.max(committed(&request));
        if !silent {
            self.window.send(end(&request));
        }
        // It was read from the log in this form, so it has it.
        let message = pb::AppendRequest { silent, ..wire::from_append(request).ok()? };
        let bytes: usize = message.entries.iter().map(|entry| entry.data.len()).sum();
        self.metrics.peers.sent(self.target, bytes);
        Some(message)
    }

    /// What only tells of a commit, after entries that were answered, and with more to come: Raft
    /// takes the next answer for one to this, too.
    fn needs_no_answer(&self, request: &Request) -> bool {
        request.entries.is_empty()
            && self.window.has_been_answered()
            && self.window.is_empty()
            && !self.sent.ended
    }

    /// Waits until there are entries to send, or nothing is under way, or somebody there waits:
    /// what Raft would hand out otherwise is a commit only, and the answers may bring another one.
    async fn worth_asking(&mut self) {
        loop {
            if !self.window.is_full() {
                let news = *self.appended.borrow_and_update() > self.sent.last;
                let awaited = self.waiting.for_more_than(self.sent.committed);
                if news || awaited || self.window.is_empty() {
                    return;
                }
            }
            tokio::select! {
                () = self.window.answered.notified() => {}
                _ = self.appended.changed() => {}
                () = self.waiting.raised() => {}
            }
        }
    }

    /// A commit that nobody there waits for travels with the next entries, if they come soon: a
    /// client that is alone writes the next key before that, and the member is woken once for
    /// both.
    async fn with_entries(&mut self, mut request: Request) -> Request {
        // If something is under way, the answer to that would pass for one to this (READ-1).
        while request.entries.is_empty()
            && self.rhythm.is_quick
            && self.window.is_empty()
            && !self.waiting.for_more_than(self.sent.committed)
        {
            tokio::select! {
                biased;
                next = self.input.next() => match next {
                    Some(next) => {
                        self.rhythm.note(&next);
                        request = next;
                    }
                    None => {
                        self.sent.ended = true;
                        break;
                    }
                },
                () = self.waiting.raised() => {}
                () = self.rhythm.over() => {}
            }
        }
        request
    }
}

// === impl Rhythm ===

impl Default for Rhythm {
    fn default() -> Self {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { committed: None, is_quick: false, timer }
    }
}

impl Rhythm {
    /// Raft has handed out a request.
    fn note(&mut self, request: &Request) {
        if request.entries.is_empty() {
            self.committed.get_or_insert_with(clock::now);
        } else if let Some(committed) = self.committed.take() {
            self.is_quick = committed.elapsed() < SOON;
        }
    }

    /// Ends once it was waited for long enough.
    async fn over(&mut self) {
        let now = clock::now();
        if self.timer.deadline() <= now {
            self.timer.as_mut().reset(now + HOLD_MAX);
        }
        self.timer.as_mut().await;
        self.is_quick = false;
    }
}

fn end(request: &Request) -> Option<LogId> {
    request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id)
}

fn committed(request: &Request) -> u64 {
    request.leader_commit.map_or(0, |id| id.index)
}

#[cfg(test)]
mod tests {
    use kijabi_base::tasks;
    use openraft::EntryPayload;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::super::awaited::Awaited;
    use super::super::types::{Entry, Vote, from_disk_id};
    use super::*;

    /// The leader of a member 7, as seen from the stream to it.
    struct Leader {
        raft: mpsc::Sender<Request>,
        log: watch::Sender<Option<u64>>,
        awaited: Awaited,
        window: Arc<Window>,
        sent: mpsc::Receiver<pb::AppendRequest>,
    }

    fn id(index: u64) -> LogId {
        from_disk_id(kijabi_disk::wal::LogId { term: 1, index })
    }

    impl Leader {
        /// One that has sent entry 1 and got its answer.
        async fn new(is_quick: bool) -> Self {
            let (raft, input) = mpsc::channel(8);
            let (log, awaited) = (watch::Sender::new(None), Awaited::default());
            let window = Arc::<Window>::default();
            let mut requests = Requests {
                input: ReceiverStream::new(input),
                window: Arc::clone(&window),
                appended: log.subscribe(),
                waiting: awaited.at(7),
                target: 7,
                metrics: Arc::new(Metrics::new(1, "test", 0)),
                sent: Sent::default(),
                rhythm: Rhythm { is_quick, ..Rhythm::default() },
            };
            let (sends, sent) = mpsc::channel(8);
            tasks::spawn("stream", async move {
                while let Some(request) = requests.next().await {
                    let _ = sends.try_send(request);
                }
                assert!(requests.next().await.is_none(), "it stays at its end");
            });
            let mut leader = Self { raft, log, awaited, window, sent };
            leader.hands_out(0, 1, 0);
            assert_eq!(leader.sends().await, Some((1, 0, false)));
            assert!(leader.is_told(1));
            leader
        }

        /// Raft hands out what follows entry `after`, up to `upto`, with a commit.
        fn hands_out(&self, after: u64, upto: u64, committed: u64) {
            let entry = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
            let request = Request {
                vote: Vote::new_committed(1, 1),
                prev_log_id: Some(id(after)),
                entries: (after + 1..=upto).map(entry).collect(),
                leader_commit: Some(id(committed)),
            };
            self.raft.try_send(request).unwrap();
            self.log.send_replace(Some(upto));
        }

        /// What is sent at once: how many entries, the commit, whether it needs no answer.
        async fn sends(&mut self) -> Option<(usize, u64, bool)> {
            // The clock stands still as long as anything can be done.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let next = self.sent.try_recv().ok()?;
            let committed = next.committed.map_or(0, |id| id.index);
            Some((next.entries.len(), committed, next.silent))
        }

        /// The member answers the oldest request.
        fn is_told(&self, matched: u64) -> bool {
            self.window.answer(Some(&id(matched))) == Told::Yes
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_waits_for_the_next_entries_if_they_come_soon_and_nobody_waits() {
        let mut leader = Leader::new(false).await;
        // Whether entries follow soon is not known yet.
        leader.hands_out(1, 1, 1);
        assert_eq!(leader.sends().await, Some((0, 1, true)));
        leader.hands_out(1, 2, 1);
        assert_eq!(leader.sends().await, Some((1, 1, false)));
        assert!(leader.is_told(2));
        // They did: this one is held, and goes with the next ones.
        leader.hands_out(2, 2, 2);
        assert_eq!(leader.sends().await, None);
        leader.hands_out(2, 3, 2);
        assert_eq!(leader.sends().await, Some((1, 2, false)));
        assert!(leader.is_told(3));
        // None come, so it goes alone, and the one after is not held any more.
        leader.hands_out(3, 3, 3);
        assert_eq!(leader.sends().await, None);
        tokio::time::sleep(HOLD_MAX).await;
        assert_eq!(leader.sends().await, Some((0, 3, true)));
        leader.hands_out(3, 4, 3);
        assert_eq!(leader.sends().await, Some((1, 3, false)));
        assert!(leader.is_told(4));
        leader.hands_out(4, 4, 4);
        assert_eq!(leader.sends().await, Some((0, 4, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_that_is_waited_for_is_sent_at_once() {
        let mut leader = Leader::new(true).await;
        // Who has proposed a batch waits for its commit,
        let proposed = leader.awaited.proposed(7);
        leader.hands_out(1, 1, 1);
        assert_eq!(leader.sends().await, Some((0, 1, true)));
        proposed.committed(1);
        drop(proposed);
        // and so does who reads, also if the commit is held already.
        leader.hands_out(1, 1, 2);
        assert_eq!(leader.sends().await, None);
        leader.awaited.reads(7, 2);
        assert_eq!(leader.sends().await, Some((0, 2, true)));
        // Nobody waits for more.
        leader.hands_out(1, 1, 3);
        assert_eq!(leader.sends().await, None);
    }

    /// READ-1: Raft takes an answer for a sign of life from when it handed out the last request that
    /// ends with the entry that is answered.
    #[tokio::test(start_paused = true)]
    async fn an_answer_to_what_was_sent_before_is_none_to_what_was_sent_after() {
        let mut leader = Leader::new(true).await;
        leader.hands_out(1, 2, 1);
        assert_eq!(leader.sends().await, Some((1, 1, false)));
        // A commit is not even taken from Raft while something is under way,
        leader.hands_out(2, 2, 2);
        assert_eq!(leader.sends().await, None);
        // unless somebody waits for it; and then it needs an answer of its own.
        leader.awaited.reads(7, 2);
        assert_eq!(leader.sends().await, Some((0, 2, false)));
        assert!(!leader.is_told(2));
        assert!(leader.is_told(2));
        assert!(leader.window.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_request_of_a_stream_is_answered() {
        let mut leader = Leader::new(true).await;
        leader.hands_out(1, 1, 1);
        assert_eq!(leader.sends().await, None);
        leader.raft = mpsc::channel(8).0;
        assert_eq!(leader.sends().await, Some((0, 1, false)));
        assert_eq!(leader.sent.recv().await, None);
    }
}

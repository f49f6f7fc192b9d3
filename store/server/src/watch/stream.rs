//! Running one watch stream: requests in, responses out, until either side ends.
//!
//! Owns: whose turn it is. Must not know: what a response says. A newcomer's trap: events are picked
//! up by the body itself, and nothing else of the stream runs for them; all that is rare (requests,
//! ticks, history, the end) has a waker of its own, which tells whether it is worth a look.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::task::AtomicWaker;
use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use kijabi_base::tasks::Shutdown;
use kijabi_base::{clock, rng};
use kijabi_machine::state::StateError;
use kijabi_proto::etcdserverpb::WatchRequest;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::asker::Asker;
use super::catch_up::Round;
use super::session::{Reading, Session, Source};
use crate::status::EtcdError;
use crate::store::Standing;

/// How a stream ends and how often it tells progress.
pub(crate) struct Terms {
    /// Time between periodic progress responses.
    pub(crate) progress_interval: Duration,
    /// The stream ends after this long without a leader, if its client asked for that.
    pub(crate) leader_grace: Option<Duration>,
    /// Who leads.
    pub(crate) standing: watch::Receiver<Standing>,
    /// The member's stop.
    pub(crate) shutdown: Shutdown,
    /// Whose stream it is.
    pub(crate) asker: Asker,
}

/// The responses of a stream, as a body of gRPC. The stream runs while they are taken, and ends
/// with them: an event needs one task to run and not two, and a client that takes nothing costs
/// nothing.
pub(crate) struct Responses {
    /// Shared with `rest`. Both run in one task, one after the other.
    session: Arc<Mutex<Session>>,
    /// All but events; `None` once the stream has ended.
    rest: Option<Pin<Box<dyn Future<Output = Option<Status>> + Send>>>,
    news: Arc<News>,
    waker: Waker,
    /// How it ended, after everything else was said.
    end: Option<Status>,
}

/// Whether the rest of a stream has something to do, and who is to be woken if so.
struct News {
    any: AtomicBool,
    body: AtomicWaker,
}

/// Opens a stream.
pub(crate) fn open(
    source: Source,
    terms: Terms,
    requests: impl Stream<Item = Result<WatchRequest, Status>> + Send + Unpin + 'static,
) -> Responses {
    let session = Arc::new(Mutex::new(Session::new(source)));
    let rest = Box::pin(serve(Arc::clone(&session), terms, requests));
    let news = Arc::new(News { any: AtomicBool::new(true), body: AtomicWaker::new() });
    let waker = Waker::from(Arc::clone(&news));
    Responses { session, rest: Some(rest), news, waker, end: None }
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.any.store(true, Ordering::Release);
        self.body.wake();
    }
}

impl Responses {
    /// Runs all but events, if there is something to do for it. Returns whether there was.
    fn run_rest(&mut self) -> bool {
        let Some(rest) = &mut self.rest else { return false };
        if !self.news.any.swap(false, Ordering::AcqRel) {
            return false;
        }
        if let Poll::Ready(end) = rest.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            self.end = Some(end.unwrap_or_else(|| Status::new(Code::Ok, "")));
            self.rest = None;
        }
        true
    }

    /// Makes responses of new events. Returns whether there were any.
    fn pick_up(&self, context: &Context<'_>) -> bool {
        let mut session = self.session.lock();
        let told = self.rest.is_some() && session.registration.poll_told(context).is_ready();
        if told {
            session.pick_up();
            if session.is_behind() {
                self.news.any.store(true, Ordering::Release);
            }
        }
        told
    }

    fn next_bytes(&self) -> Option<Bytes> {
        let mut session = self.session.lock();
        let bytes = session.next_bytes();
        if bytes.is_some() && session.take_wish_for_room() {
            self.news.any.store(true, Ordering::Release);
        }
        bytes
    }
}

impl HttpBody for Responses {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        this.news.body.register(context.waker());
        loop {
            if let Some(responses) = this.next_bytes() {
                return Poll::Ready(Some(Ok(Frame::data(responses))));
            }
            if this.rest.is_none() {
                return Poll::Ready(this.end.take().map(trailers));
            }
            // Both have their turn, however much the other has to do.
            let (ran, told) = (this.run_rest(), this.pick_up(context));
            if !ran && !told {
                return Poll::Pending;
            }
        }
    }
}

/// The last thing that is said.
fn trailers(end: Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::with_capacity(2);
    end.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

/// All of a stream but its events.
async fn serve(
    session: Arc<Mutex<Session>>,
    terms: Terms,
    mut requests: impl Stream<Item = Result<WatchRequest, Status>> + Send + Unpin,
) -> Option<Status> {
    let mut reading: Option<Reading> = None;
    let mut requests_open = true;
    let period = progress_period(terms.progress_interval);
    let mut ticker = tokio::time::interval_at(clock::now() + period, period);
    let mut stopped = pin!(terms.shutdown.wait());
    let mut leaderless = pin!(leaderless(terms.standing, terms.leader_grace));
    loop {
        let room = {
            let mut session = session.lock();
            if reading.is_none() {
                reading = session.catch_up();
            }
            session.has_room_or_wish()
        };
        let reads = reading.is_some();
        tokio::select! {
            () = &mut stopped => return Some(EtcdError::Stopped.into()),
            () = &mut leaderless => return Some(EtcdError::NoLeader.into()),
            round = finished(&mut reading) => match round {
                Some(round) => session.lock().finish_round(&round),
                None => return Some(EtcdError::Stopped.into()),
            },
            request = requests.next(), if requests_open && room => match request {
                Some(Ok(request)) => {
                    let caller = terms.asker.caller().await;
                    session.lock().handle(&caller, request);
                }
                Some(Err(status)) => return Some(status),
                // The client sends no more, but still reads.
                None => requests_open = false,
            },
            _ = ticker.tick(), if room => session.lock().progress_tick(),
            // The client has read, or watches have fallen behind.
            () = poll_fn(|_| ready_if(session.lock().has_room_or_wish())), if !room => {}
            () = poll_fn(|_| ready_if(session.lock().is_behind())), if room && !reads => {}
        }
    }
}

/// The body sees to it that this is looked at again in time.
fn ready_if(condition: bool) -> Poll<()> {
    if condition { Poll::Ready(()) } else { Poll::Pending }
}

/// The interval and up to a tenth more, so that streams do not all speak at once.
fn progress_period(interval: Duration) -> Duration {
    interval + interval.mul_f64(rng::unit() / 10.0)
}

/// Resolves when the reading under way is finished; `None` if it failed.
async fn finished(reading: &mut Option<Reading>) -> Option<Round> {
    let Some(task) = reading.as_mut() else { return std::future::pending().await };
    let result: Result<Result<Round, StateError>, _> = task.await;
    *reading = None;
    match result {
        Ok(Ok(round)) => Some(round),
        Ok(Err(error)) => {
            tracing::error!(%error, "history of a watch could not be read");
            None
        }
        Err(_) => None,
    }
}

/// Resolves once there was no leader for `grace`; never without a grace.
async fn leaderless(mut standing: watch::Receiver<Standing>, grace: Option<Duration>) {
    let Some(grace) = grace else { return std::future::pending().await };
    loop {
        if standing.wait_for(|standing| standing.leader == 0).await.is_err() {
            return std::future::pending().await;
        }
        let back = standing.wait_for(|standing| standing.leader != 0);
        if tokio::time::timeout(grace, back).await.is_err() {
            return;
        }
    }
}

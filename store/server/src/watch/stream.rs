//! Running one watch stream: requests in, responses out, until either side ends.
//!
//! Owns: the loop and its fairness. Must not know: what a response says. A newcomer's trap: while
//! the client does not read, nothing but its disconnection is listened to; the hub goes on without
//! the stream, which catches up from history later.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use kijabi_base::tasks::Shutdown;
use kijabi_base::{clock, rng};
use kijabi_machine::state::StateError;
use kijabi_proto::etcdserverpb::WatchRequest;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::asker::Asker;
use super::catch_up::Round;
use super::outbox::Outbox;
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
    /// `None` once the stream has ended.
    running: Option<Pin<Box<dyn Future<Output = Option<Status>> + Send>>>,
    outbox: Outbox,
    /// How it ended, after everything else was said.
    end: Option<Status>,
}

/// Opens a stream.
pub(crate) fn open(
    source: Source,
    terms: Terms,
    requests: impl Stream<Item = Result<WatchRequest, Status>> + Send + Unpin + 'static,
) -> Responses {
    let session = Session::new(source);
    let outbox = session.outbox().clone();
    let running = serve(session, terms, requests);
    Responses { running: Some(Box::pin(running)), outbox, end: None }
}

impl HttpBody for Responses {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(responses) = this.outbox.pop() {
            return Poll::Ready(Some(Ok(Frame::data(responses))));
        }
        if let Some(running) = &mut this.running
            && let Poll::Ready(end) = running.as_mut().poll(context)
        {
            this.end = Some(end.unwrap_or_else(|| Status::new(Code::Ok, "")));
            this.running = None;
        }
        match (this.outbox.pop(), &this.running) {
            (Some(responses), _) => Poll::Ready(Some(Ok(Frame::data(responses)))),
            (None, Some(_)) => Poll::Pending,
            (None, None) => Poll::Ready(this.end.take().map(trailers)),
        }
    }
}

/// The last thing that is said.
fn trailers(end: Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::with_capacity(2);
    end.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

async fn serve(
    mut session: Session,
    terms: Terms,
    mut requests: impl Stream<Item = Result<WatchRequest, Status>> + Send + Unpin,
) -> Option<Status> {
    let outbox = session.outbox().clone();
    let mut reading: Option<Reading> = None;
    let mut requests_open = true;
    let period = progress_period(terms.progress_interval);
    let mut ticker = tokio::time::interval_at(clock::now() + period, period);
    let mut stopped = pin!(terms.shutdown.wait());
    let mut leaderless = pin!(leaderless(terms.standing, terms.leader_grace));
    loop {
        if reading.is_none() {
            reading = session.catch_up();
        }
        let room = session.has_room();
        tokio::select! {
            () = &mut stopped => return Some(EtcdError::Stopped.into()),
            () = &mut leaderless => return Some(EtcdError::NoLeader.into()),
            round = finished(&mut reading) => match round {
                Some(round) => session.finish_round(&round),
                None => return Some(EtcdError::Stopped.into()),
            },
            request = requests.next(), if requests_open && room => match request {
                Some(Ok(request)) => {
                    let caller = terms.asker.caller().await;
                    session.handle(&caller, request);
                }
                Some(Err(status)) => return Some(status),
                // The client sends no more, but still reads.
                None => requests_open = false,
            },
            () = session.registration.woken(), if room => { session.pick_up(); }
            _ = ticker.tick(), if room => session.progress_tick(),
            // It runs again when everything was taken, and then looks again what it may do.
            () = poll_fn(|_| room_in(&outbox)), if !room => {}
        }
    }
}

fn room_in(outbox: &Outbox) -> Poll<()> {
    if outbox.has_room() { Poll::Ready(()) } else { Poll::Pending }
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

//! Reading ranges: planned under the machine's lock, fetched without it.
//!
//! Owns: which way an answer is made: at once, as a whole when there is memory for it, or sent while
//! it is read. Must not know: who asked. A newcomer's trap: a compaction may overtake a plan that
//! has no view of its own; then the read is planned again, and only a read of the past fails.

mod body;
mod large;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use kijabi_base::limits::{
    RANGE_INLINE_BYTES_MAX, RANGE_INLINE_ROWS_MAX, RANGE_PIECES_READY_MAX, RANGE_WHOLE_BYTES_MAX,
};
use kijabi_base::tasks;
use kijabi_machine::state::StateReader;
use kijabi_machine::{Caller, Error as MachineError, Machine, RangePlan};
use kijabi_proto::etcdserverpb::{
    RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Response;
use tonic::body::Body;

use body::Held;
pub(super) use body::Streamed;
pub(crate) use body::{complete, streamed};
use large::Sink;
use turns::Turns;

use crate::error::Error;

/// From so many rows on an answer is made of the records as they are stored.
const ROWS_DECODED_MAX: usize = 8;
/// How often a read is planned again before it gives up.
const PLANS_MAX: usize = 8;

/// Makes the header of an answer at a revision.
pub(super) type HeaderAt = Arc<dyn Fn(i64) -> ResponseHeader + Send + Sync>;

/// The chunks of a streamed range.
pub(super) type ChunkStream = ReceiverStream<Result<RangeStreamResponse, tonic::Status>>;

/// Reads ranges.
#[derive(Clone)]
pub(super) struct Reader {
    machine: Arc<RwLock<Machine>>,
    header: HeaderAt,
    turns: Turns,
}

/// What is held while a large range is planned; the room for its rows until it is sent.
struct PlanTurn {
    rows: OwnedSemaphorePermit,
    plan: OwnedSemaphorePermit,
}

/// How an answer that is not small is made.
enum Way {
    Whole(Response<RangeResponse>, OwnedSemaphorePermit),
    Streamed(Body),
    /// It is to be streamed, but too many are.
    WaitToStream,
}

impl Reader {
    /// A read that does not get its turn within `patience` is refused.
    pub(super) fn new(machine: Arc<RwLock<Machine>>, header: HeaderAt, patience: Duration) -> Self {
        Self { machine, header, turns: Turns::new(patience) }
    }

    /// Reads a range for a caller. What the caller may read is decided together with what there is
    /// to read (AUTH-1).
    pub(super) async fn range(
        &self,
        caller: &Caller,
        request: &RangeRequest,
    ) -> Result<Response<RangeResponse>, Error> {
        for _ in 0..PLANS_MAX {
            let small = self.plan_small(caller, request)?;
            let answer = match small {
                Some((plan, state)) => self.small(plan, &*state),
                None => self.large(caller, request).await,
            };
            match answer {
                Err(Error::Machine(MachineError::Compacted)) => {}
                answer => return answer,
            }
        }
        Err(MachineError::Compacted.into())
    }

    fn small(
        &self,
        plan: RangePlan,
        state: &dyn StateReader,
    ) -> Result<Response<RangeResponse>, Error> {
        if plan.row_count() < ROWS_DECODED_MAX || plan.wire_bytes().is_none() {
            return Ok(Response::new(self.finish(plan.fetch(state)?)));
        }
        let header = (self.header)(plan.revision());
        let mut response = Response::new(RangeResponse::default());
        let body = large::whole_message(&plan, state, &header)?;
        response.extensions_mut().insert(Streamed::new(body));
        Ok(response)
    }

    fn finish(&self, mut response: RangeResponse) -> RangeResponse {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        response.header = Some((self.header)(revision));
        response
    }

    /// Plans a read that needs neither much memory nor much time.
    #[allow(clippy::type_complexity, reason = "a plan and what it is read from")]
    fn plan_small(
        &self,
        caller: &Caller,
        request: &RangeRequest,
    ) -> Result<Option<(RangePlan, Arc<dyn StateReader>)>, Error> {
        let machine = self.machine.read();
        permit(&machine, caller, request)?;
        if machine.range_count(request) > RANGE_INLINE_ROWS_MAX {
            return Ok(None);
        }
        let plan = machine.range(request)?;
        Ok((plan.bytes() <= RANGE_INLINE_BYTES_MAX).then(|| (plan, machine.state())))
    }

    async fn large(
        &self,
        caller: &Caller,
        request: &RangeRequest,
    ) -> Result<Response<RangeResponse>, Error> {
        let mut stream_turn = None;
        loop {
            let turn = self.plan_turn(request).await?;
            match self.make(caller.clone(), request.clone(), turn, stream_turn.take()).await? {
                Way::Whole(mut response, memory) => {
                    response.extensions_mut().insert(Held::new(memory));
                    return Ok(response);
                }
                Way::Streamed(body) => {
                    let mut response = Response::new(RangeResponse::default());
                    response.extensions_mut().insert(Streamed::new(body));
                    return Ok(response);
                }
                Way::WaitToStream => stream_turn = Some(self.turns.stream().await?),
            }
        }
    }

    /// Waits for the turn to plan, and for room for the rows.
    async fn plan_turn(&self, request: &RangeRequest) -> Result<PlanTurn, Error> {
        let count = self.machine.read().range_count(request);
        let rows = self.turns.rows(count).await?;
        Ok(PlanTurn { rows, plan: self.turns.plan().await? })
    }

    /// Plans on a thread that may block, and makes the answer there.
    async fn make(
        &self,
        caller: Caller,
        request: RangeRequest,
        turn: PlanTurn,
        stream_turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Way, Error> {
        let (this, runtime) = (self.clone(), Handle::current());
        let (answer, made) = oneshot::channel();
        tasks::blocking(move || {
            let machine = this.machine.read();
            let mut plan = match permitted(&machine, &caller, &request) {
                Ok(plan) => plan,
                Err(error) => return drop(answer.send(Err(error.into()))),
            };
            let header = (this.header)(plan.revision());
            let state = machine.state();
            if plan.bytes() <= RANGE_WHOLE_BYTES_MAX || plan.needs_all_values() {
                drop(machine);
                let made = this.room_for(&plan, &runtime).and_then(|memory| {
                    this.small(plan, &*state).map(|response| Way::Whole(response, memory))
                });
                return drop(answer.send(made));
            }
            let Some(_stream_turn) = stream_turn.or_else(|| this.turns.try_stream()) else {
                return drop(answer.send(Ok(Way::WaitToStream)));
            };
            let (sender, pieces) = mpsc::channel::<Result<Frame<Bytes>, _>>(RANGE_PIECES_READY_MAX);
            let (mut machine, mut ready) = (Some(machine), Some((answer, pieces)));
            let PlanTurn { rows: _rows, plan: plan_turn } = turn;
            let mut plan_turn = Some(plan_turn);
            let sink = Sink { sender, runtime };
            state.with_view(&mut |view| {
                // The view is of the moment of the plan; from here on the machine may go on.
                machine = None;
                let resolved = plan.resolve(view).map_err(Error::from);
                plan_turn = None;
                let Some((answer, pieces)) = ready.take() else { return };
                let length = resolved.and_then(|()| large::message_bytes(&plan, &header));
                match length {
                    Err(error) => drop(answer.send(Err(error))),
                    Ok(length) => {
                        let body = Body::new(StreamBody::new(ReceiverStream::new(pieces)));
                        let _ = answer.send(Ok(Way::Streamed(body)));
                        large::send_message(&plan, view, &header, length, &sink);
                    }
                }
            });
        });
        made.await.map_err(|_| Error::Stopped)?
    }

    /// Waits until there is memory for the answer to a plan that has no view of its own.
    fn room_for(&self, plan: &RangePlan, runtime: &Handle) -> Result<OwnedSemaphorePermit, Error> {
        runtime.block_on(self.turns.memory(plan.bytes(), plan.row_count()))
    }

    /// Reads with a transaction that holds ranges only.
    pub(super) async fn txn(
        &self,
        caller: &Caller,
        request: &TxnRequest,
    ) -> Result<Response<TxnResponse>, Error> {
        for _ in 0..PLANS_MAX {
            let turn = self.turns.plan().await?;
            let (plan, state) = {
                let machine = self.machine.read();
                machine.permit_txn(caller, request)?;
                (machine.txn_read(request)?, machine.state())
            };
            let memory = self.turns.memory(plan.bytes(), plan.row_count()).await?;
            let fetched = tasks::blocking(move || plan.fetch(&*state)).await;
            drop(turn);
            match fetched.map_err(|_| Error::Stopped)? {
                Err(MachineError::Compacted) => {}
                result => {
                    let mut response = Response::new(result?);
                    response.extensions_mut().insert(Held::new(memory));
                    return Ok(response);
                }
            }
        }
        Err(MachineError::Compacted.into())
    }

    /// Reads a range in chunks of about `bytes_target` bytes, all on one view of the state.
    pub(super) async fn stream(
        &self,
        caller: Caller,
        request: RangeRequest,
        bytes_target: usize,
    ) -> Result<ChunkStream, Error> {
        let stream_turn = self.turns.stream().await?;
        let turn = self.plan_turn(&request).await?;
        let (this, runtime) = (self.clone(), Handle::current());
        let (answer, made) = oneshot::channel();
        tasks::blocking(move || {
            let _stream_turn = stream_turn;
            let machine = this.machine.read();
            let mut plan = match permitted(&machine, &caller, &request) {
                Ok(plan) => plan,
                Err(error) => return drop(answer.send(Err(error.into()))),
            };
            let header = (this.header)(plan.revision());
            let state = machine.state();
            let (sender, chunks) = mpsc::channel(RANGE_PIECES_READY_MAX);
            let sink = Sink { sender, runtime };
            let chunks = ReceiverStream::new(chunks);
            if plan.needs_all_values() {
                drop(machine);
                let room = this.room_for(&plan, &sink.runtime);
                let read = room.and_then(|memory| Ok((plan.fetch(&*state)?, memory)));
                match read {
                    Ok((whole, _memory)) => {
                        let _ = answer.send(Ok(chunks));
                        large::send_whole(whole, &header, bytes_target, &sink);
                    }
                    Err(error) => drop(answer.send(Err(error))),
                }
                return;
            }
            let (mut machine, mut ready) = (Some(machine), Some((answer, chunks)));
            let PlanTurn { rows: _rows, plan: plan_turn } = turn;
            let mut plan_turn = Some(plan_turn);
            state.with_view(&mut |view| {
                machine = None;
                // Chunks need no length: only an order must be known before the first one.
                let ordered = if plan.is_ordered() { Ok(()) } else { plan.resolve(view) };
                plan_turn = None;
                let Some((answer, chunks)) = ready.take() else { return };
                if let Err(error) = ordered {
                    return drop(answer.send(Err(error.into())));
                }
                let _ = answer.send(Ok(chunks));
                large::send_chunks(&plan, view, &header, bytes_target, &sink);
            });
        });
        made.await.map_err(|_| Error::Stopped)?
    }
}

/// Plans what the caller may read.
fn permitted(
    machine: &Machine,
    caller: &Caller,
    request: &RangeRequest,
) -> Result<RangePlan, MachineError> {
    permit(machine, caller, request)?;
    machine.range(request)
}

fn permit(machine: &Machine, caller: &Caller, request: &RangeRequest) -> Result<(), MachineError> {
    Ok(machine.auth().permit_range(caller, &request.key, &request.range_end)?)
}

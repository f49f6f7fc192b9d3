//! Reading ranges: planned under the machine's lock, fetched without it.
//!
//! Owns: where the fetching runs, how many large ones run at once, and the chunks of a streamed
//! range. Must not know: who asked. A newcomer's trap: a compaction may overtake a plan; then the
//! read is planned again, and only a read of the past fails.

use std::sync::Arc;

use kijabi_base::limits::{LARGE_RANGES_MAX, RANGE_INLINE_ROWS_MAX};
use kijabi_base::tasks;
use kijabi_machine::state::StateReader;
use kijabi_machine::{Error as MachineError, Machine, RangePlan};
use kijabi_proto::etcdserverpb::{
    RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use parking_lot::RwLock;
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;

use crate::error::Error;

/// How often a read is planned again before it gives up.
const PLANS_MAX: usize = 8;
/// Keys of a streamed range's first chunk, etcd's.
const FIRST_CHUNK_KEYS: i64 = 10;

/// Reads ranges.
#[derive(Clone)]
pub(super) struct Reader {
    machine: Arc<RwLock<Machine>>,
    large: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(machine: Arc<RwLock<Machine>>) -> Self {
        Self { machine, large: Arc::new(Semaphore::new(LARGE_RANGES_MAX)) }
    }

    /// Reads a range.
    pub(super) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        for _ in 0..PLANS_MAX {
            let (plan, state) = {
                let machine = self.machine.read();
                (machine.range(request)?, machine.state())
            };
            match self.fetch(plan, state).await {
                Err(Error::Machine(MachineError::Compacted)) => {}
                result => return result,
            }
        }
        Err(MachineError::Compacted.into())
    }

    async fn fetch(
        &self,
        plan: RangePlan,
        state: Arc<dyn StateReader>,
    ) -> Result<RangeResponse, Error> {
        if plan.row_count() <= RANGE_INLINE_ROWS_MAX {
            return Ok(plan.fetch(&*state)?);
        }
        let _permit = self.large.acquire().await.map_err(|_| Error::Stopped)?;
        let fetched = tasks::blocking(move || plan.fetch(&*state)).await;
        Ok(fetched.map_err(|_| Error::Stopped)??)
    }

    /// Reads with a transaction that holds ranges only.
    pub(super) async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        for _ in 0..PLANS_MAX {
            let (plan, state) = {
                let machine = self.machine.read();
                (machine.txn_read(request)?, machine.state())
            };
            let _permit = self.large.acquire().await.map_err(|_| Error::Stopped)?;
            let fetched = tasks::blocking(move || plan.fetch(&*state)).await;
            match fetched.map_err(|_| Error::Stopped)? {
                Err(MachineError::Compacted) => {}
                result => return Ok(result?),
            }
        }
        Err(MachineError::Compacted.into())
    }

    /// Reads a range in chunks of about `bytes_target` bytes; `finish` completes the last one's
    /// header. `Err` ends the stream.
    pub(super) async fn stream(
        &self,
        request: RangeRequest,
        bytes_target: usize,
        finish: impl Fn(&mut Option<ResponseHeader>),
        chunks: mpsc::Sender<Result<RangeStreamResponse, Status>>,
    ) {
        if let Err(error) = self.stream_chunks(request, bytes_target, finish, &chunks).await {
            // A client that has gone does not want to know.
            let _ = chunks.send(Err(error.into())).await;
        }
    }

    async fn stream_chunks(
        &self,
        mut request: RangeRequest,
        bytes_target: usize,
        finish: impl Fn(&mut Option<ResponseHeader>),
        chunks: &mpsc::Sender<Result<RangeStreamResponse, Status>>,
    ) -> Result<(), Error> {
        let wanted = if request.limit > 0 { request.limit } else { i64::MAX };
        let (mut left, mut keys) = (wanted, FIRST_CHUNK_KEYS);
        let mut total = None;
        loop {
            request.limit = keys.min(left);
            let mut chunk = self.range(&request).await?;
            let header = chunk.header.take();
            let (header, count) = total.get_or_insert((header, chunk.count));
            if request.revision <= 0 {
                // All further chunks are of the revision of the first.
                request.revision = header.as_ref().map_or(0, |header| header.revision);
            }
            left -= chunk.kvs.len() as i64;
            let last = !chunk.more || left == 0 || request.count_only;
            if last {
                chunk.header = header.take();
                finish(&mut chunk.header);
                chunk.more = !request.count_only && *count > wanted;
                chunk.count = *count;
            } else {
                chunk.more = false;
                chunk.count = 0;
                if let Some(kv) = chunk.kvs.last() {
                    request.key = [&kv.key[..], &[0]].concat().into();
                }
                keys = next_chunk_keys(keys, chunk.encoded_len(), bytes_target);
            }
            let response = RangeStreamResponse { range_response: Some(chunk) };
            if chunks.send(Ok(response)).await.is_err() || last {
                return Ok(());
            }
        }
    }
}

/// Twice as many keys after a small chunk, half after a large one.
fn next_chunk_keys(keys: i64, bytes: usize, bytes_target: usize) -> i64 {
    if bytes < bytes_target / 2 {
        keys.saturating_mul(2)
    } else if bytes > bytes_target.saturating_mul(2) {
        (keys / 2).max(1)
    } else {
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_and_shrink_towards_the_target() {
        assert_eq!(next_chunk_keys(10, 49, 100), 20);
        assert_eq!(next_chunk_keys(10, 50, 100), 10);
        assert_eq!(next_chunk_keys(10, 201, 100), 5);
        assert_eq!(next_chunk_keys(1, 201, 100), 1);
    }
}

//! Whose turn it is to read much, so that all reads together fit in memory.
//!
//! Owns: the bounds and the waiting. Must not know: what is read. A newcomer's trap: who
//! waits holds nothing; a plan of a million rows is thrown away and made again rather than kept
//! while it waits.
// Differs from etcd: it reads whatever it is asked for, however little memory there is.

use std::sync::Arc;
use std::time::Duration;

use kijabi_base::limits::{
    LARGE_RANGES_MAX, RANGE_KEY_BYTES, RANGE_MEMORY_BYTES_MAX, RANGE_ROWS_BYTES_MAX,
    RANGE_WAITERS_MAX,
};
use kijabi_machine::Error as MachineError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// The bounds. Cloning shares.
#[derive(Clone)]
pub(super) struct Turns {
    /// Taken while a large range is planned and its answer is made.
    plans: Arc<Semaphore>,
    /// Taken while an answer is sent as it is read: until the client has it.
    streams: Arc<Semaphore>,
    /// In units of [`UNIT_BYTES`]: the rows of large ranges until their answers are made.
    rows: Arc<Semaphore>,
    /// In the same units: whole answers until they are sent.
    memory: Arc<Semaphore>,
    waiters: Arc<Semaphore>,
    patience: Duration,
}

/// One permit of the memory.
const UNIT_BYTES: u64 = 1024;
/// What a row takes while its range is planned and read through for the length of the answer.
const ROW_BYTES: u64 = 48;

// === impl Turns ===

impl Turns {
    /// Who does not get a turn within `patience` is refused.
    pub(super) fn new(patience: Duration) -> Self {
        let permits = |count: usize| Arc::new(Semaphore::new(count));
        Self {
            plans: permits(LARGE_RANGES_MAX / 2),
            streams: permits(LARGE_RANGES_MAX),
            rows: permits((RANGE_ROWS_BYTES_MAX / UNIT_BYTES) as usize),
            memory: permits((RANGE_MEMORY_BYTES_MAX / UNIT_BYTES) as usize),
            waiters: permits(RANGE_WAITERS_MAX),
            patience,
        }
    }

    pub(super) async fn plan(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.wait(&self.plans, 1).await
    }

    pub(super) async fn stream(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.wait(&self.streams, 1).await
    }

    /// The same without waiting.
    pub(super) fn try_stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    /// Room for a plan of so many rows. One that takes more than there is gets all of it.
    pub(super) async fn rows(&self, count: usize) -> Result<OwnedSemaphorePermit, Error> {
        let bytes = (ROW_BYTES * count as u64).min(RANGE_ROWS_BYTES_MAX);
        self.wait(&self.rows, units(bytes)).await
    }

    /// Room for an answer of `rows` rows whose records are `bytes` long. One that could never fit
    /// is refused at once.
    pub(super) async fn memory(
        &self,
        bytes: u64,
        rows: usize,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let bytes = bytes + RANGE_KEY_BYTES * rows as u64;
        if bytes > RANGE_MEMORY_BYTES_MAX {
            return Err(MachineError::AnswerTooLarge.into());
        }
        self.wait(&self.memory, units(bytes)).await
    }

    async fn wait(
        &self,
        what: &Arc<Semaphore>,
        permits: u32,
    ) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(permit) = Arc::clone(what).try_acquire_many_owned(permits) {
            return Ok(permit);
        }
        let Ok(_waiting) = self.waiters.try_acquire() else { return Err(Error::TooManyRequests) };
        let turn = Arc::clone(what).acquire_many_owned(permits);
        match tokio::time::timeout(self.patience, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(Error::Stopped),
            Err(_elapsed) => Err(Error::TooManyRequests),
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use kijabi_base::tasks;

    use super::*;

    #[tokio::test]
    async fn reads_wait_for_memory_and_are_refused_when_none_comes_free() {
        let patient = Turns::new(Duration::from_secs(600));
        let hasty = Turns { patience: Duration::from_millis(1), ..patient.clone() };
        let most = RANGE_MEMORY_BYTES_MAX - RANGE_KEY_BYTES;
        let never = patient.memory(most + 1, 1).await;
        assert!(matches!(never, Err(Error::Machine(MachineError::AnswerTooLarge))), "{never:?}");
        let all = patient.memory(most, 1).await.unwrap();
        assert!(matches!(hasty.memory(1, 1).await, Err(Error::TooManyRequests)));
        let waiting = tasks::spawn("waiting", {
            let patient = patient.clone();
            async move { patient.memory(1, 1).await.is_ok() }
        });
        while patient.waiters.available_permits() == RANGE_WAITERS_MAX {
            tokio::task::yield_now().await;
        }
        drop(all);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn more_than_may_wait_are_refused_at_once() {
        let turns = Turns::new(Duration::from_secs(600));
        let mut held = Vec::new();
        for _ in 0..LARGE_RANGES_MAX {
            held.push(turns.stream().await.unwrap());
        }
        let waiting: Vec<_> = (0..RANGE_WAITERS_MAX)
            .map(|_| {
                let turns = turns.clone();
                tasks::spawn("waiting", async move { turns.stream().await.is_ok() })
            })
            .collect();
        while turns.waiters.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(turns.stream().await, Err(Error::TooManyRequests)));
        drop(held);
        let mut served = 0;
        for one in waiting {
            served += usize::from(one.await.unwrap());
        }
        assert_eq!(served, RANGE_WAITERS_MAX);
    }
}

//! Where Raft's own tasks run: together, in one task of the runtime.
//!
//! Owns: which of them do. Must not know: what they do. A newcomer's trap: what Raft starts later,
//! such as the replication to a member, belongs to the crew as well, though it could run beside:
//! to wake another thread for each entry costs more than the entry.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use openraft::AsyncRuntime;
use openraft::impls::TokioRuntime;
use tokio::sync::oneshot;

use crate::crew::Spawner;

thread_local! {
    /// The crew that what is polled now starts its tasks in.
    static CREW: RefCell<Option<Spawner>> = const { RefCell::new(None) };
}

/// Polls a future so that the tasks Raft starts meanwhile join the crew.
pub(super) async fn starting_in<F: Future>(crew: &Spawner, future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let before = CREW.with(|current| current.replace(Some(crew.clone())));
        let polled = future.as_mut().poll(context);
        CREW.with(|current| *current.borrow_mut() = before);
        polled
    })
    .await
}

/// Tokio, but for where tasks run.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

/// The end of a task.
pub(crate) enum Joining<T> {
    Task(tokio::task::JoinHandle<T>),
    InCrew(oneshot::Receiver<Result<T, Box<dyn Any + Send>>>),
}

/// Why a task has no result.
pub(crate) enum JoinError {
    Panicked,
    /// Its crew has ended before it.
    Dropped,
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the task panicked",
            Self::Dropped => "the task was dropped",
        })
    }
}

impl<T> Future for Joining<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Task(task) => task.poll_unpin(context).map_err(|error| {
                if error.is_panic() { JoinError::Panicked } else { JoinError::Dropped }
            }),
            Self::InCrew(result) => result.poll_unpin(context).map(|result| match result {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(_panic)) => Err(JoinError::Panicked),
                Err(_dropped) => Err(JoinError::Dropped),
            }),
        }
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = JoinError;
    type JoinHandle<T: Send + 'static> = Joining<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Joining<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        let Some(crew) = CREW.with(|current| current.borrow().clone()) else {
            return Joining::Task(TokioRuntime::spawn(future));
        };
        let (sender, result) = oneshot::channel();
        // Whatever this one starts belongs to the crew, too.
        let inner = crew.clone();
        crew.spawn(async move {
            let future = AssertUnwindSafe(future).catch_unwind();
            let _ = sender.send(starting_in(&inner, future).await);
        });
        Joining::InCrew(result)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &JoinError) -> bool {
        matches!(error, JoinError::Panicked)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = Result<T, std::io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        TokioRuntime::spawn_blocking(work)
    }
}

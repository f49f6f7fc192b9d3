//! Many futures in one task of the runtime.
//!
//! A request passes several of them on its way through a connection, the batcher, Raft and the
//! applier. As tasks of their own each step would be a wake of the scheduler, which sooner or later
//! wakes another thread for it, though nothing can run beside. Here a step wakes its neighbour for
//! the price of a flag.
//!
//! Owns: who is polled, and when the runtime has to know. Must not know: what runs. A newcomer's
//! trap: whoever is slow in here holds up all others; what computes for long belongs elsewhere.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use futures::task::AtomicWaker;
use kijabi_base::tasks::{self, Shutdown};
use parking_lot::Mutex;
use tokio::sync::oneshot;

thread_local! {
    /// Futures of the crew that runs on this thread, which go on once the others have nothing to
    /// do. `None` if none runs.
    static LATER: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// How often the futures wake each other before the tasks of others get a turn.
const ROUNDS_MAX: usize = 32;

type Task = BoxFuture<'static, ()>;

/// Adds futures to a crew. Cloning shares.
#[derive(Clone)]
pub(crate) struct Spawner(Arc<Door>);

/// A crew that runs in the background; it ends when this is dropped.
pub(crate) struct RunningCrew {
    spawner: Spawner,
    _stop: oneshot::Sender<()>,
}

/// Lets all others of the crew go first, and those they wake. Unlike
/// [`tokio::task::yield_now`] it wakes no other thread.
pub(crate) async fn later() {
    let mut asked = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        LATER.with_borrow_mut(|later| match later {
            Some(later) => later.push(context.waker().clone()),
            None => context.waker().wake_by_ref(),
        });
        Poll::Pending
    })
    .await;
}

/// A crew runs on this thread; if it belongs to another one, that one looks after who waits.
struct Running {
    is_outermost: bool,
}

/// Runs futures as one task.
pub(crate) struct Crew {
    door: Arc<Door>,
}

/// Where futures come in.
struct Door {
    /// `None` once the crew has ended.
    waiting: Mutex<Option<Vec<Task>>>,
    wakes: Arc<Wakes>,
}

/// Who woke the crew, seen from inside: while it runs, a wake only means another round.
#[derive(Default)]
struct Wakes {
    state: AtomicU8,
    task: AtomicWaker,
}

/// Nothing runs; a wake is one of the task.
const IDLE: u8 = 0;
const RUNNING: u8 = 1;
/// It runs, and was woken since.
const AGAIN: u8 = 2;

// === impl Wakes ===

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let again = |state| (state != IDLE).then_some(AGAIN);
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, again).is_err() {
            self.task.wake();
        }
    }
}

impl Wakes {
    /// Runs rounds until one of them was not woken again.
    fn run<T>(&self, context: &mut Context<'_>, mut round: impl FnMut() -> Poll<T>) -> Poll<T> {
        self.task.register(context.waker());
        let running = Running::begin();
        for _ in 0..ROUNDS_MAX {
            self.state.store(RUNNING, Ordering::Release);
            if let Poll::Ready(done) = round() {
                return Poll::Ready(done);
            }
            if self.state.load(Ordering::Acquire) == RUNNING {
                running.wake_later();
            }
            let idle =
                self.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if idle.is_ok() {
                return Poll::Pending;
            }
            if !tokio::task::coop::has_budget_remaining() {
                break;
            }
        }
        self.state.store(IDLE, Ordering::Release);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

// === impl Running ===

impl Running {
    fn begin() -> Self {
        let is_outermost = LATER.with_borrow_mut(|later| {
            let is_outermost = later.is_none();
            later.get_or_insert_default();
            is_outermost
        });
        Self { is_outermost }
    }

    /// Wakes those who wait for the others to have nothing to do, and with them the crew.
    fn wake_later(&self) {
        if self.is_outermost {
            let later = LATER.with_borrow_mut(|later| later.as_mut().map(std::mem::take));
            later.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.wake_later();
        if self.is_outermost {
            LATER.set(None);
        }
    }
}

// === impl Spawner ===

impl Spawner {
    /// Adds a future; one that comes after the end is dropped. A panic ends it alone.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let task = AssertUnwindSafe(future).catch_unwind().map(|_panicked| ()).boxed();
        if let Some(waiting) = &mut *self.0.waiting.lock() {
            waiting.push(task);
        }
        self.0.wakes.wake_by_ref();
    }

    /// Adds a future that ends when `shutdown` is triggered.
    pub(crate) fn spawn_until(
        &self,
        shutdown: Shutdown,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.wait() => {}
                () = future => {}
            }
        });
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}

// === impl RunningCrew ===

impl RunningCrew {
    pub(crate) fn start(name: &'static str) -> Self {
        let (crew, spawner) = Crew::new();
        let (stop, stopped) = oneshot::channel();
        let _task = tasks::spawn(name, crew.run(stopped));
        Self { spawner, _stop: stop }
    }

    pub(crate) fn spawner(&self) -> &Spawner {
        &self.spawner
    }
}

// === impl Crew ===

impl Crew {
    pub(crate) fn new() -> (Self, Spawner) {
        let door = Arc::new(Door { waiting: Mutex::new(Some(Vec::new())), wakes: Arc::default() });
        (Self { door: Arc::clone(&door) }, Spawner(door))
    }

    /// Runs `main` and all that is added; ends with `main`, and the others with it.
    pub(crate) async fn run<M: Future>(self, main: M) -> M::Output {
        let mut main = pin!(main);
        let mut tasks = FuturesUnordered::new();
        let waker = Waker::from(Arc::clone(&self.door.wakes));
        std::future::poll_fn(|context| {
            self.door.wakes.run(context, || self.round(main.as_mut(), &mut tasks, &waker))
        })
        .await
    }

    /// First those who were added, then `main`, which may have to wait for what they say, and those
    /// it adds.
    fn round<M: Future>(
        &self,
        mut main: Pin<&mut M>,
        tasks: &mut FuturesUnordered<Task>,
        waker: &Waker,
    ) -> Poll<M::Output> {
        let mut context = Context::from_waker(waker);
        loop {
            while let Poll::Ready(Some(())) = tasks.poll_next_unpin(&mut context) {}
            if let Poll::Ready(done) = main.as_mut().poll(&mut context) {
                return Poll::Ready(done);
            }
            let new = self.door.waiting.lock().as_mut().map(std::mem::take).unwrap_or_default();
            if new.is_empty() {
                return Poll::Pending;
            }
            tasks.extend(new);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // A future may hold a spawner: none must stay behind in what it holds.
        let left = self.door.waiting.lock().take();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// A chain of futures that wake each other, many times longer than a turn.
    #[tokio::test]
    async fn futures_that_wake_each_other_come_to_an_end() {
        let (crew, spawner) = Crew::new();
        let (first, mut last) = mpsc::channel(1);
        for _ in 0..10 * ROUNDS_MAX {
            let (sender, receiver) = mpsc::channel(1);
            let mut before = std::mem::replace(&mut last, receiver);
            spawner.spawn(async move {
                while let Some(number) = before.recv().await {
                    let _ = sender.send(number + 1).await;
                }
            });
        }
        let (result, done) = oneshot::channel();
        let running = tasks::spawn(
            "crew",
            crew.run(async move {
                first.send(0).await.unwrap();
                let _ = result.send(last.recv().await);
            }),
        );
        assert_eq!(done.await.unwrap(), Some(10 * ROUNDS_MAX));
        running.await.unwrap();
    }

    /// Wakes from other threads are never lost, whenever they come.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn wakes_from_elsewhere_are_never_lost() {
        let (crew, spawner) = Crew::new();
        let (question, mut questions) = mpsc::channel::<oneshot::Sender<usize>>(8);
        spawner.spawn(async move {
            while let Some(asker) = questions.recv().await {
                let _ = asker.send(7);
            }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tasks::spawn("crew", crew.run(stopped));
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let question = question.clone();
                tasks::spawn("asker", async move {
                    for _ in 0..5_000 {
                        let (asker, answer) = oneshot::channel();
                        question.send(asker).await.unwrap();
                        assert_eq!(answer.await.unwrap(), 7);
                    }
                })
            })
            .collect();
        for asker in askers {
            asker.await.unwrap();
        }
        drop(stop);
        assert!(running.await.unwrap().is_err());
    }

    /// One that lets the others go first comes after all they do, in whatever order they were added.
    #[tokio::test]
    async fn who_comes_later_comes_after_all_that_the_others_wake() {
        let (crew, spawner) = Crew::new();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (sender, mut receiver) = mpsc::channel(1);
        let (done, all) = oneshot::channel();
        let said = Arc::clone(&order);
        spawner.spawn(async move {
            later().await;
            said.lock().push("later");
            let _ = done.send(());
        });
        let said = Arc::clone(&order);
        spawner.spawn(async move {
            while let Some(number) = receiver.recv().await {
                said.lock().push(number);
            }
        });
        spawner.spawn(async move {
            for number in ["first", "second"] {
                let _ = sender.send(number).await;
            }
        });
        crew.run(all).await.unwrap();
        assert_eq!(*order.lock(), ["first", "second", "later"]);
        // Nobody is forgotten where no crew runs.
        later().await;
    }

    #[tokio::test]
    async fn a_panic_ends_one_future_and_the_end_of_the_main_one_all() {
        let (crew, spawner) = Crew::new();
        let (held, mut ended) = mpsc::channel::<()>(1);
        spawner.spawn(async { panic!("only this one") });
        let (inner, kept) = (spawner.clone(), held.clone());
        spawner.spawn(async move {
            inner.clone().spawn(async move {
                let _inner = inner;
                std::future::pending::<()>().await;
                drop(kept);
            });
        });
        let (go, gone) = oneshot::channel();
        spawner.spawn(async move { _ = go.send(()) });
        crew.run(gone).await.unwrap();
        spawner.spawn(async move { drop(held) });
        assert_eq!(ended.recv().await, None, "nothing is left of those who ran");
    }
}

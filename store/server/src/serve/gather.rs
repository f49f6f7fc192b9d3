//! Writing what several streams of a connection have to say in one go.
//!
//! Answers to the requests of one connection become ready together, one task after the other: they
//! were in one Raft entry. Without this, each of them would be a write of its own, and a packet.
//!
//! Owns: putting a write off for one turn of the scheduler. Must not know: what is written. A
//! newcomer's trap: a connection with a single open stream never waits, so that a client that asks
//! one thing at a time is not slower; and no timer is involved, so nobody waits while the thread
//! has nothing else to do.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many streams of a connection are open. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Arc<AtomicUsize>);

/// One open stream.
#[derive(Debug)]
pub(super) struct OpenStream(Streams);

/// A connection whose writes wait for those who are about to write.
#[derive(Debug)]
pub(super) struct Gather<S> {
    stream: S,
    streams: Streams,
    turn: Arc<Turn>,
    writing: Writing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// Nothing is being written.
    No,
    /// Something is to be written when all others had their turn.
    Waits,
    /// It is being written.
    Yes,
}

/// The end of one turn of the scheduler.
#[derive(Debug, Default)]
struct Turn {
    over: AtomicBool,
    connection: AtomicWaker,
}

/// A body that counts as an open stream until it has been sent.
pub(super) struct Counted<B> {
    body: B,
    _stream: OpenStream,
}

// === impl Streams ===

impl Streams {
    /// A stream opens.
    pub(super) fn open(&self) -> OpenStream {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    /// Whether more than one is open.
    fn are_several(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.over.store(true, Ordering::Release);
        self.connection.wake();
    }
}

// === impl Gather ===

impl<S> Gather<S> {
    pub(super) fn new(stream: S, streams: Streams) -> Self {
        Self { stream, streams, turn: Arc::default(), writing: Writing::No }
    }

    /// Whether it is time to write.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.writing {
            Writing::Yes => return Poll::Ready(()),
            Writing::No if !self.streams.are_several() => return Poll::Ready(()),
            Writing::No => {
                self.turn.over.store(false, Ordering::Relaxed);
                self.turn.connection.register(context.waker());
                // Whoever yields is woken when all who are ready have run. Others wake the
                // connection before that, so the turn has a waker of its own.
                let waker = Waker::from(Arc::clone(&self.turn));
                let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
                self.writing = Writing::Waits;
            }
            Writing::Waits => self.turn.connection.register(context.waker()),
        }
        if !self.turn.over.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.writing = Writing::Yes;
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_turn(context));
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_turn(context));
        Pin::new(&mut this.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Everything is written: the next write waits for its own turn.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.writing == Writing::Yes {
            this.writing = Writing::No;
        }
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

// === impl Counted ===

impl<B> Counted<B> {
    pub(super) fn new(body: B, stream: OpenStream) -> Self {
        Self { body, _stream: stream }
    }
}

impl<B: HttpBody + Unpin> HttpBody for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use kijabi_base::tasks;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Counts writes.
    struct Writes(tokio::io::DuplexStream, Arc<AtomicUsize>);

    impl AsyncWrite for Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    #[tokio::test]
    async fn with_several_streams_a_write_waits_for_those_who_are_ready() {
        let (near, mut far) = tokio::io::duplex(64);
        let streams = Streams::default();
        let _two = (streams.open(), streams.open());
        let mut gather = Gather::new(near, streams.clone());
        let before = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let before = Arc::clone(&before);
            let _others = tasks::spawn("other", async move {
                before.fetch_add(1, Ordering::Relaxed);
            });
        }
        gather.write_all(b"x").await.unwrap();
        assert_eq!(before.load(Ordering::Relaxed), 10, "all others had their turn");
        gather.flush().await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');
        assert_eq!(gather.writing, Writing::No);
    }

    #[tokio::test]
    async fn a_single_stream_never_waits() {
        let (near, _far) = tokio::io::duplex(64);
        let (streams, written) = (Streams::default(), Arc::new(AtomicUsize::new(0)));
        let one = streams.open();
        let mut gather = Gather::new(Writes(near, Arc::clone(&written)), streams.clone());
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut gather).poll_write(&mut context, b"x").is_ready());
        drop(one);
        assert!(Pin::new(&mut gather).poll_write(&mut context, b"x").is_ready());
        assert_eq!(written.load(Ordering::Relaxed), 2);
        let _two = (streams.open(), streams.open());
        assert!(Pin::new(&mut gather).poll_write(&mut context, b"x").is_pending());
    }
}

//! Writing what several streams of a connection have to say in one go.
//!
//! Answers to the requests of one connection become ready together, one task after the other: they
//! were in one Raft entry. Without this, each of them would be a write of its own, and a packet. The
//! HTTP/2 library gathers nothing but very short frames by itself: it writes after each of the others.
//!
//! Owns: putting a write off for one turn of the scheduler, and what waits for it. Must not know: what
//! is written. A newcomer's trap: a connection with a single open stream never waits, so that a client
//! that asks one thing at a time is not slower; and no timer is involved, so nobody waits while the
//! thread has nothing else to do.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf as _, BytesMut};
use futures::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait to be written together; more of them are written at once.
const HELD_BYTES_MAX: usize = 32 << 10;

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
    /// What was written and waits to be sent. An idle connection keeps no room for it.
    held: BytesMut,
    turn: Arc<Turn>,
    /// Whether the end of a turn is waited for.
    waits: bool,
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
        Self { stream, streams, held: BytesMut::new(), turn: Arc::default(), waits: false }
    }

    /// Whether it is time to send. If it is not, the connection is woken when it is.
    fn is_time(&mut self, context: &mut Context<'_>) -> bool {
        if !self.waits && !self.streams.are_several() {
            return true;
        }
        self.turn.connection.register(context.waker());
        if !self.waits {
            self.waits = true;
            self.turn.over.store(false, Ordering::Relaxed);
            // Whoever yields is woken when all who are ready have run. Others wake the
            // connection before that, so the turn has a waker of its own.
            let waker = Waker::from(Arc::clone(&self.turn));
            let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
        }
        self.turn.over.load(Ordering::Acquire)
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Sends what is held, and then as much of `more` as goes with it; returns how much of `more`
    /// that was.
    fn poll_send(&mut self, context: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let both = [io::IoSlice::new(&self.held), io::IoSlice::new(more)];
            let slices = if more.is_empty() { &both[..1] } else { &both[..] };
            let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_more = sent.saturating_sub(self.held.len());
            self.held.advance(sent - of_more);
            if of_more > 0 {
                return Poll::Ready(Ok(of_more));
            }
        }
        self.held = BytesMut::new();
        if more.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Pin::new(&mut self.stream).poll_write(context, more)
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
        if this.held.len() + bytes.len() > HELD_BYTES_MAX {
            return this.poll_send(context, bytes);
        }
        this.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Nobody has to gather anything for this: the HTTP/2 library then copies short frames into
    /// one buffer instead of writing each of them.
    fn is_write_vectored(&self) -> bool {
        false
    }

    /// What is held until the turn is over counts as sent: the writer may go on, and is woken to
    /// flush again.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.held.is_empty() {
            if !this.is_time(context) {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_send(context, &[]))?;
        }
        this.waits = false;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context, &[]))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
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

    /// A stream that takes a few bytes at once, and how often it was written to.
    struct Narrow(tokio::io::DuplexStream, Arc<AtomicUsize>);

    impl AsyncWrite for Narrow {
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

    fn narrow(room: usize) -> (Gather<Narrow>, tokio::io::DuplexStream, Streams, Arc<AtomicUsize>) {
        let (near, far) = tokio::io::duplex(room);
        let (streams, writes) = (Streams::default(), Arc::new(AtomicUsize::new(0)));
        (Gather::new(Narrow(near, Arc::clone(&writes)), streams.clone()), far, streams, writes)
    }

    #[tokio::test]
    async fn with_several_streams_what_is_written_goes_out_together_at_the_turns_end() {
        let (mut gather, mut far, streams, writes) = narrow(64);
        let _two = (streams.open(), streams.open());
        let before = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let before = Arc::clone(&before);
            let _others = tasks::spawn("other", async move {
                before.fetch_add(1, Ordering::Relaxed);
            });
        }
        // As a connection does it: whenever it is woken, it flushes.
        let flushed = Arc::clone(&writes);
        let sending = async {
            gather.write_all(b"x").await.unwrap();
            gather.flush().await.unwrap();
            assert_eq!(flushed.load(Ordering::Relaxed), 0, "not before the others had their turn");
            gather.write_all(b"y").await.unwrap();
            std::future::poll_fn(|context| {
                assert!(Pin::new(&mut gather).poll_flush(context).is_ready());
                if gather.held.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        };
        sending.await;
        assert_eq!(before.load(Ordering::Relaxed), 10, "all others had their turn");
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        assert_eq!(far.read_u16().await.unwrap().to_be_bytes(), *b"xy");
        assert_eq!(gather.held.capacity(), 0, "an idle connection keeps nothing");
    }

    #[tokio::test]
    async fn a_single_stream_never_waits() {
        let (mut gather, _far, streams, writes) = narrow(64);
        let one = streams.open();
        let mut context = Context::from_waker(Waker::noop());
        let mut send = |gather: &mut Gather<Narrow>| {
            assert!(Pin::new(&mut *gather).poll_write(&mut context, b"x").is_ready());
            assert!(Pin::new(gather).poll_flush(&mut context).is_ready());
        };
        send(&mut gather);
        drop(one);
        send(&mut gather);
        assert_eq!(writes.load(Ordering::Relaxed), 2);
        let _two = (streams.open(), streams.open());
        send(&mut gather);
        assert_eq!(writes.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn nothing_is_lost_or_reordered_whatever_the_sizes() {
        let (mut gather, mut far, streams, _writes) = narrow(1000);
        let _two = (streams.open(), streams.open());
        let sizes = [1, 700, 40_000, 5, HELD_BYTES_MAX, 1, 16_384, 16_384, 9, 100_000, 3];
        let sent: Vec<u8> = (0..sizes.iter().sum()).map(|at: usize| (at % 251) as u8).collect();
        let (mut rest, read) = (&sent[..], async {
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            read
        });
        let write = async {
            for (number, size) in sizes.iter().enumerate() {
                let (now, later) = rest.split_at(*size);
                gather.write_all(now).await.unwrap();
                assert!(gather.held.len() <= HELD_BYTES_MAX);
                if number % 2 == 0 {
                    gather.flush().await.unwrap();
                }
                rest = later;
            }
            gather.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(write, read);
        assert!(read == sent);
    }
}

//! A connection whose client floods it with frames that ask for nothing.
//!
//! The HTTP/2 library bounds resets, continuations and empty data by itself, but answers every PING
//! and SETTINGS for as long as they come (CVE-2019-9512, CVE-2019-9515). Here they have an allowance.
//!
//! Owns: counting such frames. Must not know: requests. A newcomer's trap: the library is the one
//! who says ENHANCE_YOUR_CALM; it is made to by a header block in too many pieces that no client
//! sent, fed to it between two frames.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kijabi_base::clock::{self, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::{H2_IDLE_FRAMES_BURST, H2_IDLE_FRAMES_PER_SECOND};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
/// More pieces of a header block than the library takes.
const TOO_MANY: usize = 64;

/// A stream that ends when its client sends too many frames that ask for nothing.
#[derive(Debug)]
pub(super) struct Calm<S> {
    stream: S,
    frames: Frames,
    /// What the library is told at the end, and how much of it was.
    last_words: Option<(Vec<u8>, usize)>,
}

impl<S> Calm<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frames: Frames::default(), last_words: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Calm<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some((words, told)) = &mut this.last_words {
            // And then nothing: what the client still sends is not read any more.
            let length = (words.len() - *told).min(buffer.remaining());
            buffer.put_slice(&words[*told..*told + length]);
            *told += length;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        if let Some(calm) = this.frames.pass(&buffer.filled()[before..]) {
            tracing::warn!("a client floods its connection; it is closed");
            buffer.set_filled(before + calm);
            this.last_words = Some((this.frames.last_words(), 0));
            if calm == 0 {
                return self.poll_read(context, buffer);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Calm<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What has been read so far, frame by frame.
#[derive(Debug)]
struct Frames {
    /// How much of the preface was seen; `None` if the client speaks something else.
    preface: Option<usize>,
    head: [u8; FRAME_HEAD_BYTES],
    head_bytes: usize,
    /// Bytes of the frame that are still to come.
    left: usize,
    /// The highest stream that the client has opened.
    stream: u32,
    allowance: u32,
    refilled: Option<Instant>,
    excessive: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            preface: Some(0),
            head: [0; FRAME_HEAD_BYTES],
            head_bytes: 0,
            left: 0,
            stream: 0,
            allowance: H2_IDLE_FRAMES_BURST,
            refilled: None,
            excessive: false,
        }
    }
}

impl Frames {
    /// Looks at what was read. If the client must be stopped: how many of these bytes still count.
    fn pass(&mut self, bytes: &[u8]) -> Option<usize> {
        let seen = self.preface?;
        let mut at = 0;
        if seen < PREFACE.len() {
            at = bytes.len().min(PREFACE.len() - seen);
            if bytes[..at] != PREFACE[seen..seen + at] {
                self.preface = None;
                return None;
            }
            self.preface = Some(seen + at);
        }
        while at < bytes.len() {
            if self.left > 0 {
                let part = self.left.min(bytes.len() - at);
                (self.left, at) = (self.left - part, at + part);
                continue;
            }
            if self.head_bytes == 0 && self.excessive {
                return Some(at);
            }
            let part = (FRAME_HEAD_BYTES - self.head_bytes).min(bytes.len() - at);
            self.head[self.head_bytes..self.head_bytes + part]
                .copy_from_slice(&bytes[at..at + part]);
            (self.head_bytes, at) = (self.head_bytes + part, at + part);
            if self.head_bytes == FRAME_HEAD_BYTES {
                self.head_bytes = 0;
                self.frame();
            }
        }
        None
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        let asks = match kind {
            DATA => self.left > 0 || flags & END_STREAM != 0,
            HEADERS => {
                self.stream = self.stream.max(u32::from_be_bytes(stream) & 0x7fff_ffff);
                true
            }
            // These are answers to what was sent, or bounded by the library.
            WINDOW_UPDATE | CONTINUATION => true,
            _ => false,
        };
        if !asks {
            self.spend();
        }
    }

    fn spend(&mut self) {
        let now = clock::now();
        let since = now - *self.refilled.get_or_insert(now);
        let refill = since.as_secs_f64() * f64::from(H2_IDLE_FRAMES_PER_SECOND);
        if refill >= 1.0 {
            self.refilled = Some(now);
            let refilled = self.allowance.saturating_add(refill as u32);
            self.allowance = refilled.min(H2_IDLE_FRAMES_BURST);
        }
        match self.allowance.checked_sub(1) {
            Some(left) => self.allowance = left,
            None => self.excessive = true,
        }
    }

    /// A header block in too many pieces, on a stream that the client has not opened yet.
    fn last_words(&self) -> Vec<u8> {
        let stream = (self.stream | 1).saturating_add(2) & 0x7fff_ffff;
        let piece = |kind| [&[0, 0, 0, kind, 0][..], &stream.to_be_bytes()].concat();
        let mut words = piece(HEADERS);
        for _ in 0..TOO_MANY {
            words.extend(piece(CONTINUATION));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// How many frames pass before the client is stopped; `None` if all do.
    fn stopped_after(frame: &[u8], count: usize, piece: usize) -> Option<usize> {
        let mut frames = Frames::default();
        let sent = [PREFACE, &frame.repeat(count)].concat();
        let mut passed = 0;
        for bytes in sent.chunks(piece) {
            if let Some(calm) = frames.pass(bytes) {
                let bytes = passed + calm - PREFACE.len();
                assert_eq!(bytes % frame.len(), 0, "between two frames");
                return Some(bytes / frame.len());
            }
            passed += bytes.len();
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_ask_for_nothing_are_bounded() {
        let burst = H2_IDLE_FRAMES_BURST as usize;
        for (kind, payload) in [(6, &[0; 8][..]), (4, &[]), (0, &[]), (3, &[0; 4]), (99, b"x")] {
            let frame = frame(kind, 0, payload);
            for piece in [1, 1000] {
                assert_eq!(stopped_after(&frame, burst + 100, piece), Some(burst + 1), "{kind}");
            }
            assert_eq!(stopped_after(&frame, burst, 1000), None);
        }
        for (kind, flags, payload) in [(0, 0, &b"x"[..]), (0, 1, b""), (8, 0, &[0; 4]), (1, 4, b"")]
        {
            assert_eq!(stopped_after(&frame(kind, flags, payload), burst + 100, 1000), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_allowance_comes_back() {
        let (mut frames, ping) = (Frames::default(), frame(6, 0, &[0; 8]));
        let burst = H2_IDLE_FRAMES_BURST as usize;
        assert_eq!(frames.pass(&[PREFACE, &ping.repeat(burst)].concat()), None);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(frames.pass(&ping.repeat(H2_IDLE_FRAMES_PER_SECOND as usize)), None);
        assert!(frames.pass(&ping.repeat(2)).is_some());
    }

    #[test]
    fn other_protocols_are_not_looked_at() {
        let mut frames = Frames::default();
        assert_eq!(frames.pass(b"POST / HTTP/1.1\r\n"), None);
        assert_eq!(frames.pass(&frame(6, 0, &[0; 8]).repeat(100_000)), None);
    }
}

//! A connection whose client gives a URL as the authority of its requests.
//!
//! etcdctl 3.4, given an endpoint with its scheme, sends `http://host:port` as `:authority` for the
//! commands to single members (`endpoint status`, `defrag`, …). Go's server takes that, the HTTP/2
//! library here resets the stream. So the scheme is cut out before the library sees it.
//!
//! Owns: finding the frames with a request's head. Must not know: requests. A newcomer's trap: the
//! first head decides; a client that does it right is never looked at again.

mod hpack;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
/// The type of the frame that begins a request.
const HEADERS: u8 = 1;
/// Larger frames are refused by the library, whatever they hold.
const FRAME_BYTES_MAX: usize = 16_384;
/// Time a client has to say which protocol it speaks: to begin a request of HTTP/1.1, whose own
/// timeout follows, or to send the first frame of HTTP/2.
const FIRST_WORDS_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read at once while frames are looked at.
const READ_BYTES: usize = 4_096;

/// A stream that cuts the scheme out of the authority of HTTP/2 requests.
#[derive(Debug)]
pub(super) struct Lenient<S> {
    stream: S,
    filter: Filter,
    /// Ready to be read.
    output: BytesMut,
    ended: bool,
    /// Runs out if the client stays silent.
    patience: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<S> Lenient<S> {
    pub(super) fn new(stream: S) -> Self {
        let patience = Some(Box::pin(tokio::time::sleep(FIRST_WORDS_TIMEOUT)));
        let (filter, output) = (Filter::default(), BytesMut::new());
        Self { stream, filter, output, ended: false, patience }
    }

    /// Whether the client has been silent for too long.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.filter.has_spoken() {
            self.patience = None;
        }
        let Some(patience) = &mut self.patience else { return Ok(()) };
        if patience.as_mut().poll(context).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing"));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.poll_patience(context)?;
        while this.output.is_empty() {
            if this.ended || this.filter.is_done() {
                return Pin::new(&mut this.stream).poll_read(context, buffer);
            }
            let mut bytes = [0; READ_BYTES];
            let mut input = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut input))?;
            this.ended = input.filled().is_empty();
            if this.ended {
                this.output = this.filter.give_up();
            } else {
                this.filter.push(input.filled(), &mut this.output);
            }
        }
        let length = this.output.len().min(buffer.remaining());
        buffer.put_slice(&this.output[..length]);
        this.output.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
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
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Looks at what a client sends.
#[derive(Debug, Default)]
struct Filter {
    /// Read, but not understood yet; at most one frame.
    input: BytesMut,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// The connection's first bytes.
    #[default]
    Preface,
    /// Between two frames; whether a head was cut already, and whether there was no frame yet.
    Frames { cut: bool, first: bool },
    /// Inside a frame that does not matter.
    Skip { bytes: usize, cut: bool },
    /// Nothing needs to be looked at any more.
    Done,
}

impl Filter {
    fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether it is clear which protocol the client speaks.
    fn has_spoken(&self) -> bool {
        !matches!(self.state, State::Preface | State::Frames { cut: false, first: true })
    }

    /// What was read and not passed on.
    fn give_up(&mut self) -> BytesMut {
        self.state = State::Done;
        std::mem::take(&mut self.input)
    }

    /// Takes bytes in and puts what can be passed on into `output`.
    fn push(&mut self, bytes: &[u8], output: &mut BytesMut) {
        self.input.extend_from_slice(bytes);
        while self.step(output) {}
        if self.is_done() {
            output.unsplit(self.give_up());
        }
    }

    /// Does one thing; `false` if more bytes are needed, or none ever again.
    fn step(&mut self, output: &mut BytesMut) -> bool {
        match self.state {
            State::Done => false,
            State::Preface => {
                let length = self.input.len().min(PREFACE.len());
                if self.input[..length] != PREFACE[..length] {
                    self.state = State::Done;
                    return false;
                }
                if length < PREFACE.len() {
                    return false;
                }
                output.unsplit(self.input.split_to(length));
                self.state = State::Frames { cut: false, first: true };
                true
            }
            State::Skip { bytes: 0, cut } => {
                self.state = State::Frames { cut, first: false };
                true
            }
            State::Skip { bytes, cut } => {
                let length = bytes.min(self.input.len());
                output.unsplit(self.input.split_to(length));
                self.state = State::Skip { bytes: bytes - length, cut };
                length > 0
            }
            State::Frames { cut, .. } => self.frame(cut, output),
        }
    }

    fn frame(&mut self, cut: bool, output: &mut BytesMut) -> bool {
        let Some((&[a, b, c, kind, flags, ..], payload)) =
            self.input.split_first_chunk::<FRAME_HEAD_BYTES>()
        else {
            return false;
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind != HEADERS {
            self.state = State::Skip { bytes: FRAME_HEAD_BYTES + length, cut };
            return true;
        }
        if length > FRAME_BYTES_MAX {
            self.state = State::Done;
            return false;
        }
        let Some(payload) = payload.get(..length) else { return false };
        let shorter = hpack::without_scheme(flags, payload);
        let frame = self.input.split_to(FRAME_HEAD_BYTES + length);
        match shorter {
            Some(payload) => {
                let length = u32::try_from(payload.len()).expect("no longer than the frame was");
                output.extend_from_slice(&length.to_be_bytes()[1..]);
                output.extend_from_slice(&frame[3..FRAME_HEAD_BYTES]);
                output.extend_from_slice(&payload);
                self.state = State::Frames { cut: true, first: false };
            }
            None => {
                output.unsplit(frame);
                // A client that does it right once does it right always.
                self.state = if cut { State::Frames { cut, first: false } } else { State::Done };
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a type with flags and a payload, on stream 1.
    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What comes out if it goes in piece by piece.
    fn filtered(input: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let (mut filter, mut output) = (Filter::default(), BytesMut::new());
        for bytes in input.chunks(piece) {
            filter.push(bytes, &mut output);
        }
        let done = filter.is_done();
        output.unsplit(filter.give_up());
        (output.to_vec(), done)
    }

    #[test]
    fn the_scheme_is_cut_out_of_every_head_and_nothing_else_changes() {
        let head = |authority: &[u8]| {
            frame(HEADERS, 4, &[&[0x83, 0x86, 0x41, authority.len() as u8], authority].concat())
        };
        let settings = frame(4, 0, &[0; 12]);
        let data = frame(0, 1, b"http://x");
        let sent = [PREFACE, &settings, &head(b"http://h:1"), &data, &head(b"http://h:1"), &data];
        let expected = [PREFACE, &settings, &head(b"h:1"), &data, &head(b"h:1"), &data];
        for piece in [1, 7, 1000] {
            assert_eq!(filtered(&sent.concat(), piece), (expected.concat(), false));
        }
    }

    #[test]
    fn everything_else_passes_unchanged_and_is_not_looked_at_again() {
        let good = frame(HEADERS, 4, b"\x83\x86\x41\x03h:1");
        let large = [&[1, 0, 0, HEADERS, 0, 0, 0, 0, 1][..], &vec![0; 70_000]].concat();
        for sent in [
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            b"PRI * HTTP/1.1".to_vec(),
            [PREFACE, &good, b"whatever follows"].concat(),
            [PREFACE, &large].concat(),
        ] {
            for piece in [1, 1000] {
                assert_eq!(filtered(&sent, piece), (sent.clone(), true));
            }
        }
        let unfinished = [PREFACE, &good[..12]].concat();
        assert_eq!(filtered(&unfinished, 5).0, unfinished);
    }
}

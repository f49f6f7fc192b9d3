//! One HTTP/2 connection with the calls on it: bytes in, bytes out, no sockets.
//!
//! Owns: streams, flow control, gRPC's framing of messages. Must not know: what messages say, nor
//! the socket. A newcomer's trap: a message is handed on as a slice of what was read whenever it
//! is whole there; only one that is spread over frames is copied.

use std::collections::{BTreeMap, VecDeque};

use super::frame::{self, Head};
use super::hpack::{Decoder, Encoder, Status};

/// Bytes a server may send ahead on a stream, and on the whole connection.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 256 << 20;
/// What both sides begin with.
const WINDOW_DEFAULT: u32 = 65_535;
const FRAME_BYTES: usize = 16_384;
/// Bytes in front of a message: whether it is compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;

/// What happens to a call.
#[derive(Debug)]
pub(in crate::load) enum Event<'a> {
    /// A message of the answer.
    Message(&'a [u8]),
    /// It is over; an error says why.
    Ended(Result<(), String>),
}

/// Who is told: the slot a call was opened for, and what happened.
pub(in crate::load) type Sink<'a> = &'a mut dyn FnMut(usize, Event<'_>);

#[derive(Debug)]
struct Stream {
    slot: usize,
    /// The begin of a message whose end is yet to come.
    partial: Vec<u8>,
    /// What flow control holds back, and from where on.
    unsent: Vec<u8>,
    unsent_from: usize,
    /// No more requests follow, and whether the other side knows it.
    last: bool,
    closed: bool,
    window: i64,
    received: u32,
}

/// A connection.
#[derive(Debug)]
pub(in crate::load) struct Connection {
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    encoder: Encoder,
    decoder: Decoder,
    /// A block of headers that goes on in the next frame.
    headers: Option<(Head, Vec<u8>)>,
    streams: BTreeMap<u32, Stream>,
    next_stream: u32,
    window: i64,
    stream_window: i64,
    frame_bytes: usize,
    blocked: VecDeque<u32>,
    received: u32,
}

impl Connection {
    pub(in crate::load) fn new(authority: &str, tls: bool) -> Self {
        let mut out = frame::PREFACE.to_vec();
        frame::put_settings(
            &mut out,
            &[(frame::SETTING_PUSH, 0), (frame::SETTING_WINDOW, STREAM_WINDOW)],
        );
        frame::put_window_update(&mut out, 0, CONNECTION_WINDOW - WINDOW_DEFAULT);
        Self {
            out,
            written: 0,
            input: Vec::new(),
            encoder: Encoder::new(authority, tls),
            decoder: Decoder::default(),
            headers: None,
            streams: BTreeMap::new(),
            next_stream: 1,
            window: i64::from(WINDOW_DEFAULT),
            stream_window: i64::from(WINDOW_DEFAULT),
            frame_bytes: FRAME_BYTES,
            blocked: VecDeque::new(),
            received: 0,
        }
    }

    /// Opens a call with its first message, framed; `last` if no other follows.
    pub(in crate::load) fn open(
        &mut self,
        slot: usize,
        path: &str,
        message: &[u8],
        last: bool,
    ) -> u32 {
        let id = self.next_stream;
        self.next_stream += 2;
        let head_at = self.out.len();
        frame::put_head(&mut self.out, 0, frame::HEADERS, frame::END_HEADERS, id);
        self.encoder.request(path, &mut self.out);
        let length = (self.out.len() - head_at - frame::HEAD_BYTES) as u32;
        self.out[head_at..head_at + 3].copy_from_slice(&length.to_be_bytes()[1..]);
        let stream = Stream {
            slot,
            partial: Vec::new(),
            unsent: Vec::new(),
            unsent_from: 0,
            last: false,
            closed: false,
            window: self.stream_window,
            received: 0,
        };
        self.streams.insert(id, stream);
        self.send(id, message, last);
        id
    }

    /// Sends another message on a call; false if it is over.
    pub(in crate::load) fn send(&mut self, id: u32, message: &[u8], last: bool) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let length = message.len() as i64;
        let direct = stream.unsent.is_empty()
            && length <= self.window.min(stream.window)
            && message.len() <= self.frame_bytes;
        if direct {
            let flags = if last { frame::END_STREAM } else { 0 };
            frame::put_head(&mut self.out, message.len(), frame::DATA, flags, id);
            self.out.extend_from_slice(message);
            self.window -= length;
            stream.window -= length;
            stream.closed = last;
            return true;
        }
        stream.unsent.extend_from_slice(message);
        stream.last = last;
        self.blocked.push_back(id);
        self.send_blocked();
        true
    }

    /// Sends what flow control now lets pass.
    fn send_blocked(&mut self) {
        for _ in 0..self.blocked.len() {
            let Some(id) = self.blocked.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            loop {
                let left = stream.unsent.len() - stream.unsent_from;
                let window = self.window.min(stream.window).max(0) as usize;
                let part = left.min(window).min(self.frame_bytes);
                if part == 0 {
                    break;
                }
                let all = part == left;
                let flags = if all && stream.last { frame::END_STREAM } else { 0 };
                frame::put_head(&mut self.out, part, frame::DATA, flags, id);
                let from = stream.unsent_from;
                self.out.extend_from_slice(&stream.unsent[from..from + part]);
                stream.unsent_from += part;
                self.window -= part as i64;
                stream.window -= part as i64;
                stream.closed = all && stream.last;
            }
            if stream.unsent_from == stream.unsent.len() {
                stream.unsent = Vec::new();
                stream.unsent_from = 0;
            } else {
                self.blocked.push_back(id);
            }
        }
    }

    /// What is to be written to the socket.
    pub(in crate::load) fn pending(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// So much of it has been written.
    pub(in crate::load) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    /// Takes what was read from the socket. An error ends the connection.
    pub(in crate::load) fn receive(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), String> {
        if self.input.is_empty() {
            let taken = self.frames(bytes, sink)?;
            self.input.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let taken = self.frames(&input, sink)?;
        input.drain(..taken);
        self.input = input;
        Ok(())
    }

    /// All whole frames in `bytes`; returns how many bytes they are.
    fn frames(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<usize, String> {
        let mut at = 0;
        while let Some(head) = Head::read(&bytes[at..]) {
            let from = at + frame::HEAD_BYTES;
            let Some(payload) = bytes.get(from..from + head.length) else { break };
            self.frame(&head, payload, sink)?;
            at = from + head.length;
        }
        Ok(at)
    }

    fn frame(&mut self, head: &Head, payload: &[u8], sink: Sink<'_>) -> Result<(), String> {
        let short = || format!("a frame of kind {} that is too short", head.kind);
        match head.kind {
            frame::DATA => {
                let data = frame::content(head, payload).ok_or_else(short)?;
                self.data(head, payload.len() as u32, data, sink);
            }
            frame::HEADERS => {
                let block = frame::content(head, payload).ok_or_else(short)?;
                if head.flags & frame::END_HEADERS == 0 {
                    self.headers = Some((*head, block.to_vec()));
                } else {
                    self.status(head, block, sink)?;
                }
            }
            frame::CONTINUATION => {
                let (first, mut block) = self.headers.take().ok_or("headers without a begin")?;
                block.extend_from_slice(payload);
                if head.flags & frame::END_HEADERS == 0 {
                    self.headers = Some((first, block));
                } else {
                    self.status(&first, &block, sink)?;
                }
            }
            frame::RST_STREAM => {
                if let Some(stream) = self.streams.remove(&head.stream) {
                    let code = payload.last().copied().unwrap_or_default();
                    sink(stream.slot, Event::Ended(Err(format!("the server reset it: {code}"))));
                }
            }
            frame::SETTINGS if head.flags & frame::ACK == 0 => self.settings(payload),
            frame::PING if head.flags & frame::ACK == 0 => {
                frame::put_head(&mut self.out, payload.len(), frame::PING, frame::ACK, 0);
                self.out.extend_from_slice(payload);
            }
            frame::GOAWAY => {
                let text = String::from_utf8_lossy(payload.get(8..).unwrap_or_default());
                return Err(format!("the server closes the connection: {text}"));
            }
            frame::WINDOW_UPDATE => {
                let more: &[u8; 4] = payload.first_chunk().ok_or_else(short)?;
                let more = i64::from(u32::from_be_bytes(*more) & 0x7fff_ffff);
                if head.stream == 0 {
                    self.window += more;
                } else if let Some(stream) = self.streams.get_mut(&head.stream) {
                    stream.window += more;
                }
                self.send_blocked();
            }
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match name {
                frame::SETTING_WINDOW => {
                    let more = i64::from(value) - self.stream_window;
                    self.stream_window = i64::from(value);
                    for stream in self.streams.values_mut() {
                        stream.window += more;
                    }
                }
                frame::SETTING_FRAME => self.frame_bytes = FRAME_BYTES.min(value as usize),
                _ => {}
            }
        }
        frame::put_head(&mut self.out, 0, frame::SETTINGS, frame::ACK, 0);
        self.send_blocked();
    }

    fn data(&mut self, head: &Head, length: u32, data: &[u8], sink: Sink<'_>) {
        self.received += length;
        if self.received > CONNECTION_WINDOW / 2 {
            frame::put_window_update(&mut self.out, 0, self.received);
            self.received = 0;
        }
        let Some(stream) = self.streams.get_mut(&head.stream) else { return };
        let slot = stream.slot;
        if stream.partial.is_empty() {
            let rest = messages(data, slot, sink);
            stream.partial.extend_from_slice(rest);
        } else {
            stream.partial.extend_from_slice(data);
            let rest = messages(&stream.partial, slot, sink).len();
            let taken = stream.partial.len() - rest;
            stream.partial.drain(..taken);
        }
        if head.flags & frame::END_STREAM != 0 {
            self.streams.remove(&head.stream);
            sink(slot, Event::Ended(Err("an answer without a status".into())));
            return;
        }
        stream.received += length;
        if stream.received > STREAM_WINDOW / 2 {
            frame::put_window_update(&mut self.out, head.stream, stream.received);
            stream.received = 0;
        }
    }

    fn status(&mut self, head: &Head, block: &[u8], sink: Sink<'_>) -> Result<(), String> {
        // Also for calls that are gone: the table follows every block.
        let status = self.decoder.read(block)?;
        if head.flags & frame::END_STREAM == 0 {
            return Ok(());
        }
        if let Some(stream) = self.streams.remove(&head.stream) {
            if !stream.closed {
                frame::put_reset(&mut self.out, head.stream);
            }
            sink(stream.slot, Event::Ended(judged(status)));
        }
        Ok(())
    }

    /// Tells all calls that the connection is lost.
    pub(in crate::load) fn fail(&mut self, why: &str, sink: Sink<'_>) {
        for stream in std::mem::take(&mut self.streams).into_values() {
            sink(stream.slot, Event::Ended(Err(why.to_owned())));
        }
    }
}

/// Hands on all whole messages; returns what is left.
fn messages<'a>(mut data: &'a [u8], slot: usize, sink: Sink<'_>) -> &'a [u8] {
    while let Some(prefix) = data.first_chunk::<PREFIX_BYTES>() {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let Some(message) = data.get(PREFIX_BYTES..PREFIX_BYTES + length) else { break };
        sink(slot, Event::Message(message));
        data = &data[PREFIX_BYTES + length..];
    }
    data
}

fn judged(status: Status) -> Result<(), String> {
    match status {
        Status { http: Some(http), .. } => Err(format!("HTTP status {http}")),
        Status { grpc: Some(0), .. } => Ok(()),
        Status { grpc: Some(code), message, .. } => {
            let message = message.unwrap_or_default();
            Err(format!("status {code}: {}", message.replace("%20", " ")))
        }
        Status { grpc: None, .. } => Err("an answer without a status".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    fn answer(stream: u32, message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::put_head(&mut bytes, 1, frame::HEADERS, frame::END_HEADERS, stream);
        bytes.push(0x88);
        let data = framed(message);
        frame::put_head(&mut bytes, data.len(), frame::DATA, 0, stream);
        bytes.extend_from_slice(&data);
        let mut trailers = vec![0x00, 11];
        trailers.extend_from_slice(b"grpc-status");
        trailers.extend_from_slice(b"\x010");
        let flags = frame::END_HEADERS | frame::END_STREAM;
        frame::put_head(&mut bytes, trailers.len(), frame::HEADERS, flags, stream);
        bytes.extend_from_slice(&trailers);
        bytes
    }

    #[test]
    fn an_answer_arrives_whole_however_it_is_cut() {
        for cut in [1, 3, 10, 1_000] {
            let mut connection = Connection::new("h", false);
            let id = connection.open(7, "/a/b", &framed(b"ask"), true);
            let mut seen = Vec::new();
            for part in answer(id, b"told").chunks(cut) {
                let mut sink = |slot, event: Event<'_>| seen.push(format!("{slot} {event:?}"));
                connection.receive(part, &mut sink).unwrap();
            }
            assert_eq!(seen, ["7 Message([116, 111, 108, 100])", "7 Ended(Ok(()))"]);
        }
    }

    #[test]
    fn a_large_request_waits_for_the_window() {
        let mut connection = Connection::new("h", false);
        connection.open(0, "/a/b", &framed(&vec![0; 200_000]), true);
        let before = connection.pending().len();
        assert!((65_535..67_000).contains(&before), "{before}");
        let mut update = Vec::new();
        frame::put_window_update(&mut update, 0, 1 << 20);
        frame::put_window_update(&mut update, 1, 1 << 20);
        connection.receive(&update, &mut |_, _| ()).unwrap();
        assert!(connection.pending().len() > 200_000);
    }

    #[test]
    fn errors_are_told() {
        let mut connection = Connection::new("h", false);
        let mut told = Vec::new();
        for _ in 0..2 {
            connection.open(0, "/a/b", &framed(b""), true);
        }
        let mut reset = Vec::new();
        frame::put_reset(&mut reset, 1);
        let mut sink = |_, event: Event<'_>| told.push(format!("{event:?}"));
        connection.receive(&reset, &mut sink).unwrap();
        connection.fail("cut", &mut sink);
        let expected = ["Ended(Err(\"the server reset it: 8\"))", "Ended(Err(\"cut\"))"];
        assert_eq!(told, expected);
        let mut away = Vec::new();
        frame::put_head(&mut away, 8, frame::GOAWAY, 0, 0);
        away.extend_from_slice(&[0; 8]);
        assert!(connection.receive(&away, &mut |_, _| ()).is_err());
    }
}

//! Header compression (RFC 7541), as much as a gRPC client needs.
//!
//! Owns: the headers of requests, and of answers the status of the call. Must not know: frames. A
//! newcomer's trap: both tables live as long as the connection, so that from the second request on
//! each header is one byte; real clients' requests are as short.

use std::collections::VecDeque;

use super::huffman;

/// The names of the static table (appendix A); those of its values that matter are `:status`.
const STATIC: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];
/// Statuses of the static table's entries 8 to 14.
const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
const METHOD_POST: u8 = 0x80 | 3;
const SCHEME_HTTP: u8 = 0x80 | 6;
const SCHEME_HTTPS: u8 = 0x80 | 7;
/// Bytes a table may hold unless something else is agreed on, and what an entry counts beside its
/// text.
const TABLE_BYTES: usize = 4_096;
const ENTRY_BYTES: usize = 32;

/// Writes the headers of requests.
#[derive(Debug)]
pub(super) struct Encoder {
    scheme: u8,
    authority: String,
    /// What the other side has in its table, oldest first; far less than it may hold.
    sent: Vec<(&'static str, String)>,
}

impl Encoder {
    pub(super) fn new(authority: &str, tls: bool) -> Self {
        let scheme = if tls { SCHEME_HTTPS } else { SCHEME_HTTP };
        Self { scheme, authority: authority.to_owned(), sent: Vec::new() }
    }

    /// The headers of a call of `path`.
    pub(super) fn request(&mut self, path: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&[METHOD_POST, self.scheme]);
        let authority = self.authority.clone();
        self.field(":path", path, out);
        self.field(":authority", &authority, out);
        self.field("content-type", "application/grpc", out);
        self.field("te", "trailers", out);
        self.field("user-agent", "kijabi-bench", out);
    }

    fn field(&mut self, name: &'static str, value: &str, out: &mut Vec<u8>) {
        let known = self.sent.iter().rposition(|(n, v)| *n == name && v == value);
        if let Some(at) = known {
            let index = STATIC.len() + self.sent.len() - at;
            // The few entries of a connection fit seven bits.
            out.push(0x80 | index as u8);
            return;
        }
        self.sent.push((name, value.to_owned()));
        out.push(0x40);
        for text in [name, value] {
            integer(text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// An integer with a prefix of seven bits, the highest bit (Huffman) not set.
fn integer(value: usize, out: &mut Vec<u8>) {
    const PREFIX: usize = 127;
    if value < PREFIX {
        out.push(value as u8);
        return;
    }
    out.push(PREFIX as u8);
    let mut rest = value - PREFIX;
    while rest >= 128 {
        out.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// What an answer's headers or trailers say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// `:status`, unless it is 200.
    pub(super) http: Option<String>,
    /// `grpc-status`.
    pub(super) grpc: Option<u32>,
    /// `grpc-message`.
    pub(super) message: Option<String>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    value: String,
}

/// Reads the headers of answers.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Newest first.
    table: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES }
    }
}

impl Decoder {
    /// Reads one block of headers.
    pub(super) fn read(&mut self, mut block: &[u8]) -> Result<Status, &'static str> {
        let mut status = Status::default();
        while let Some(first) = block.first().copied() {
            if first & 0x80 != 0 {
                let index = take_integer(&mut block, 7)?;
                self.indexed(index, &mut status)?;
            } else if first & 0xe0 == 0x20 {
                self.bytes_max = take_integer(&mut block, 5)?.min(TABLE_BYTES);
                self.evict();
            } else {
                let kept = first & 0x40 != 0;
                let index = take_integer(&mut block, if kept { 6 } else { 4 })?;
                let name = match index {
                    0 => take_text(&mut block)?,
                    index => self.name(index)?.to_owned(),
                };
                let value = take_text(&mut block)?;
                note(&name, &value, &mut status);
                if kept {
                    self.bytes += name.len() + value.len() + ENTRY_BYTES;
                    self.table.push_front(Entry { name, value });
                    self.evict();
                }
            }
        }
        Ok(status)
    }

    fn indexed(&self, index: usize, status: &mut Status) -> Result<(), &'static str> {
        match index {
            0 => return Err("header 0"),
            8..=14 => note(":status", STATUSES[index - 8], status),
            index if index <= STATIC.len() => {}
            index => {
                let entry = self.table.get(index - STATIC.len() - 1).ok_or("no such header")?;
                note(&entry.name, &entry.value, status);
            }
        }
        Ok(())
    }

    fn name(&self, index: usize) -> Result<&str, &'static str> {
        if let Some(name) = STATIC.get(index - 1) {
            return Ok(name);
        }
        let entry = self.table.get(index - STATIC.len() - 1).ok_or("no such header")?;
        Ok(&entry.name)
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max
            && let Some(entry) = self.table.pop_back()
        {
            self.bytes -= entry.name.len() + entry.value.len() + ENTRY_BYTES;
        }
    }
}

fn note(name: &str, value: &str, status: &mut Status) {
    match name {
        ":status" if value != "200" => status.http = Some(value.to_owned()),
        "grpc-status" => status.grpc = value.parse().ok(),
        "grpc-message" => status.message = Some(value.to_owned()),
        _ => {}
    }
}

fn take_integer(block: &mut &[u8], prefix: u32) -> Result<usize, &'static str> {
    const CUT: &str = "a header ends early";
    let mask = (1_usize << prefix) - 1;
    let (first, mut rest) = block.split_first().ok_or(CUT)?;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        for shift in (0..=28).step_by(7) {
            let (byte, after) = rest.split_first().ok_or(CUT)?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn take_text(block: &mut &[u8]) -> Result<String, &'static str> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or("a header ends early")?;
    *block = rest;
    let text = if coded { huffman::decode(text) } else { text.to_vec() };
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_request_is_a_byte_a_header() {
        let mut encoder = Encoder::new("127.0.0.1:2379", false);
        let (mut first, mut second, mut other) = (Vec::new(), Vec::new(), Vec::new());
        encoder.request("/etcdserverpb.KV/Put", &mut first);
        encoder.request("/etcdserverpb.KV/Put", &mut second);
        assert!(first.len() > 80);
        assert_eq!(second, [0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
        encoder.request("/etcdserverpb.KV/Range", &mut other);
        assert_eq!(other[other.len() - 4..], [0xc2, 0xc1, 0xc0, 0xbf], "all have moved by one");
    }

    #[test]
    fn a_status_is_read_in_all_its_forms() {
        let mut decoder = Decoder::default();
        // Literal with indexing and then by index; the static table's 200.
        let mut block = vec![0x88, 0x40, 11];
        block.extend_from_slice(b"grpc-status");
        block.extend_from_slice(&[2, b'1', b'4', 0x00, 12]);
        block.extend_from_slice(b"grpc-message");
        block.extend_from_slice(&[3, b'o', b'h', b'!']);
        let status = decoder.read(&block).unwrap();
        let expected = Status { http: None, grpc: Some(14), message: Some("oh!".into()) };
        assert_eq!(status, expected);
        assert_eq!(decoder.read(&[0xbe]).unwrap().grpc, Some(14));
        assert_eq!(decoder.read(&[0x8d]).unwrap().http.as_deref(), Some("404"));
        assert!(decoder.read(&[0xff]).is_err(), "an integer that ends early");
        assert!(decoder.read(&[0xc5]).is_err(), "an index nothing stands at");
        // The table emptied.
        decoder.read(&[0x20]).unwrap();
        assert!(decoder.read(&[0xbe]).is_err());
    }
}

//! Reads, and reads mixed with puts.
//!
//! Owns: both loads. Must not know: when they are sent. A newcomer's trap: the key space is filled
//! first, which for many keys takes longer than the run.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kijabi_base::clock::Instant;
use kijabi_proto::etcdserverpb as pb;
use rand::Rng as _;
use rand::rngs::SmallRng;

use super::write::Putter;
use super::{Client, Keys, Load, Step};
use crate::load::args::{RangeArgs, ReadKind};
use crate::load::session::Session;
use crate::load::wire::{Field, Messages, Method, fields};

/// Reads.
pub(super) struct Read {
    keys: Keys,
    args: RangeArgs,
}

impl Read {
    pub(super) fn new(keys: Keys, args: RangeArgs) -> Self {
        Self { keys, args }
    }
}

impl Load for Read {
    fn prepare<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, anyhow::Result<()>> {
        if self.args.filled {
            return async { Ok(()) }.boxed();
        }
        self.keys.fill(session).boxed()
    }

    fn client(&self, number: usize) -> Option<Box<dyn Client>> {
        let next = number as u64 * self.keys.count / 7 % self.keys.count;
        Some(Box::new(Reader { keys: self.keys.clone(), args: self.args.clone(), next }))
    }
}

struct Reader {
    keys: Keys,
    args: RangeArgs,
    /// Where the next page of a list begins.
    next: u64,
}

impl Client for Reader {
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        let (key, range_end) = Keys::all();
        let mut request = pb::RangeRequest {
            key,
            range_end,
            serializable: self.args.serializable,
            ..Default::default()
        };
        match self.args.read {
            ReadKind::Key => {
                request.key = self.keys.random(rng);
                request.range_end.clear();
            }
            ReadKind::Page => {
                let pages_end = self.keys.count.saturating_sub(self.args.limit as u64);
                request.key = self.keys.key(rng.random_range(0..=pages_end));
                request.limit = self.args.limit;
            }
            ReadKind::Pages => {
                request.key = self.keys.key(self.next);
                request.limit = self.args.limit;
                self.next += self.args.limit.max(1) as u64;
                if self.next >= self.keys.count {
                    self.next = 0;
                }
            }
            ReadKind::Count => request.count_only = true,
            ReadKind::All | ReadKind::Stream => {}
        }
        messages.push(&request);
        let streamed = self.args.read == ReadKind::Stream;
        Some(if streamed { Method::RangeStream } else { Method::Range })
    }

    fn message(&mut self, bytes: &[u8], _now: Instant) -> Result<Step, String> {
        // RangeResponse: kvs = 2, count = 4. The first key is enough: a server that found nothing
        // would be quick for the wrong reason.
        const KVS: u32 = 2;
        const COUNT: u32 = 4;
        let found = self.args.read == ReadKind::Stream
            || fields(bytes).any(|(name, field)| match (name, field) {
                (KVS, _) => true,
                (COUNT, Field::Number(count)) => {
                    self.args.read == ReadKind::Count && count == self.keys.count
                }
                _ => false,
            });
        if found { Ok(Step::More) } else { Err("the keys are not found".into()) }
    }
}

/// Reads of one key and puts, so many in a hundred of the first.
pub(super) struct Mixed {
    keys: Keys,
    reads: u32,
}

impl Mixed {
    pub(super) fn new(keys: Keys, reads: u32) -> Self {
        Self { keys, reads }
    }
}

impl Load for Mixed {
    fn prepare<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, anyhow::Result<()>> {
        self.keys.fill(session).boxed()
    }

    fn client(&self, _number: usize) -> Option<Box<dyn Client>> {
        let args = RangeArgs { read: ReadKind::Key, serializable: false, limit: 0, filled: true };
        Some(Box::new(Mixer {
            reader: Reader { keys: self.keys.clone(), args, next: 0 },
            putter: Putter(self.keys.clone()),
            reads: self.reads,
        }))
    }
}

struct Mixer {
    reader: Reader,
    putter: Putter,
    reads: u32,
}

impl Client for Mixer {
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        if rng.random_range(0..100) < self.reads {
            self.reader.request(rng, messages)
        } else {
            self.putter.request(rng, messages)
        }
    }
}

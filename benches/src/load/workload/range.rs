//! Reads, and reads mixed with puts.
//!
//! Owns: both loads. Must not know: when they are sent. A newcomer's trap: the key space is filled
//! first, which for many keys takes longer than the run.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::kv_client::KvClient;
use rand::Rng as _;
use rand::rngs::SmallRng;
use tonic::Status;
use tonic::transport::Channel;

use super::write::Putter;
use super::{Client, Keys, Load};
use crate::load::args::{RangeArgs, ReadKind};
use crate::load::target::Target;

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
    fn prepare<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, anyhow::Result<()>> {
        self.keys.fill(target).boxed()
    }

    fn client<'a>(
        &'a self,
        number: usize,
        target: &'a Target,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>> {
        let (keys, args) = (self.keys.clone(), self.args.clone());
        let client: Box<dyn Client> = Box::new(Reader { kv: target.kv(number), keys, args });
        async { Ok(client) }.boxed()
    }
}

struct Reader {
    kv: KvClient<Channel>,
    keys: Keys,
    args: RangeArgs,
}

impl Client for Reader {
    fn once<'a>(&'a mut self, rng: &'a mut SmallRng) -> BoxFuture<'a, Result<(), Status>> {
        let (all, end) = Keys::all();
        let mut request = pb::RangeRequest {
            key: all.into(),
            range_end: end.into(),
            serializable: self.args.serializable,
            ..Default::default()
        };
        match self.args.read {
            ReadKind::Key => {
                request.key = self.keys.random(rng).into();
                request.range_end = Default::default();
            }
            ReadKind::Page => {
                request.key = self.keys.random(rng).into();
                request.limit = self.args.limit;
            }
            ReadKind::Count => request.count_only = true,
            ReadKind::All | ReadKind::Stream => {}
        }
        async move {
            if self.args.read == ReadKind::Stream {
                let mut chunks = self.kv.range_stream(request).await?.into_inner();
                while chunks.message().await?.is_some() {}
                return Ok(());
            }
            self.kv.range(request).await.map(drop)
        }
        .boxed()
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
    fn prepare<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, anyhow::Result<()>> {
        self.keys.fill(target).boxed()
    }

    fn client<'a>(
        &'a self,
        number: usize,
        target: &'a Target,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>> {
        let args = RangeArgs { read: ReadKind::Key, serializable: false, limit: 0 };
        let client: Box<dyn Client> = Box::new(Mixer {
            reader: Reader { kv: target.kv(number), keys: self.keys.clone(), args },
            putter: Putter { kv: target.kv(number), keys: self.keys.clone() },
            reads: self.reads,
        });
        async { Ok(client) }.boxed()
    }
}

struct Mixer {
    reader: Reader,
    putter: Putter,
    reads: u32,
}

impl Client for Mixer {
    fn once<'a>(&'a mut self, rng: &'a mut SmallRng) -> BoxFuture<'a, Result<(), Status>> {
        if rng.random_range(0..100) < self.reads {
            self.reader.once(rng)
        } else {
            self.putter.once(rng)
        }
    }
}

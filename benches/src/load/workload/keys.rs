//! Keys and values of a size.
//!
//! Owns: how number `n` becomes a key, and filling a key space. Must not know: when requests are
//! sent. A newcomer's trap: keys are as wide as asked for by zeros in front, so their order is that
//! of their numbers; values are slices of one random text, because making them would cost as much
//! as sending them.

use bytes::Bytes;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::request_op::Request;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::Client;
use crate::load::args::Common;
use crate::load::session::Session;
use crate::load::wire::{Messages, Method};

/// Puts of one transaction when the key space is filled; etcd takes at most 128.
const FILL_BATCH: u64 = 128;
/// Bytes of values of one such transaction; a request may have 1.5 MiB.
const FILL_BYTES: usize = 1 << 20;
/// Transactions under way at the same time when the key space is filled.
const FILL_CLIENTS: u64 = 32;
/// Bytes that values are taken from, beside the longest value.
const POOL_BYTES: usize = 256 << 10;

/// The key space of a load.
#[derive(Clone, Debug)]
pub(in crate::load) struct Keys {
    pub(super) count: u64,
    key_size: usize,
    val_size: usize,
    pool: Bytes,
}

impl Keys {
    pub(super) fn new(common: &Common) -> Self {
        Self::of_values(common, common.val_size)
    }

    /// With values of up to `val_size` bytes.
    pub(super) fn of_values(common: &Common, val_size: usize) -> Self {
        let mut pool = vec![0; POOL_BYTES + val_size];
        SmallRng::seed_from_u64(common.seed).fill(&mut pool[..]);
        Self {
            count: common.keys.max(1),
            key_size: common.key_size.max(1),
            val_size,
            pool: pool.into(),
        }
    }

    /// Key number `number`.
    pub(super) fn key(&self, number: u64) -> Bytes {
        format!("{number:0width$}", width = self.key_size).into_bytes().into()
    }

    /// The range of all keys.
    pub(super) fn all() -> (Bytes, Bytes) {
        (Bytes::from_static(b"0"), Bytes::from_static(b":"))
    }

    /// A random key.
    pub(super) fn random(&self, rng: &mut SmallRng) -> Bytes {
        self.key(rng.random_range(0..self.count))
    }

    /// A random value.
    pub(super) fn value(&self, rng: &mut SmallRng) -> Bytes {
        self.value_of(rng, self.val_size)
    }

    /// A random value of this size.
    pub(super) fn value_of(&self, rng: &mut SmallRng, size: usize) -> Bytes {
        let from = rng.random_range(0..POOL_BYTES);
        self.pool.slice(from..from + size)
    }

    /// A put of a random key.
    pub(super) fn put(&self, rng: &mut SmallRng) -> pb::PutRequest {
        pb::PutRequest { key: self.random(rng), value: self.value(rng), ..Default::default() }
    }

    /// Puts every key once.
    pub(super) async fn fill(&self, session: &Session) -> anyhow::Result<()> {
        let batch = (FILL_BYTES / (self.val_size + self.key_size)).clamp(1, FILL_BATCH as usize);
        let filler = |number| -> Box<dyn Client> {
            let (keys, batch) = (self.clone(), batch as u64);
            Box::new(Filler { keys, batch, next: number * batch })
        };
        session.finish((0..FILL_CLIENTS).map(filler).collect()).await
    }
}

/// Puts its share of all keys, many in a transaction.
struct Filler {
    keys: Keys,
    batch: u64,
    next: u64,
}

impl Client for Filler {
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        let last = (self.next + self.batch).min(self.keys.count);
        if self.next >= last {
            return None;
        }
        let puts = (self.next..last).map(|number| pb::RequestOp {
            request: Some(Request::RequestPut(pb::PutRequest {
                key: self.keys.key(number),
                value: self.keys.value(rng),
                ..Default::default()
            })),
        });
        messages.push(&pb::TxnRequest { success: puts.collect(), ..Default::default() });
        self.next += self.batch * FILL_CLIENTS;
        Some(Method::Txn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_wide_as_asked_for_and_lie_in_their_range() {
        let keys = Keys { count: 1_000, key_size: 8, val_size: 0, pool: Bytes::new() };
        let (from, to) = Keys::all();
        for number in [0, 7, 999] {
            let key = keys.key(number);
            assert_eq!(key.len(), 8);
            assert!(key >= from && key < to);
        }
        assert!(keys.key(9) < keys.key(10));
    }
}

//! Keys and values of a size.
//!
//! Owns: how number `n` becomes a key. Must not know: requests. A newcomer's trap: keys are as
//! wide as asked for by zeros in front, so their order is that of their numbers.

use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::request_op::Request;
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::load::args::Common;
use crate::load::target::Target;

/// Puts of one transaction when the key space is filled; etcd takes at most 128.
const FILL_BATCH: u64 = 128;
/// Transactions under way at the same time when the key space is filled.
const FILL_CLIENTS: u64 = 32;

/// The key space of a load.
#[derive(Clone, Debug)]
pub(in crate::load) struct Keys {
    pub(super) count: u64,
    key_size: usize,
    val_size: usize,
    seed: u64,
}

impl Keys {
    pub(super) fn new(common: &Common) -> Self {
        Self {
            count: common.keys.max(1),
            key_size: common.key_size.max(1),
            val_size: common.val_size,
            seed: common.seed,
        }
    }

    /// Key number `number`.
    pub(super) fn key(&self, number: u64) -> Vec<u8> {
        format!("{number:0width$}", width = self.key_size).into_bytes()
    }

    /// The range of all keys.
    pub(super) fn all() -> (Vec<u8>, Vec<u8>) {
        (b"0".to_vec(), b":".to_vec())
    }

    /// A random key.
    pub(super) fn random(&self, rng: &mut SmallRng) -> Vec<u8> {
        self.key(rng.random_range(0..self.count))
    }

    /// A random value.
    pub(super) fn value(&self, rng: &mut SmallRng) -> Vec<u8> {
        random_bytes(rng, self.val_size)
    }

    /// Puts every key once.
    pub(super) async fn fill(&self, target: &Target) -> anyhow::Result<()> {
        let fillers = (0..FILL_CLIENTS).map(|filler| self.fill_part(target, filler));
        futures::future::try_join_all(fillers).await?;
        Ok(())
    }

    async fn fill_part(&self, target: &Target, filler: u64) -> anyhow::Result<()> {
        use rand::SeedableRng as _;

        let mut rng = SmallRng::seed_from_u64(self.seed ^ (filler << 32));
        let mut kv = target.kv(filler as usize);
        let mut first = filler * FILL_BATCH;
        while first < self.count {
            let last = (first + FILL_BATCH).min(self.count);
            let puts = (first..last).map(|number| pb::RequestOp {
                request: Some(Request::RequestPut(pb::PutRequest {
                    key: self.key(number).into(),
                    value: self.value(&mut rng).into(),
                    ..Default::default()
                })),
            });
            let success = puts.collect();
            kv.txn(pb::TxnRequest { success, ..Default::default() }).await?;
            first += FILL_BATCH * FILL_CLIENTS;
        }
        Ok(())
    }
}

pub(super) fn random_bytes(rng: &mut SmallRng, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rng.fill(&mut bytes[..]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_wide_as_asked_for_and_lie_in_their_range() {
        let keys = Keys { count: 1_000, key_size: 8, val_size: 0, seed: 1 };
        let (from, to) = Keys::all();
        for number in [0, 7, 999] {
            let key = keys.key(number);
            assert_eq!(key.len(), 8);
            assert!(key >= from && key < to);
        }
        assert!(keys.key(9) < keys.key(10));
    }
}

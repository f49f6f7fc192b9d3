//! Leases: granted, or kept alive.
//!
//! Owns: both loads. Must not know: when they are sent. A newcomer's trap: each client keeps one
//! lease alive on a stream of its own, as client libraries do.

use kijabi_base::clock::Instant;
use kijabi_proto::etcdserverpb as pb;
use prost::Message as _;
use rand::rngs::SmallRng;

use super::{Client, Load, Step};
use crate::load::wire::{Messages, Method};

/// Seconds a lease lives without being kept alive: longer than any run.
const TTL: i64 = 3_600;

/// Grants.
pub(super) struct Grant;

impl Load for Grant {
    fn client(&self, _number: usize) -> Option<Box<dyn Client>> {
        Some(Box::new(Granter))
    }
}

struct Granter;

impl Client for Granter {
    fn request(&mut self, _rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        messages.push(&pb::LeaseGrantRequest { ttl: TTL, id: 0 });
        Some(Method::LeaseGrant)
    }
}

/// Renewals.
pub(super) struct KeepAlive;

impl Load for KeepAlive {
    fn client(&self, _number: usize) -> Option<Box<dyn Client>> {
        Some(Box::new(Keeper { id: 0 }))
    }
}

/// Its first operation is the grant.
struct Keeper {
    id: i64,
}

impl Client for Keeper {
    fn request(&mut self, _rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method> {
        if self.id == 0 {
            messages.push(&pb::LeaseGrantRequest { ttl: TTL, id: 0 });
            return Some(Method::LeaseGrant);
        }
        messages.push(&pb::LeaseKeepAliveRequest { id: self.id });
        Some(Method::LeaseKeepAlive)
    }

    fn message(&mut self, bytes: &[u8], _now: Instant) -> Result<Step, String> {
        let wrong = |error: prost::DecodeError| error.to_string();
        if self.id == 0 {
            self.id = pb::LeaseGrantResponse::decode(bytes).map_err(wrong)?.id;
            return Ok(Step::More);
        }
        let renewed = pb::LeaseKeepAliveResponse::decode(bytes).map_err(wrong)?;
        if renewed.ttl > 0 { Ok(Step::Done) } else { Err("the lease has expired".into()) }
    }
}

//! The loads: what one operation of a client does.
//!
//! Owns: requests and the keys and values in them. Must not know: when they are sent. A newcomer's
//! trap: everything random comes from the seeded generator that is passed in, so that two servers
//! get the same load.

mod behind;
mod events;
mod idle;
mod keys;
mod kubernetes;
mod lease;
mod range;
mod watch;
mod write;

use std::sync::Arc;

use futures::future::BoxFuture;
use kijabi_base::clock::Instant;
use rand::rngs::SmallRng;

use super::args::{Common, Workload};
use super::lane::Role;
use super::report::Extra;
use super::server::Usage;
use super::session::Session;
use super::wire::{Messages, Method};

use keys::Keys;

/// A load.
pub(super) trait Load: Send + Sync {
    /// Fills what the load needs, before any time is taken.
    fn prepare<'a>(&'a self, _session: &'a Session) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// Those that only listen.
    fn watchers(&self) -> Vec<(Role, Box<dyn Client>)> {
        Vec::new()
    }

    /// Whether they all do.
    fn ready(&self) -> bool {
        true
    }

    /// One client; none if the load needs none.
    fn client(&self, number: usize) -> Option<Box<dyn Client>>;

    /// The warm-up is over.
    fn measuring(&self) {}

    /// The time is over.
    fn over(&self) {}

    /// All operations are; what is still to come may be waited for.
    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// What was measured beside the operations, with what the server used before the load was
    /// prepared and at its end.
    fn extra(&self, _before: &Usage, _after: &Usage) -> Option<Extra> {
        None
    }
}

/// Whether an operation is over.
pub(super) enum Step {
    /// When the call ends, or with a later message.
    More,
    /// With this message.
    Done,
}

/// One client of a load.
pub(super) trait Client: Send {
    /// Writes the next request; none if there is nothing more to do.
    fn request(&mut self, rng: &mut SmallRng, messages: &mut Messages<'_>) -> Option<Method>;

    /// Takes a message of the answer.
    fn message(&mut self, _bytes: &[u8], _now: Instant) -> Result<Step, String> {
        Ok(Step::More)
    }
}

/// The load of a name; none for what is made of several.
pub(super) fn of(workload: &Workload, common: &Common) -> Option<Arc<dyn Load>> {
    let keys = Keys::new(common);
    let load: Arc<dyn Load> = match workload {
        Workload::Put => Arc::new(write::Put(keys)),
        Workload::Txn => Arc::new(write::CompareAndPut::new(keys, common)),
        Workload::Range(args) => Arc::new(range::Read::new(keys, args.clone())),
        Workload::Mixed(args) => Arc::new(range::Mixed::new(keys, args.reads)),
        Workload::WatchFanout(args) | Workload::WatchLatency(args) => {
            Arc::new(watch::Fanout::new(keys, args.clone()))
        }
        Workload::WatchIdle(args) => Arc::new(idle::Idle::new(args.clone())),
        Workload::WatchBehind(args) => Arc::new(behind::Behind::new(keys, args.clone())),
        Workload::LeaseGrant => Arc::new(lease::Grant),
        Workload::LeaseKeepAlive => Arc::new(lease::KeepAlive),
        Workload::Kubernetes(args) => Arc::new(kubernetes::Cluster::new(args.clone(), common)),
        Workload::Compare(_) => return None,
    };
    Some(load)
}

//! The loads: what one operation of a client does.
//!
//! Owns: requests and the keys and values in them. Must not know: when they are sent. A newcomer's
//! trap: everything random comes from the seeded generator that is passed in, so that two servers
//! get the same load.

mod keys;
mod kubernetes;
mod lease;
mod range;
mod watch;
mod write;

use std::sync::Arc;

use futures::future::BoxFuture;
use rand::rngs::SmallRng;
use tonic::Status;

use super::args::{Common, Workload};
use super::report::Extra;
use super::target::Target;

pub(super) use keys::Keys;

/// A load.
pub(super) trait Load: Send + Sync {
    /// Fills what the load needs, before any time is taken.
    fn prepare<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, anyhow::Result<()>>;

    /// One client.
    fn client<'a>(
        &'a self,
        number: usize,
        target: &'a Target,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>>;

    /// The warm-up is over.
    fn measuring(&self) {}

    /// What was measured beside the operations.
    fn finish(&self) -> BoxFuture<'_, Option<Extra>> {
        Box::pin(async { None })
    }
}

/// One client of a load.
pub(super) trait Client: Send {
    /// One operation.
    fn once<'a>(&'a mut self, rng: &'a mut SmallRng) -> BoxFuture<'a, Result<(), Status>>;
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
        Workload::LeaseGrant => Arc::new(lease::Grant),
        Workload::LeaseKeepAlive => Arc::new(lease::KeepAlive),
        Workload::Kubernetes(args) => Arc::new(kubernetes::Cluster::new(args.clone(), common)),
        Workload::Compare(_) => return None,
    };
    Some(load)
}

//! The garbage collector: deletes what has lost its owners.
//!
//! Owns: watching all kinds, and the order of foreground and orphaning deletion. Must not know: any
//! kind in particular. A newcomer's trap: the collector never deletes on what it remembers; before each
//! deletion it reads the object and each of its owners from the API, and names the uid in the request.

mod graph;
mod kinds;
mod plan;
mod reconcile;
mod watch;

use std::sync::Arc;

use kijabi_client::WorkQueue;
use parking_lot::{Mutex, RwLock};

use self::graph::Graph;
use self::kinds::Kinds;
use self::reconcile::Collector;
use crate::{Context, worker};

/// Objects looked at side by side (`--concurrent-gc-syncs` is 20 there).
const WORKERS: usize = 10;

/// What the watches and the workers share.
struct Shared {
    client: kube::Client,
    graph: Mutex<Graph>,
    kinds: RwLock<Kinds>,
    queue: Arc<WorkQueue<graph::Work>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let queue = Arc::new(WorkQueue::new());
    let shared = Arc::new(Shared {
        client: context.client.clone(),
        graph: Mutex::default(),
        kinds: RwLock::default(),
        queue: queue.clone(),
    });
    watch::start(shared.clone(), context.term.clone());
    worker::spawn(
        context,
        Arc::new(Collector { shared, absent: Mutex::default() }),
        queue,
        WORKERS,
    );
}

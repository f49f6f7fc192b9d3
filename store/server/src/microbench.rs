//! What the benches of parts may see of this crate's inside.
//!
//! Owns: the seams, thin and hidden from the documentation. Must not know: what is measured. A
//! newcomer's trap: nothing but the benches may use it, so it may change with what it shows.

use std::sync::Arc;

use kijabi_machine::{KeyRange, RevisionEvents};

use crate::store::EventSink as _;
use crate::watch::{Hub, Registration};

/// Most revisions a stream picks up at once here.
const PICK_UP_MAX: usize = 100;

/// A hub with streams that watch every key.
#[derive(Debug)]
pub struct WatchHub {
    hub: Arc<Hub>,
    streams: Vec<Registration>,
}

impl WatchHub {
    /// A hub at revision 0 with so many streams.
    pub fn new(streams: usize) -> Self {
        let hub = Hub::new(0);
        let stream = |_| {
            let registration = hub.register(0);
            registration.cover(KeyRange::Between { from: b"", to: None });
            registration
        };
        let streams = (0..streams).map(stream).collect();
        Self { hub, streams }
    }

    /// Publishes a revision, as the apply loop does.
    pub fn publish(&mut self, revision: Arc<RevisionEvents>) {
        self.hub.publish(&[revision]);
    }

    /// Lets every stream pick up what it has missed; how many events that were in all.
    pub fn pick_up(&mut self) -> usize {
        let picked = |stream: &Registration| {
            let revisions = stream.pick_up(PICK_UP_MAX).revisions;
            revisions.iter().map(|revision| revision.events.len()).sum::<usize>()
        };
        self.streams.iter().map(picked).sum()
    }
}

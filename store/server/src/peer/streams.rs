//! The streams on which other members bring entries, and when one ends.
//!
//! Owns: how many there are of whom. Must not know: why one ended, or who leads. A newcomer's trap:
//! a stream ends with the process behind it, but also when its leader begins another one; only
//! `demise.rs` asks which it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// The streams that are open now. Cloning shares.
#[derive(Clone, Debug)]
pub(crate) struct Streams(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// By sender; no more senders than there are members.
    open: Mutex<BTreeMap<u64, usize>>,
    /// How many have ended.
    ended: watch::Sender<u64>,
}

/// One open stream; it ends with this.
#[derive(Debug)]
pub(super) struct Open {
    sender: u64,
    streams: Streams,
}

// === impl Streams ===

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Inner { open: Mutex::default(), ended: watch::Sender::new(0) }))
    }
}

impl Streams {
    pub(super) fn open(&self, sender: u64) -> Open {
        *self.0.open.lock().entry(sender).or_default() += 1;
        Open { sender, streams: self.clone() }
    }

    /// Whether this member has a stream open to here.
    pub(crate) fn is_open(&self, sender: u64) -> bool {
        self.0.open.lock().contains_key(&sender)
    }

    /// Changes with each stream that ends.
    pub(crate) fn ended(&self) -> watch::Receiver<u64> {
        self.0.ended.subscribe()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        {
            let mut open = self.streams.0.open.lock();
            if let Some(count) = open.get_mut(&self.sender) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&self.sender);
                }
            }
        }
        self.streams.0.ended.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_there_as_long_as_one_of_its_streams_is() {
        let streams = Streams::default();
        let ended = streams.ended();
        let (first, second) = (streams.open(7), streams.open(7));
        drop(first);
        assert!(streams.is_open(7));
        assert!(ended.has_changed().unwrap());
        drop(second);
        assert!(!streams.is_open(7));
        assert_eq!(*ended.borrow(), 2);
    }
}

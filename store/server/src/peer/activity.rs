//! Which members this one has a connection to, and since when.
//!
//! Owns: counting connections as they come and go. Must not know: what goes over them. A newcomer's
//! trap: connections are made when they are needed, so a member that nothing was asked of has none.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kijabi_base::clock::{self, Instant};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Stream;
use crate::metrics::Metrics;

/// The connections by member. Cloning shares.
#[derive(Clone)]
pub(crate) struct Activity {
    links: Arc<Mutex<BTreeMap<u64, Connected>>>,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Copy)]
struct Connected {
    count: usize,
    since: Instant,
}

// === impl Activity ===

impl Activity {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { links: Arc::default(), metrics }
    }

    /// Since when there has been a connection to a member at any time; `None` if there is none.
    pub(crate) fn since(&self, member_id: u64) -> Option<Instant> {
        self.links.lock().get(&member_id).map(|connected| connected.since)
    }

    /// A connection to a member that was just made: it counts until it is dropped.
    pub(super) fn counted(&self, member_id: u64, stream: Box<dyn Stream>) -> Box<dyn Stream> {
        let mut links = self.links.lock();
        let new = Connected { count: 0, since: clock::now() };
        let connected = links.entry(member_id).or_insert(new);
        connected.count += 1;
        if connected.count == 1 {
            self.metrics.peers.active(member_id, true);
        }
        Box::new(Counted { stream, member_id, activity: self.clone() })
    }

    fn gone(&self, member_id: u64) {
        let mut links = self.links.lock();
        if let Some(connected) = links.get_mut(&member_id) {
            connected.count -= 1;
            if connected.count == 0 {
                links.remove(&member_id);
                self.metrics.peers.active(member_id, false);
            }
        }
    }
}

/// A connection that is counted.
struct Counted {
    stream: Box<dyn Stream>,
    member_id: u64,
    activity: Activity,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.activity.gone(self.member_id);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_active_from_the_first_connection_to_the_last() {
        let activity = Activity::new(Arc::new(Metrics::new(1, "3.6.14", 0)));
        let shown = |text: &str| {
            let all = String::from_utf8(activity.metrics.render()).unwrap();
            assert!(all.lines().any(|line| line == text), "{text} is not in {all}");
        };
        let connect = || activity.counted(0xab, Box::new(tokio::io::duplex(1).0));
        assert!(activity.since(0xab).is_none());
        let first = connect();
        let since = activity.since(0xab).unwrap();
        let second = connect();
        drop(first);
        assert_eq!(activity.since(0xab), Some(since), "there was one all the time");
        shown(r#"etcd_network_active_peers{Local="1",Remote="ab"} 1"#);
        drop(second);
        assert!(activity.since(0xab).is_none());
        shown(r#"etcd_network_active_peers{Local="1",Remote="ab"} 0"#);
        shown(r#"etcd_network_disconnected_peers_total{Local="1",Remote="ab"} 1"#);
    }
}

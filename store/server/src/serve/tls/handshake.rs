//! The server's side of a handshake.
//!
//! Owns: its bounds: time, and how many are under way. Must not know: requests. A newcomer's trap:
//! when too many are under way, the oldest gives way: honest clients are done in a moment, so the
//! ones that wait longest are those that never mean to finish.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::tasks::Shutdown;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::verify::common_name;
use super::{PeerIdentity, ServerTls, Side};
use crate::limits::HANDSHAKES_MAX;

/// Time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The handshakes of one listener that are under way. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshakes(Arc<Mutex<UnderWay>>);

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    by_age: BTreeMap<u64, Shutdown>,
}

/// One handshake; dropping it ends its count.
struct Ticket {
    all: Handshakes,
    id: u64,
    given_up: Shutdown,
}

impl Handshakes {
    fn begin(&self) -> Ticket {
        let mut under_way = self.0.lock();
        let id = under_way.next;
        under_way.next += 1;
        let given_up = Shutdown::new();
        under_way.by_age.insert(id, given_up.clone());
        if under_way.by_age.len() > HANDSHAKES_MAX
            && let Some((_, oldest)) = under_way.by_age.pop_first()
        {
            oldest.trigger();
        }
        Ticket { all: self.clone(), id, given_up }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.all.0.lock().by_age.remove(&self.id);
    }
}

/// Shakes hands; `None` if the client must not or does not come in. Whom it is then.
pub(crate) async fn accept<S>(
    tls: &ServerTls,
    stream: S,
    remote: Option<SocketAddr>,
    all: &Handshakes,
) -> Option<(TlsStream<S>, Option<PeerIdentity>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ticket = all.begin();
    let shaking = TlsAcceptor::from(tls.config()).accept(stream).into_fallible();
    let shaken = tokio::select! {
        () = ticket.given_up.wait() => Err("too many handshakes are under way".to_owned()),
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking) => match shaken {
            Err(_elapsed) => Err(format!("no handshake within {HANDSHAKE_TIMEOUT:?}")),
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err((error, mut stream))) => {
                // What the alert says is sent; then the client sees an end, not a reset.
                let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.shutdown()).await;
                Err(error.to_string())
            }
        }
    };
    let mut stream = match shaken {
        Ok(stream) => stream,
        Err(why) => {
            rejected(tls.side(), remote, &why);
            return None;
        }
    };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
    let Some(leaf) = leaf else { return Some((stream, None)) };
    if let Some(remote) = remote
        && let Err(why) = tls.check_address(&leaf, remote).await
    {
        rejected(tls.side(), Some(remote), &why);
        let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.shutdown()).await;
        return None;
    }
    let identity = common_name(&leaf)
        .filter(|name| !name.is_empty())
        .map(|name| PeerIdentity { common_name: name.into() });
    Some((stream, identity))
}

/// etcd's line.
fn rejected(side: Side, remote: Option<SocketAddr>, why: &str) {
    let remote = remote.map(|remote| remote.to_string()).unwrap_or_default();
    match side {
        Side::Client => {
            tracing::warn!(
                "remote-addr" = remote,
                error = why,
                "rejected connection on client endpoint"
            );
        }
        Side::Peer => {
            tracing::warn!(
                "remote-addr" = remote,
                error = why,
                "rejected connection on peer endpoint"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_handshake_gives_way() {
        let all = Handshakes::default();
        let first = all.begin();
        let rest: Vec<Ticket> = (1..HANDSHAKES_MAX).map(|_| all.begin()).collect();
        assert!(!first.given_up.is_triggered());
        let one_more = all.begin();
        assert!(first.given_up.is_triggered());
        drop((first, rest));
        assert_eq!(all.0.lock().by_age.len(), 1);
        assert!(!one_more.given_up.is_triggered());
    }
}

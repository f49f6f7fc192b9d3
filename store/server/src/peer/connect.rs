//! Reaching another member: a byte stream to one of its peer URLs.
//!
//! Owns: dialing. Must not know: what is sent. A newcomer's trap: the URLs are the advertised
//! ones, which may lead through a proxy; the address a member listens on is nobody else's business.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::crew::Spawner;
use crate::limits::{PEER_MESSAGE_BYTES_MAX, PEER_SEND_QUEUE_MAX};
use crate::serve::ClientTls;

/// A connected byte stream, whatever is under it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Connected = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// How a peer URL becomes a byte stream.
pub(crate) type Dial = Arc<dyn Fn(String) -> Connected + Send + Sync>;

/// Dials TCP, and `https` with the member's certificates.
pub(crate) fn dial(tls: Option<Arc<ClientTls>>) -> Dial {
    Arc::new(move |url| Box::pin(connect(url, tls.clone())))
}

async fn connect(url: String, tls: Option<Arc<ClientTls>>) -> io::Result<Box<dyn Stream>> {
    if let Some(tls) = tls
        && url.starts_with("https://")
    {
        return Ok(Box::new(tls.connect(&url).await?));
    }
    let Some(address) = url.strip_prefix("http://") else {
        let what = format!("{url}: a peer URL of this kind needs TLS settings");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    };
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// The peer URLs of a member. They may change while connections to it are kept: the next one that
/// is made goes to the new ones.
pub(crate) type Addresses = Arc<RwLock<Vec<String>>>;

/// How long things may take between members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a connection.
    pub(crate) connect: Duration,
    /// For a member that has stopped answering pings on a connection in use.
    pub(crate) silence: Duration,
}

/// A connection that is made when it is needed, and made again when it breaks. With several URLs,
/// each attempt goes to the next one.
pub(crate) fn channel(
    urls: Addresses,
    dial: Dial,
    patience: Patience,
    crew: Option<Spawner>,
) -> Channel {
    // The address in it is never dialed: the connector below knows where to go.
    let endpoint = Endpoint::from_static("http://peer")
        .connect_timeout(patience.connect)
        .http2_keep_alive_interval(patience.silence / 2)
        .keep_alive_timeout(patience.silence)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .buffer_size(PEER_SEND_QUEUE_MAX);
    let endpoint = match crew {
        Some(crew) => endpoint.executor(crew),
        None => endpoint,
    };
    endpoint.connect_with_connector_lazy(Dialer { urls, dial, next: Arc::default() })
}

/// Room for what may be under way; also what HTTP/2 tolerates in frames that are not read yet.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const _: () = assert!(PEER_MESSAGE_BYTES_MAX > STREAM_WINDOW_BYTES as usize);

#[derive(Clone)]
struct Dialer {
    urls: Addresses,
    dial: Dial,
    next: Arc<AtomicUsize>,
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let url = {
            let urls = self.urls.read();
            urls.get(turn % urls.len().max(1)).cloned()
        };
        let Some(url) = url else {
            return Box::pin(async { Err(io::Error::other("the member has no peer URL")) });
        };
        let dialing = (self.dial)(url);
        Box::pin(async move { Ok(TokioIo::new(dialing.await?)) })
    }
}

//! Listening on TCP and unix sockets.
//!
//! Owns: binding, and what the operating system says when it cannot. Must not know: HTTP. A
//! newcomer's trap: `localhost` is two addresses; like etcd, only one is used, the IPv4 one.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::tls::ServerTls;
use crate::config::SocketOptions;

/// An address that cannot be listened on; the text is etcd's.
#[derive(Debug, thiserror::Error)]
#[error("listen {network} {address}: bind: {why}")]
pub(crate) struct ListenError {
    network: &'static str,
    address: String,
    why: String,
}

/// A bound listener.
pub(crate) struct Bound {
    socket: Listening,
    tls: Option<Arc<ServerTls>>,
}

enum Listening {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

/// An accepted connection.
pub(crate) enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Whether connections to a URL have TLS.
pub(crate) fn is_secure(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("unixs://")
}

/// Binds one URL. The TLS settings count if the URL's scheme asks for them.
pub(crate) async fn bind(
    url: &str,
    options: SocketOptions,
    tls: Option<&Arc<ServerTls>>,
) -> Result<Bound, ListenError> {
    let (scheme, address) = url.split_once("://").unwrap_or(("http", url));
    let socket = if scheme.starts_with("unix") {
        bind_unix(address).map_err(|error| refused("unix", address, &error))
    } else {
        bind_tcp(address, options).await.map_err(|error| refused("tcp", address, &error))
    };
    let socket = socket?;
    if !is_secure(url) {
        return Ok(Bound { socket, tls: None });
    }
    match tls {
        Some(tls) => Ok(Bound { socket, tls: Some(Arc::clone(tls)) }),
        None => {
            let why = "KeyFile and CertFile are not presented".to_owned();
            Err(ListenError { network: "TLS", address: address.to_owned(), why })
        }
    }
}

fn refused(network: &'static str, address: &str, error: &io::Error) -> ListenError {
    // Go's text of the error, without Rust's "(os error 98)".
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".into(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    };
    ListenError { network, address: address.to_owned(), why }
}

async fn bind_tcp(address: &str, options: SocketOptions) -> io::Result<Listening> {
    // Go listens everywhere if no host is said.
    let everywhere = format!("0.0.0.0{address}");
    let address = if address.starts_with(':') { everywhere.as_str() } else { address };
    let mut found: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    let Some(address) = found.first() else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Go always does this on Linux, whatever --socket-reuse-address says.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(options.reuse_port)?;
    socket.bind(*address)?;
    let listener = socket.listen(BACKLOG)?;
    let bound = listener.local_addr()?;
    Ok(Listening::Tcp(listener, bound))
}

fn bind_unix(path: &str) -> io::Result<Listening> {
    let path = PathBuf::from(path);
    // A socket nobody listens on is a leftover of a killed process.
    if let Err(error) = std::os::unix::net::UnixStream::connect(&path) {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            std::fs::remove_file(&path)?;
        }
    } else {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Listening::Unix(listener, path))
}

// === impl Bound ===

impl Bound {
    pub(crate) async fn accept(&self) -> io::Result<(Peer, Option<SocketAddr>)> {
        match &self.socket {
            Listening::Tcp(listener, _) => {
                let (stream, remote) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Peer::Tcp(stream), Some(remote)))
            }
            Listening::Unix(listener, _) => Ok((Peer::Unix(listener.accept().await?.0), None)),
        }
    }

    /// The TCP address, with the port the system chose.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Listening::Tcp(_, address) => Some(*address),
            Listening::Unix(..) => None,
        }
    }

    /// The TLS of its connections.
    pub(crate) fn tls(&self) -> Option<&Arc<ServerTls>> {
        self.tls.as_ref()
    }

    /// The URL a client uses.
    pub(crate) fn url(&self) -> String {
        let secure = if self.tls.is_some() { "s" } else { "" };
        match &self.socket {
            Listening::Tcp(_, address) => format!("http{secure}://{address}"),
            Listening::Unix(_, path) => format!("unix{secure}://{}", path.display()),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

// === impl Peer ===

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

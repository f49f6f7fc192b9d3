//! Listening on TCP and unix sockets.
//!
//! Owns: binding, and what the operating system says when it cannot. Must not know: HTTP. A
//! newcomer's trap: `localhost` is two addresses; like etcd, only one is used, the IPv4 one.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// An address that cannot be listened on; the text is etcd's.
#[derive(Debug, thiserror::Error)]
#[error("listen {network} {address}: bind: {why}")]
pub(crate) struct ListenError {
    network: &'static str,
    address: String,
    why: String,
}

/// A bound listener.
pub(crate) enum Bound {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

/// An accepted connection.
pub(crate) enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Binds one URL.
pub(crate) async fn bind(url: &str) -> Result<Bound, ListenError> {
    if let Some(path) = url.strip_prefix("unix://") {
        return bind_unix(path).map_err(|error| refused("unix", path, &error));
    }
    let address = url.strip_prefix("http://").unwrap_or(url);
    bind_tcp(address).await.map_err(|error| refused("tcp", address, &error))
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

async fn bind_tcp(address: &str) -> io::Result<Bound> {
    let mut found: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    let Some(address) = found.first() else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok(Bound::Tcp(listener, bound))
}

fn bind_unix(path: &str) -> io::Result<Bound> {
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
    Ok(Bound::Unix(listener, path))
}

// === impl Bound ===

impl Bound {
    pub(crate) async fn accept(&self) -> io::Result<Peer> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Peer::Tcp(stream))
            }
            Self::Unix(listener, _) => Ok(Peer::Unix(listener.accept().await?.0)),
        }
    }

    /// The TCP address, with the port the system chose.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, address) => Some(*address),
            Self::Unix(..) => None,
        }
    }

    /// The URL a client uses.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Tcp(_, address) => format!("http://{address}"),
            Self::Unix(_, path) => format!("unix://{}", path.display()),
        }
    }
}

impl Drop for Bound {
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

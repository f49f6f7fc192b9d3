//! Telling systemd that the member is ready.
//!
//! Owns: the datagram of `sd_notify`. Must not know: what readiness means. A newcomer's trap: outside
//! of a unit of type `notify` there is no socket, and that is no fault.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells whoever listens on `$NOTIFY_SOCKET`.
pub fn ready(socket: Option<&OsStr>) {
    let Some(socket) = socket.filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(socket, b"READY=1") {
        tracing::error!(%error, "failed to notify systemd for readiness");
    }
}

fn send(socket: &OsStr, state: &[u8]) -> std::io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        // A name that is no file.
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        ready(Some(path.as_os_str()));
        let mut buffer = [0; 32];
        let length = listening.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        ready(None);
        ready(Some(OsStr::new("/nonexistent/socket")));
    }
}

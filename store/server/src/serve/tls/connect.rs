//! Connections to other members with TLS.
//!
//! Owns: the client's side. Must not know: what is sent. A newcomer's trap: the certificate to show
//! is the listener's own if no other is named, so it must be good for clients, too.

use std::io;
use std::path::Path;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::reload::Reloading;
use super::{
    Side, TlsError, load, mismatch, paths, provider, settings, verify, versions, with_made,
};
use crate::config::{TlsFiles, TlsLimits};

/// TLS of connections to other members.
#[derive(Debug)]
pub(crate) struct ClientTls {
    config: Reloading<ClientConfig>,
}

impl ClientTls {
    /// Reads the files that name this member to the others.
    pub(crate) fn new(
        files: &TlsFiles,
        limits: &TlsLimits,
        dir: &Path,
        hosts: &[String],
    ) -> Result<Self, TlsError> {
        let files = with_made(Side::Peer, files, limits, dir, hosts)?;
        let limits = limits.clone();
        let paths = paths(&files);
        let config = Reloading::new("peer client", paths, move || client_config(&files, &limits))?;
        Ok(Self { config })
    }

    /// Connects to `https://host:port`.
    pub(crate) async fn connect(&self, url: &str) -> io::Result<TlsStream<TcpStream>> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: not https"));
        let authority = url.strip_prefix("https://").ok_or_else(invalid)?;
        let (host, _) = authority.rsplit_once(':').ok_or_else(invalid)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| invalid())?;
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(self.config.current()).connect(name, stream).await
    }
}

fn client_config(files: &TlsFiles, limits: &TlsLimits) -> Result<ClientConfig, TlsError> {
    let provider = provider(limits);
    let verifier = verify::servers(files, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(limits))
        .map_err(|error| settings("TLS versions", &error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let own = match (&files.client_cert_file, &files.cert_file) {
        (Some(cert), _) => Some((cert, &files.client_key_file)),
        (None, Some(cert)) => Some((cert, &files.key_file)),
        (None, None) => None,
    };
    let mut config = match own {
        Some((cert, key)) => {
            let (chain, key) = load::pair(Some(cert), key.as_deref())?;
            builder.with_client_auth_cert(chain, key).map_err(|error| mismatch(files, &error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

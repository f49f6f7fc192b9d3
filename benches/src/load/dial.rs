//! Sockets to the endpoints, with TLS or without.
//!
//! Owns: addresses, certificates, connecting. Must not know: HTTP. A newcomer's trap: a server's
//! certificate is always checked, against `--cacert`; there is no flag to trust anybody.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::args::Common;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connected socket.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Where a server is.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Host and port.
    pub(super) authority: String,
    pub(super) tls: bool,
}

impl Endpoint {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => anyhow::bail!("the endpoint {text:?} is neither http nor https"),
        };
        let authority = rest.trim_end_matches('/').to_owned();
        anyhow::ensure!(
            authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()),
            "the endpoint {text:?} has no port"
        );
        Ok(Self { authority, tls })
    }

    fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// Connects to endpoints. Cloning shares.
#[derive(Clone)]
pub(super) struct Dialer {
    endpoints: Arc<[Endpoint]>,
    tls: Option<TlsConnector>,
}

impl Dialer {
    pub(super) fn new(common: &Common) -> anyhow::Result<Self> {
        let endpoints: anyhow::Result<Vec<_>> =
            common.endpoints.iter().map(|text| Endpoint::parse(text)).collect();
        let endpoints = endpoints?;
        anyhow::ensure!(!endpoints.is_empty(), "no endpoint");
        let tls = if endpoints.iter().any(|endpoint| endpoint.tls) {
            let authority = common.cacert.as_deref().context("an https endpoint needs --cacert")?;
            let own = common.cert.as_deref().zip(common.key.as_deref());
            Some(TlsConnector::from(Arc::new(config(authority, own)?)))
        } else {
            None
        };
        Ok(Self { endpoints: endpoints.into(), tls })
    }

    /// The endpoint of a connection: they take turns.
    pub(super) fn endpoint(&self, connection: usize) -> &Endpoint {
        &self.endpoints[connection % self.endpoints.len()]
    }

    /// Number of endpoints.
    pub(super) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    pub(super) async fn connect(&self, endpoint: &Endpoint) -> anyhow::Result<Box<dyn Socket>> {
        let connecting = async {
            let socket = TcpStream::connect(&endpoint.authority).await?;
            socket.set_nodelay(true)?;
            let Some(tls) = self.tls.as_ref().filter(|_| endpoint.tls) else {
                return anyhow::Ok(Box::new(socket) as Box<dyn Socket>);
            };
            let name = ServerName::try_from(endpoint.host().to_owned())?;
            Ok(Box::new(tls.connect(name, socket).await?) as Box<dyn Socket>)
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        connected
            .context("no answer in time")
            .and_then(|connected| connected)
            .with_context(|| format!("connecting to {}", endpoint.authority))
    }
}

fn config(authority: &Path, own: Option<(&Path, &Path)>) -> anyhow::Result<ClientConfig> {
    let certificates = |path: &Path| -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let all = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .with_context(|| format!("certificates in {}", path.display()))?;
        Ok(all)
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate).context("a certificate authority")?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key_of = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("the key in {}", key.display()))?;
            builder.with_client_auth_cert(certificates(certificate)?, key_of)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_scheme_and_a_port() {
        let endpoint = Endpoint::parse("https://[::1]:2379/").unwrap();
        assert_eq!((endpoint.host(), endpoint.tls), ("::1", true));
        assert_eq!(Endpoint::parse("h:1").unwrap().authority, "h:1");
        for text in ["unix://x:1", "http://h", "http://h:x"] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}

//! A client with TLS, and one that only begins it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::authority::Pair;

/// How long an answer may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What a connection came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: String,
    pub(crate) version: ProtocolVersion,
    pub(crate) suite: String,
    pub(crate) alpn: Option<Vec<u8>>,
    /// The server's certificate.
    pub(crate) leaf: Vec<u8>,
}

/// How a client shakes hands.
pub(crate) struct Client {
    pub(crate) config: ClientConfig,
}

impl Client {
    /// Trusts the authority in a file.
    pub(crate) fn new(ca: &Path, own: Option<&Pair>) -> Self {
        Self::with_versions(ca, own, rustls::ALL_VERSIONS)
    }

    pub(crate) fn with_versions(
        ca: &Path,
        own: Option<&Pair>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            Some(own) => {
                let chain = vec![CertificateDer::from_pem_file(&own.cert).unwrap()];
                let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Self { config }
    }

    /// Asks over HTTP/1.1 on a new connection.
    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> Result<Answer, String> {
        let asking = self.ask(address, path);
        let answer = tokio::time::timeout(LIMIT, asking).await;
        answer.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
    }

    async fn ask(&self, address: SocketAddr, path: &str) -> std::io::Result<Answer> {
        let stream = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let name = ServerName::from(address.ip());
        let mut stream = connector.connect(name, stream).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = Vec::new();
        let read = stream.read_to_end(&mut text).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.is_empty() {
            read?;
            return Err(std::io::Error::other("closed"));
        }
        let (_, tls) = stream.get_ref();
        Ok(Answer {
            status: text.lines().next().unwrap_or_default().to_owned(),
            version: tls.protocol_version().unwrap(),
            suite: format!("{:?}", tls.negotiated_cipher_suite().unwrap().suite()),
            alpn: tls.alpn_protocol().map(<[u8]>::to_vec),
            leaf: tls.peer_certificates().unwrap()[0].to_vec(),
        })
    }
}

/// Sends bytes and returns all that comes back until the server closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.write_all(bytes).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    match tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await {
        Err(_) => Err("the server keeps the connection".into()),
        // What was sent and not read makes it a reset, which is an end, too.
        Ok(_) => Ok(answer),
    }
}

/// The first message of a client that offers this version at most and these suites.
pub(crate) fn client_hello(version: [u8; 2], suites: &[[u8; 2]]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(u16::try_from(suites.len() * 2).unwrap().to_be_bytes());
    body.extend(suites.concat());
    body.extend([1, 0]);
    // supported_groups: P-256; signature_algorithms: ECDSA with P-256.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3];
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &length, &message].concat()
}

//! Certificates made for a test, and one HTTPS request with them.
#![allow(clippy::unwrap_used, reason = "tests may")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use kijabi_agent::ServerConfig;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

/// A certificate with its key.
pub(crate) struct Identity {
    cert: CertificateDer<'static>,
    cert_pem: String,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test-ca");
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let (der, pem) = (cert.der().clone(), cert.pem());
        Self { issuer: Issuer::new(params, key), der, pem }
    }

    fn sign(&self, names: Vec<String>, user: &str, group: &str) -> Identity {
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity { cert: cert.der().clone(), cert_pem: cert.pem(), key }
    }

    /// A client's certificate: its user and its group.
    pub(crate) fn client(&self, user: &str, group: &str) -> Identity {
        self.sign(Vec::new(), user, group)
    }

    /// Writes what a node server needs into `folder`.
    pub(crate) fn server(&self, folder: &Path) -> ServerConfig {
        let identity = self.sign(vec!["127.0.0.1".to_owned()], "system:node:node", "");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        ServerConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            cert: write("server.crt", &identity.cert_pem),
            key: write("server.key", &identity.key.serialize_pem()),
            client_ca: write("ca.crt", &self.pem),
        }
    }
}

/// `GET path`: the status and the body.
pub(crate) async fn request(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&Identity>,
    path: &str,
) -> Result<(u16, String), String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(it) => {
            let key = PrivateKeyDer::try_from(it.key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![it.cert.clone()], key).unwrap()
        }
    };
    let text = |error: std::io::Error| error.to_string();
    let stream = tokio::net::TcpStream::connect(address).await.map_err(text)?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.map_err(text)?;
    let ask = format!("GET {path} HTTP/1.0\r\nHost: node\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.map_err(text)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(text)?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, body.to_owned()))
}

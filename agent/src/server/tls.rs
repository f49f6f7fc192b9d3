//! TLS of the node server, and who its clients are.
//!
//! Must not know: paths. A newcomer's trap: a name in a certificate counts only because rustls has
//! checked the certificate against the cluster's CA before.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Error, ServerConfig};

/// Users that may read this node beside group `system:masters`: the apiserver's identities.
const ALLOWED_USERS: [&str; 3] =
    ["kube-apiserver-kubelet-client", "kube-apiserver", "system:apiserver"];
const ALLOWED_GROUPS: [&str; 2] = ["system:masters", "kubeadm:cluster-admins"];

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// No certificate was shown.
    Unknown,
    /// The certificate's common name.
    Named {
        /// The name.
        user: String,
        /// Whether it may ask.
        allowed: bool,
    },
}

/// The server's side of TLS.
pub(super) fn acceptor(config: &ServerConfig) -> Result<tokio_rustls::TlsAcceptor, Error> {
    let bad =
        |path: &std::path::Path, what: String| Error::Server(format!("{}: {what}", path.display()));
    let certs = |path: &std::path::Path| -> Result<Vec<CertificateDer<'static>>, Error> {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| bad(path, error.to_string()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for ca in certs(&config.client_ca)? {
        roots.add(ca).map_err(|error| bad(&config.client_ca, error.to_string()))?;
    }
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|error| bad(&config.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| bad(&config.client_ca, error.to_string()))?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Server(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs(&config.cert)?, key)
        .map_err(|error| bad(&config.cert, error.to_string()))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(server)))
}

/// The client of an established connection.
pub(super) fn client(connection: &rustls::ServerConnection) -> Client {
    let Some(cert) = connection.peer_certificates().and_then(|chain| chain.first()) else {
        return Client::Unknown;
    };
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(cert) else { return Client::Unknown };
    let subject = cert.subject();
    let user = subject.iter_common_name().find_map(|it| it.as_str().ok()).unwrap_or_default();
    let mut groups = subject.iter_organization().filter_map(|it| it.as_str().ok());
    let allowed =
        ALLOWED_USERS.contains(&user) || groups.any(|group| ALLOWED_GROUPS.contains(&group));
    Client::Named { user: user.to_owned(), allowed }
}

//! TLS: the serving certificate, and the client certificate that may come with a connection.
//!
//! Owns: rustls' configuration and the verdict on a client certificate. Must not know: requests. A
//! newcomer's trap: the handshake takes any client certificate whose key the client holds; whether
//! our authority signed it is judged beside it, because a foreign one must be answered `401` by
//! HTTP and not with a broken connection.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::clock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::X509Certificate;

use crate::pki::{KeyCert, Pki};
use crate::user::User;

/// Which certificate a user showed.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Why the certificates cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {0}")]
pub struct TlsError(String);

/// Who a connection's client is, by certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerIdentity {
    /// It showed none.
    None,
    /// One of ours, good until then (seconds since the epoch).
    Verified {
        /// Whose.
        user: User,
        /// The end of its validity.
        not_after: i64,
    },
    /// One that is not ours, or no longer, or not for clients.
    Refused,
}

/// The server's side of TLS.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ServerTls {
    pub(crate) fn new(pki: &Pki) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = client_verifier(pki.ca_pem(), &provider)?;
        let (chain, key) = parse(pki.serving())?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_client_cert_verifier(Arc::new(AskOnly(verifier.clone())))
            .with_single_cert(chain, key)
            .map_err(failed)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), verifier })
    }

    /// The verdict on what the client showed in its handshake.
    pub(crate) fn identify(&self, shown: Option<&[CertificateDer<'_>]>) -> PeerIdentity {
        let Some((leaf, intermediates)) = shown.and_then(<[_]>::split_first) else {
            return PeerIdentity::None;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_millis(clock::wall_ms()));
        if let Err(error) = self.verifier.verify_client_cert(leaf, intermediates, now) {
            tracing::debug!(%error, "client certificate refused");
            return PeerIdentity::Refused;
        }
        match x509_parser::parse_x509_certificate(leaf) {
            Ok((_, cert)) => identity_of(&cert, leaf),
            Err(_) => PeerIdentity::Refused,
        }
    }
}

/// What a client of the API server or of a node agent needs: trust in our authority, and a
/// certificate of its own.
pub(crate) fn client_config(
    ca_pem: &str,
    own: Option<&KeyCert>,
) -> Result<rustls::ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots(ca_pem)?);
    match own {
        Some(own) => {
            let (chain, key) = parse(own)?;
            builder.with_client_auth_cert(chain, key).map_err(failed)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// The common name is the user, each organization a group.
fn identity_of(cert: &X509Certificate<'_>, der: &[u8]) -> PeerIdentity {
    let texts =
        |attributes: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
            attributes.map(|a| a.as_str().map(str::to_owned)).collect::<Result<Vec<_>, _>>()
        };
    let subject = cert.subject();
    let (Ok(names), Ok(groups)) =
        (texts(&mut subject.iter_common_name()), texts(&mut subject.iter_organization()))
    else {
        return PeerIdentity::Refused;
    };
    // The last common name counts, as in Go's `pkix.Name`.
    let Some(name) = names.into_iter().next_back().filter(|name| !name.is_empty()) else {
        return PeerIdentity::Refused;
    };
    let print = Sha256::digest(der).iter().fold(String::from("X509SHA256="), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    });
    let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![print])]);
    let user = User { name, groups, extra, ..User::default() };
    PeerIdentity::Verified { user, not_after: cert.validity().not_after.timestamp() }
}

fn client_verifier(
    ca_pem: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots(ca_pem)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().map_err(failed)
}

fn roots(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(cert.map_err(failed)?).map_err(failed)?;
    }
    Ok(roots)
}

fn parse(
    pair: &KeyCert,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = CertificateDer::pem_slice_iter(pair.cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(failed)?;
    Ok((chain, key))
}

fn failed(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

/// Asks for a client certificate and checks that the client holds its key, no more.
#[derive(Debug)]
struct AskOnly(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AskOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // The real verdict is `ServerTls::identify`; see the top of this file.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::PkiOptions;

    fn certs(pem: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
    }

    #[test]
    fn our_own_client_certificates_name_a_user_and_others_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let ours = Pki::ensure(&dir.path().join("a"), &PkiOptions::default()).unwrap();
        let foreign = Pki::ensure(&dir.path().join("b"), &PkiOptions::default()).unwrap();
        let tls = ServerTls::new(&ours).unwrap();

        let admin = ours.client("kubernetes-admin", Some("system:masters")).unwrap();
        let PeerIdentity::Verified { user, .. } = tls.identify(Some(&certs(&admin.cert_pem)))
        else {
            panic!("our admin was refused")
        };
        assert_eq!(
            (user.name.as_str(), user.groups),
            ("kubernetes-admin", vec!["system:masters".into()])
        );

        // Same names, same form, another authority's key.
        let fake = foreign.client("kubernetes-admin", Some("system:masters")).unwrap();
        assert_eq!(tls.identify(Some(&certs(&fake.cert_pem))), PeerIdentity::Refused);
        // Ours, but for serving.
        let serving = certs(&ours.serving().cert_pem);
        assert_eq!(tls.identify(Some(&serving)), PeerIdentity::Refused);
        assert_eq!(tls.identify(None), PeerIdentity::None);
    }
}

//! Whom a certificate is checked against.
//!
//! Owns: what etcd checks beyond the chain: revocation lists, allowed names. Must not know: files
//! that change (`reload.rs`). A newcomer's trap: the allowed names also hold for the servers that
//! this member connects to, as with etcd.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::load::{self, serial};
use super::{TlsError, settings};
use crate::config::TlsFiles;

/// What a certificate must and must not be, besides well signed.
#[derive(Debug)]
struct Rules {
    allowed_cns: Vec<String>,
    allowed_hosts: Vec<ServerName<'static>>,
    revoked: BTreeSet<Vec<u8>>,
}

impl Rules {
    fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        let mut allowed_hosts = Vec::new();
        for host in &files.allowed_hostnames {
            let name = ServerName::try_from(host.clone()).map_err(|_| {
                settings("allowed hostname", &format!("\"{host}\" is no host name"))
            })?;
            allowed_hosts.push(name);
        }
        let revoked = match &files.crl_file {
            Some(path) => load::revoked(path)?,
            None => BTreeSet::new(),
        };
        Ok(Self { allowed_cns: files.allowed_cns.clone(), allowed_hosts, revoked })
    }

    fn check(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !self.revoked.is_empty() {
            for certificate in std::iter::once(leaf).chain(others) {
                let (_, parsed) = X509Certificate::from_der(certificate)
                    .map_err(|_| Error::from(CertificateError::BadEncoding))?;
                if self.revoked.contains(&serial(parsed.raw_serial())) {
                    return Err(CertificateError::Revoked.into());
                }
            }
        }
        if !self.allowed_cns.is_empty() {
            let name = common_name(leaf).unwrap_or_default();
            if !self.allowed_cns.contains(&name) {
                return Err(not_allowed());
            }
        }
        if !self.allowed_hosts.is_empty() {
            let parsed = ParsedCertificate::try_from(leaf)?;
            let is_for = |host| rustls::client::verify_server_name(&parsed, host).is_ok();
            if !self.allowed_hosts.iter().any(is_for) {
                return Err(not_allowed());
            }
        }
        Ok(())
    }
}

fn not_allowed() -> Error {
    // etcd: "client certificate authentication failed".
    CertificateError::ApplicationVerificationFailure.into()
}

/// The last common name of a certificate, which is the one that Go takes.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().last()?;
    name.as_str().ok().map(str::to_owned)
}

/// Who verifies clients' certificates; `None` if clients need none.
// Differs from etcd: clients that must have a certificate need an authority that is named; the
// system's are not taken.
pub(super) fn clients(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(path) = &files.trusted_ca_file else {
        if files.client_cert_auth {
            let why = "client certificates need a trusted CA file";
            return Err(settings("client certificate authentication", &why));
        }
        return Ok(None);
    };
    let inner = WebPkiClientVerifier::builder_with_provider(load::roots(path)?, provider.clone())
        .build()
        .map_err(|error| settings("trusted CA", &error))?;
    Ok(Some(Arc::new(CheckedClients { inner, rules: Rules::new(files)? })))
}

#[derive(Debug)]
struct CheckedClients {
    inner: Arc<dyn ClientCertVerifier>,
    rules: Rules,
}

impl ClientCertVerifier for CheckedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, others, now)?;
        self.rules.check(leaf, others)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Who verifies the certificates of servers that this member connects to.
pub(super) fn servers(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let trust = match &files.trusted_ca_file {
        _ if files.auto => Trust::Anybody,
        None => Trust::Nobody,
        Some(path) => {
            let roots = load::roots(path)?;
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| settings("trusted CA", &error))?;
            Trust::Roots(verifier)
        }
    };
    Ok(Arc::new(CheckedServers { trust, rules: Rules::new(files)?, provider: provider.clone() }))
}

#[derive(Debug)]
enum Trust {
    Roots(Arc<WebPkiServerVerifier>),
    /// Certificates that were made by the servers themselves: encryption, but no proof of who is
    /// there, as with etcd's `--peer-auto-tls`.
    Anybody,
    /// Without an authority, no server can be verified.
    Nobody,
}

#[derive(Debug)]
struct CheckedServers {
    trust: Trust,
    rules: Rules,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for CheckedServers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anybody => return Ok(ServerCertVerified::assertion()),
            Trust::Nobody => return Err(CertificateError::UnknownIssuer.into()),
            Trust::Roots(roots) => roots.verify_server_cert(leaf, others, name, ocsp, now)?,
        };
        self.rules.check(leaf, others)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

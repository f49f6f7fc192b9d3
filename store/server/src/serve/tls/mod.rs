//! TLS of the listeners and of connections to other members.
//!
//! Owns: certificates, whom they are checked against, and noticing that their files changed. Must
//! not know: requests. A newcomer's trap: the files are looked at before each handshake, so that a
//! new certificate, authority or revocation list counts for the next connection without a restart;
//! a broken new file leaves the old one in use.

mod address;
#[allow(dead_code, reason = "for the connections between members")]
mod connect;
mod generate;
mod handshake;
mod load;
mod reload;
#[allow(dead_code, reason = "for the connections between members")]
mod verify;

pub(crate) use connect::ClientTls;
pub(crate) use handshake::{Handshakes, accept};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use crate::config::{TlsFiles, TlsLimits, TlsVersion, suites};
use load::LoadError;
use reload::Reloading;

/// Why TLS cannot be used; the text names the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{what}: {why}")]
    Settings { what: &'static str, why: String },
}

/// Whom a client's certificate names. In the extensions of each request of a connection on which the
/// client showed one that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    /// The certificate's common name; not empty.
    pub(crate) common_name: Arc<str>,
}

/// Whose listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Those for clients.
    Client,
    /// Those for other members.
    Peer,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

/// TLS of one kind of listener.
#[derive(Debug)]
pub(crate) struct ServerTls {
    side: Side,
    config: Reloading<ServerConfig>,
    checks_address: bool,
}

impl ServerTls {
    /// Reads the files; `dir` is where certificates are kept that were made here, and `hosts` whom
    /// they are for.
    pub(crate) fn new(
        side: Side,
        files: &TlsFiles,
        limits: &TlsLimits,
        dir: &Path,
        hosts: &[String],
    ) -> Result<Self, TlsError> {
        let files = with_made(side, files, limits, dir, hosts)?;
        let checks_address = side == Side::Peer && !files.skip_client_san_verification;
        let limits = limits.clone();
        let paths = paths(&files);
        let build = move || server_config(&files, &limits);
        let config = Reloading::new(side.name(), paths, build)?;
        Ok(Self { side, config, checks_address })
    }

    /// The same, but a client's certificate must be for the address it comes from, as etcd has it on
    /// the listeners for monitoring.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.current()
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// Whether a client with this certificate may come from there.
    pub(crate) async fn check_address(
        &self,
        certificate: &[u8],
        remote: SocketAddr,
    ) -> Result<(), String> {
        if self.checks_address { address::check(certificate, remote.ip()).await } else { Ok(()) }
    }
}

/// Replaces a certificate that is to be made by one that was.
fn with_made(
    side: Side,
    files: &TlsFiles,
    limits: &TlsLimits,
    dir: &Path,
    hosts: &[String],
) -> Result<TlsFiles, TlsError> {
    let mut files = files.clone();
    if files.auto && files.cert_file.is_none() {
        let folder = dir.join("fixtures").join(side.name());
        let (cert, key) = generate::certificate(&folder, hosts, limits.self_signed_years)?;
        (files.cert_file, files.key_file) = (Some(cert), Some(key));
    } else {
        files.auto = false;
    }
    Ok(files)
}

/// The files that count, for noticing changes.
fn paths(files: &TlsFiles) -> Vec<PathBuf> {
    let all = [
        &files.cert_file,
        &files.key_file,
        &files.client_cert_file,
        &files.client_key_file,
        &files.trusted_ca_file,
        &files.crl_file,
    ];
    all.into_iter().flatten().cloned().collect()
}

fn server_config(files: &TlsFiles, limits: &TlsLimits) -> Result<ServerConfig, TlsError> {
    let provider = provider(limits);
    let verifier = verify::clients(files, &provider)?;
    let asks = verifier.is_some();
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(limits))
        .map_err(|error| settings("TLS versions", &error))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = load::pair(files.cert_file.as_deref(), files.key_file.as_deref())?;
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| mismatch(files, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if asks {
        // A session that is taken up again would not be checked against the revocation list.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn settings(what: &'static str, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::Settings { what, why: why.to_string() }
}

fn mismatch(files: &TlsFiles, error: &rustls::Error) -> TlsError {
    let path = files.cert_file.clone().unwrap_or_default();
    LoadError::Unusable { path, why: error.to_string() }.into()
}

/// ring, with the suites that the settings leave.
fn provider(limits: &TlsLimits) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if !limits.cipher_suites.is_empty() {
        let names: Vec<&str> = limits.cipher_suites.iter().map(|name| suites::full(name)).collect();
        provider.cipher_suites.retain(|suite| match suite {
            SupportedCipherSuite::Tls13(_) => true,
            SupportedCipherSuite::Tls12(_) => names.contains(&go_name(*suite).as_str()),
        });
    }
    Arc::new(provider)
}

/// Go says `TLS_ECDHE_…` as rustls does.
fn go_name(suite: SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite())
}

fn versions(limits: &TlsLimits) -> Vec<&'static SupportedProtocolVersion> {
    let max = limits.max_version.unwrap_or(TlsVersion::V13);
    [(TlsVersion::V12, &rustls::version::TLS12), (TlsVersion::V13, &rustls::version::TLS13)]
        .into_iter()
        .filter(|(version, _)| limits.min_version <= *version && *version <= max)
        .map(|(_, version)| version)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usable_suite_has_gos_name() {
        for name in suites::USABLE {
            let limits =
                TlsLimits { cipher_suites: vec![(*name).to_owned()], ..TlsLimits::default() };
            let of_tls12: Vec<String> = provider(&limits)
                .cipher_suites
                .iter()
                .filter(|suite| matches!(suite, SupportedCipherSuite::Tls12(_)))
                .map(|suite| go_name(*suite))
                .collect();
            assert_eq!(of_tls12, [*name]);
        }
    }
}

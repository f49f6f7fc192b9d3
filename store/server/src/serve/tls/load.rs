//! Certificates, keys and revocation lists from files.
//!
//! Owns: reading them, within bounds. Must not know: what they are used for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::limits::TLS_FILE_BYTES_MAX;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("open {}: {why}", path.display())]
    Open { path: PathBuf, why: String },
    #[error("{}: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
}

fn unusable(path: &Path, why: impl ToString) -> LoadError {
    LoadError::Unusable { path: path.to_owned(), why: why.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let open = |error: std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".into(),
            std::io::ErrorKind::PermissionDenied => "permission denied".into(),
            _ => error.to_string(),
        };
        LoadError::Open { path: path.to_owned(), why }
    };
    if std::fs::metadata(path).map_err(open)?.len() > TLS_FILE_BYTES_MAX {
        return Err(unusable(path, format!("larger than {TLS_FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(open)
}

/// A certificate chain and its key.
pub(super) fn pair(
    cert: Option<&Path>,
    key: Option<&Path>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), LoadError> {
    let (cert, key) = (cert.unwrap_or(Path::new("")), key.unwrap_or(Path::new("")));
    let chain = certificates(cert)?;
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| unusable(key, format!("no private key: {error}")))?;
    Ok((chain, secret))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let bytes = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error))?;
    if chain.is_empty() {
        return Err(unusable(path, "failed to find any PEM data in certificate input"));
    }
    Ok(chain)
}

/// Those who sign.
pub(super) fn roots(path: &Path) -> Result<Arc<RootCertStore>, LoadError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, error))?;
    }
    Ok(Arc::new(roots))
}

/// The serial numbers of certificates that count no more. Like etcd, and unlike the standard, this
/// asks neither who issued the list nor whether it is current: the file is the operator's word.
pub(super) fn revoked(path: &Path) -> Result<BTreeSet<Vec<u8>>, LoadError> {
    let bytes = read(path)?;
    let mut lists: Vec<Vec<u8>> = CertificateRevocationListDer::pem_slice_iter(&bytes)
        .filter_map(Result::ok)
        .map(|list| list.as_ref().to_vec())
        .collect();
    if lists.is_empty() {
        lists.push(bytes);
    }
    let mut serials = BTreeSet::new();
    for list in lists {
        let (_, list) = CertificateRevocationList::from_der(&list)
            .map_err(|error| unusable(path, format!("no revocation list: {error}")))?;
        serials.extend(list.iter_revoked_certificates().map(|entry| serial(entry.raw_serial())));
    }
    Ok(serials)
}

/// A serial number without the zeros in front of it.
pub(super) fn serial(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
}

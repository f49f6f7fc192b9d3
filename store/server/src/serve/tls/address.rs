//! Whether a client may come from where it comes from.
//!
//! Owns: etcd's rule for members: a certificate that names addresses or hosts is for them alone.
//! Must not know: TLS. A newcomer's trap: the address is the connection's, so a proxy's if there is
//! one; `--peer-skip-client-san-verification` turns the rule off.

use std::net::IpAddr;
use std::time::Duration;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long a name may take to be resolved.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Names in one certificate that are resolved; whoever signs more of them has other troubles.
const NAMES_MAX: usize = 32;

/// Checks the addresses and names in a certificate against where the client comes from.
// Differs from etcd: names are resolved to addresses, never addresses to names, so a wildcard says
// nothing here.
pub(super) async fn check(certificate: &[u8], remote: IpAddr) -> Result<(), String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Err("the certificate cannot be read".into());
    };
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    for name in alternatives.iter().flat_map(|found| &found.value.general_names) {
        match name {
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            _ => {}
        }
    }
    let remote = remote.to_canonical();
    if (addresses.is_empty() && names.is_empty()) || addresses.contains(&remote) {
        return Ok(());
    }
    if names.is_empty() {
        return Err(format!("x509: certificate is valid for {addresses:?}, not {remote}"));
    }
    for name in names.iter().filter(|name| !name.starts_with("*.")).take(NAMES_MAX) {
        let lookup = tokio::net::lookup_host((name.as_str(), 0));
        if let Ok(Ok(mut found)) = tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await
            && found.any(|found| found.ip().to_canonical() == remote)
        {
            return Ok(());
        }
    }
    Err(format!("tls: \"{remote}\" does not match any of DNSNames {names:?}"))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| IpAddr::from(sixteen).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn checked(names: &[&str], remote: &str) -> Result<(), String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        check(certificate.der(), remote.parse().unwrap()).await
    }

    #[tokio::test]
    async fn a_certificate_with_names_is_for_them_alone() {
        assert_eq!(checked(&[], "10.0.0.1").await, Ok(()));
        assert_eq!(checked(&["10.0.0.1"], "10.0.0.1").await, Ok(()));
        assert_eq!(checked(&["10.0.0.1"], "::ffff:10.0.0.1").await, Ok(()));
        assert!(checked(&["10.0.0.2"], "10.0.0.1").await.is_err());
        assert_eq!(checked(&["10.0.0.2", "localhost"], "127.0.0.1").await, Ok(()));
        assert!(checked(&["localhost"], "10.0.0.1").await.is_err());
        assert!(checked(&["*.localhost"], "127.0.0.1").await.is_err());
    }
}

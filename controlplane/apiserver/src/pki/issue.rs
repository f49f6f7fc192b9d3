//! The certificate authority and what it issues.
//!
//! Owns: the contents of certificates and when they are made anew. Must not know: the wire. A
//! newcomer's trap: validity starts an hour in the past, because the clocks of nodes differ.

use std::path::Path;

use kijabi_base::{clock, rng};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use x509_parser::prelude::{ASN1Time, GeneralName, X509Certificate};

use super::{PkiError, files};

const SECONDS_A_DAY: i64 = 86_400;
const CA_DAYS: i64 = 3_650;
const LEAF_DAYS: i64 = 365;
/// A certificate with less life than this is made anew at the next start.
const RENEW_BEFORE_DAYS: i64 = 30;
const BACKDATED_SECONDS: i64 = 3_600;

/// A certificate with its key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyCert {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for KeyCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyCert(secret)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Client,
    Server,
}

/// What a certificate must say.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) common_name: String,
    pub(super) organization: Option<String>,
    /// DNS names and addresses.
    pub(super) names: Vec<String>,
    pub(super) usage: Usage,
}

/// The certificate authority.
pub(super) struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the authority's two files, or makes them if there are none.
    pub(super) fn ensure(dir: &Path, stem: &str, name: &str) -> Result<Self, PkiError> {
        let (cert, key) = (dir.join(format!("{stem}.crt")), dir.join(format!("{stem}.key")));
        match (files::read(&cert)?, files::read(&key)?) {
            (Some(cert_pem), Some(key_pem)) => {
                let key_pair = KeyPair::from_pem(&key_pem)
                    .map_err(|e| PkiError::Content { path: key, why: e.to_string() })?;
                let issuer = Issuer::from_ca_cert_pem(&cert_pem, key_pair)
                    .map_err(|e| PkiError::Content { path: cert, why: e.to_string() })?;
                Ok(Self { cert_pem, issuer })
            }
            // Only the key: a first start was interrupted before anything was signed.
            (None, _) => Self::create(&cert, &key, name),
            (Some(_), None) => Err(PkiError::Content {
                path: key,
                why: "the key of the certificate authority is missing".into(),
            }),
        }
    }

    fn create(cert: &Path, key: &Path, name: &str) -> Result<Self, PkiError> {
        let key_pair = new_key(name)?;
        let mut params = params(name, None, CA_DAYS, name)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let made = params.self_signed(&key_pair).map_err(|e| refused(name, e))?;
        files::write_private(key, key_pair.serialize_pem().as_bytes())?;
        files::write_private(cert, made.pem().as_bytes())?;
        Ok(Self { cert_pem: made.pem(), issuer: Issuer::new(params, key_pair) })
    }

    pub(super) fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Reads a certificate and its key, or issues them if they are missing, old or say otherwise.
    pub(super) fn ensure_pair(
        &self,
        dir: &Path,
        stem: &str,
        wanted: &Wanted,
    ) -> Result<KeyCert, PkiError> {
        let (cert, key) = (dir.join(format!("{stem}.crt")), dir.join(format!("{stem}.key")));
        if let (Some(cert_pem), Some(key_pem)) = (files::read(&cert)?, files::read(&key)?)
            && self.is_current(&cert_pem, &key_pem, wanted)
        {
            return Ok(KeyCert { cert_pem, key_pem });
        }
        let made = self.issue(wanted)?;
        files::write_private(&key, made.key_pem.as_bytes())?;
        files::write_private(&cert, made.cert_pem.as_bytes())?;
        Ok(made)
    }

    fn issue(&self, wanted: &Wanted) -> Result<KeyCert, PkiError> {
        let who = &wanted.common_name;
        let key_pair = new_key(who)?;
        let mut params = params(who, wanted.organization.as_deref(), LEAF_DAYS, who)?;
        params.subject_alt_names = CertificateParams::new(wanted.names.clone())
            .map_err(|e| refused(who, e))?
            .subject_alt_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match wanted.usage {
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let made = params.signed_by(&key_pair, &self.issuer).map_err(|e| refused(who, e))?;
        Ok(KeyCert { cert_pem: made.pem(), key_pem: key_pair.serialize_pem() })
    }

    /// Whether the pair belongs together, is ours, has life left and says what it must.
    fn is_current(&self, cert_pem: &str, key_pem: &str, wanted: &Wanted) -> bool {
        let (Some(der), Some(ca_der)) = (der_of(cert_pem), der_of(&self.cert_pem)) else {
            return false;
        };
        let (Ok((_, cert)), Ok((_, ca)), Ok(key)) = (
            x509_parser::parse_x509_certificate(&der),
            x509_parser::parse_x509_certificate(&ca_der),
            KeyPair::from_pem(key_pem),
        ) else {
            return false;
        };
        let left = cert.validity().not_after.timestamp() - now_seconds();
        left > RENEW_BEFORE_DAYS * SECONDS_A_DAY
            && cert.issuer() == ca.subject()
            && authority_key(&cert) == subject_key(&ca)
            && cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && says(&cert, wanted)
    }
}

fn says(cert: &X509Certificate<'_>, wanted: &Wanted) -> bool {
    let common_name = cert.subject().iter_common_name().next().and_then(|v| v.as_str().ok());
    let organization = cert.subject().iter_organization().next().and_then(|v| v.as_str().ok());
    let mut names: Vec<String> = match cert.subject_alternative_name() {
        Ok(Some(san)) => san.value.general_names.iter().filter_map(shown_name).collect(),
        _ => Vec::new(),
    };
    let mut wanted_names = wanted.names.clone();
    names.sort_unstable();
    wanted_names.sort_unstable();
    common_name == Some(&wanted.common_name)
        && organization == wanted.organization.as_deref()
        && names == wanted_names
}

fn shown_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four: Result<[u8; 4], _> = (*bytes).try_into();
            let sixteen: Result<[u8; 16], _> = (*bytes).try_into();
            four.map(std::net::IpAddr::from)
                .or_else(|_| sixteen.map(std::net::IpAddr::from))
                .ok()
                .map(|address| address.to_string())
        }
        _ => None,
    }
}

fn authority_key<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    use x509_parser::extensions::ParsedExtension;
    cert.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}

fn subject_key<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    use x509_parser::extensions::ParsedExtension;
    cert.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn params(
    name: &str,
    organization: Option<&str>,
    days: i64,
    who: &str,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let now = now_seconds();
    let at = |seconds| {
        ASN1Time::from_timestamp(seconds)
            .map(|time| time.to_datetime())
            .map_err(|e| PkiError::Issue { name: who.into(), why: e.to_string() })
    };
    params.not_before = at(now - BACKDATED_SECONDS)?;
    params.not_after = at(now + days * SECONDS_A_DAY)?;
    let mut serial = [0_u8; 16];
    rng::fill(&mut serial);
    // A serial number is a positive integer.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

pub(super) fn new_key(who: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|e| refused(who, e))
}

fn refused(who: &str, error: rcgen::Error) -> PkiError {
    PkiError::Issue { name: who.to_owned(), why: error.to_string() }
}

fn der_of(pem: &str) -> Option<Vec<u8>> {
    x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).next()?.ok().map(|pem| pem.contents)
}

fn now_seconds() -> i64 {
    (clock::wall_ms() / 1_000) as i64
}

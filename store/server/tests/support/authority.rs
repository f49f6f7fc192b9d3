//! A certificate authority for tests.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

/// An authority whose files lie in a folder.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key in files.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What is odd about a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    Nothing,
    Expired,
    NotYet,
    /// Only for servers.
    ForServers,
    /// Only for signing code.
    ForCode,
}

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::create_dir_all(folder).unwrap();
        replace(&folder.join(format!("{name}.crt")), &cert.pem());
        Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    /// Issues a certificate for a name, addresses and hosts.
    pub(crate) fn issue(&self, name: &str, serial: u64, hosts: &[&str], odd: Odd) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = named(name);
        params.serial_number = Some(SerialNumber::from(serial));
        use ExtendedKeyUsagePurpose as Usage;
        params.extended_key_usages = match odd {
            Odd::ForServers => vec![Usage::ServerAuth],
            Odd::ForCode => vec![Usage::CodeSigning],
            _ => vec![Usage::ServerAuth, Usage::ClientAuth],
        };
        (params.not_before, params.not_after) = match odd {
            Odd::Expired => (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1)),
            Odd::NotYet => (date_time_ymd(2901, 1, 1), date_time_ymd(2902, 1, 1)),
            _ => (date_time_ymd(2001, 1, 1), date_time_ymd(2901, 1, 1)),
        };
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            cert: self.folder.join(format!("{name}-{serial}.crt")),
            key: self.folder.join(format!("{name}-{serial}.key")),
        };
        replace(&pair.cert, &cert.pem());
        replace(&pair.key, &key.serialize_pem());
        pair
    }

    /// Writes a revocation list.
    pub(crate) fn revoke(&self, path: &Path, serials: &[u64], as_pem: bool) {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2021, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap();
        let bytes = if as_pem { list.pem().unwrap().into_bytes() } else { list.der().to_vec() };
        let new = path.with_extension("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, path).unwrap();
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Writes a file as tools do: whole, in one step.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

//! Certificates that are made here (`--auto-tls`, `--peer-auto-tls`).
//!
//! Owns: making one and keeping it in the data folder, as etcd does. A newcomer's trap: one that is
//! there is used as long as it is there, even if it counts no more.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kijabi_base::{clock, rng};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SerialNumber,
};

use super::load::LoadError;
use super::{TlsError, settings};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// The certificate and the key in the folder, made if they are not there.
pub(super) fn certificate(
    folder: &Path,
    hosts: &[String],
    years: u32,
) -> Result<(PathBuf, PathBuf), TlsError> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| failed(folder, &error))?;
    let secret = KeyPair::generate().map_err(|error| settings("key", &error))?;
    let params = params(hosts, years)?;
    let certificate =
        params.self_signed(&secret).map_err(|error| settings("certificate", &error))?;
    write(&key, &secret.serialize_pem())?;
    write(&cert, &certificate.pem())?;
    tracing::warn!(path = %cert.display(), "automatically generate certificates");
    Ok((cert, key))
}

fn params(hosts: &[String], years: u32) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(hosts.to_vec())
        .map_err(|error| settings("self-signed certificate", &error))?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "etcd");
    params.distinguished_name = name;
    let mut serial = [0; 16];
    rng::fill(&mut serial);
    // Positive.
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = clock::wall_ms() as i64;
    let (year, month, day) = date(now.saturating_sub(DAY_MS))?;
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) =
        date(now.saturating_add(i64::from(years).saturating_mul(365 * DAY_MS)))?;
    params.not_after = rcgen::date_time_ymd(year, month, day);
    Ok(params)
}

/// The day of a point in time.
fn date(wall_ms: i64) -> Result<(i32, u8, u8), TlsError> {
    let at = jiff::Timestamp::from_millisecond(wall_ms)
        .map_err(|error| settings("validity of a self-signed certificate", &error))?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    Ok((at.year().into(), at.month().unsigned_abs(), at.day().unsigned_abs()))
}

fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> TlsError {
    LoadError::Unusable { path: path.to_owned(), why: error.to_string() }.into()
}

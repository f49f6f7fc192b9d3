//! Groups of settings.
//!
//! Owns: their types and defaults. Must not know: flags. A newcomer's trap: the files named here
//! are read when a listener starts and again when they change, not when the flags are parsed.

use std::path::PathBuf;
use std::time::Duration;

/// When old revisions are compacted without being asked (`--auto-compaction-*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Never.
    #[default]
    Off,
    /// What is older than this goes.
    Periodic(Duration),
    /// So many revisions stay.
    Revision(i64),
}

/// How idle client connections are kept and watched (`--grpc-keepalive-*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// A client that pings more often than this is sent away.
    pub min_time: Duration,
    /// Time of silence after which the server pings; zero = never.
    pub interval: Duration,
    /// Time for the answer; zero = never ping.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            min_time: Duration::from_secs(5),
            interval: Duration::from_secs(2 * 3600),
            timeout: Duration::from_secs(20),
        }
    }
}

/// How listening sockets are bound (`--socket-reuse-*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Several processes may listen on the same port.
    pub reuse_port: bool,
    /// A port whose last connections are still closing may be taken.
    pub reuse_address: bool,
}

/// Certificates of one kind of listener, and whom it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// The certificate shown to other servers, if not the server's.
    pub client_cert_file: Option<PathBuf>,
    /// Its private key.
    pub client_key_file: Option<PathBuf>,
    /// Those who sign clients' certificates; with them a client must have one.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whether a client must have a certificate.
    pub client_cert_auth: bool,
    /// Certificates that count no more.
    pub crl_file: Option<PathBuf>,
    /// Common names, one of which a client's certificate must have.
    pub allowed_cns: Vec<String>,
    /// Hosts, for one of which a client's certificate must be.
    pub allowed_hostnames: Vec<String>,
    /// Make a certificate if none is named.
    pub auto: bool,
    /// Whether a client's certificate need not be for the address it comes from.
    pub skip_client_san_verification: bool,
}

impl TlsFiles {
    /// Whether no certificate is named and none is to be made.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none() && !self.auto
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// What both kinds of listener may negotiate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsLimits {
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The newest version, if not the newest there is.
    pub max_version: Option<TlsVersion>,
    /// Cipher suites by Go's names; none = all that are thought safe.
    pub cipher_suites: Vec<String>,
    /// How many years a certificate that was made here counts.
    pub self_signed_years: u32,
}

impl Default for TlsLimits {
    fn default() -> Self {
        Self {
            min_version: TlsVersion::V12,
            max_version: None,
            cipher_suites: Vec::new(),
            self_signed_years: 1,
        }
    }
}

/// Where log lines go and how they look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The least severe log lines to write: `debug`, `info`, `warn`, `error`, `panic`, `fatal`.
    pub level: String,
    /// `json` (zap's form) or `console`.
    pub format: String,
    /// `default`, `stderr`, `stdout`, `systemd/journal` or paths of files.
    pub outputs: Vec<String>,
    /// How the one file among the outputs is rotated, if it is.
    pub rotation: Option<Rotation>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: "json".into(),
            outputs: vec!["default".into()],
            rotation: None,
        }
    }
}

/// How a log file is rotated (`--log-rotation-config-json`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Rotation {
    /// Megabytes after which a new file begins.
    #[serde(rename = "maxsize")]
    pub max_megabytes: u64,
    /// Days after which an old file goes; 0 = never.
    #[serde(rename = "maxage")]
    pub max_days: u64,
    /// Old files kept; 0 = all.
    #[serde(rename = "maxbackups")]
    pub max_backups: usize,
    /// Whether the names of old files have local time.
    #[serde(rename = "localtime")]
    pub local_time: bool,
    /// Whether old files are compressed.
    pub compress: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { max_megabytes: 100, max_days: 0, max_backups: 0, local_time: false, compress: false }
    }
}

/// Something to log once logging runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether somebody should do something about it.
    pub is_warning: bool,
    /// The line.
    pub message: String,
    /// Names and values beside it.
    pub fields: Vec<(&'static str, String)>,
}

impl Notice {
    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self { is_warning: true, message: message.into(), fields: Vec::new() }
    }

    pub(super) fn info(message: impl Into<String>) -> Self {
        Self { is_warning: false, message: message.into(), fields: Vec::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

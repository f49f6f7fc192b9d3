//! Backups over the network: from any member that speaks etcd's protocol.
//!
//! Owns: the connection, and that a file only gets its name once it is whole. Must not know:
//! command lines. A newcomer's trap: the last blob of the stream is the hash of all others; a
//! stream that merely ends is not a snapshot.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::auth_client::AuthClient;
use kijabi_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Status};

use super::snapshot_file::{HASH_BYTES, hash_of, hex};
use super::{BackupError, FileStatus, HashCheck, SnapshotFile};

/// A member to ask, and as whom.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `http://host:port`, `https://host:port`, `host:port` or `unix:///path`.
    pub url: String,
    /// The CA of its certificate, as a PEM file.
    pub cacert: Option<PathBuf>,
    /// The client's certificate, as a PEM file.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// A user and a password.
    pub user: Option<(String, String)>,
    /// How long the connection may take to be made.
    pub dial_timeout: Duration,
}

/// A snapshot that was saved.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Saved {
    /// What it holds.
    #[serde(flatten)]
    pub status: FileStatus,
    /// SHA-256 of the database, in hexadecimal digits.
    pub sha256: String,
}

/// The hash of a member's key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EndpointHash {
    /// The hash.
    pub hash: u32,
    /// The revision it is of; 0 from an etcd before 3.6, which does not tell.
    pub revision: i64,
    /// The compacted revision.
    pub compacted: i64,
}

/// Saves a snapshot of a member to the file `to`, which then appears whole or not at all.
pub async fn save(endpoint: &Endpoint, to: &Path) -> Result<Saved, BackupError> {
    let mut client = Client::connect(endpoint).await?;
    let part = part_of(to);
    let received = receive(&mut client, endpoint, &part).await;
    let received = match received {
        Ok((file, bytes)) => finish(file, bytes, &part, to),
        Err(error) => Err(error),
    };
    if received.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    received
}

/// The hash of a member's key space at a revision; 0 is the current one.
pub async fn hash_of_endpoint(
    endpoint: &Endpoint,
    revision: i64,
) -> Result<EndpointHash, BackupError> {
    let client = Client::connect(endpoint).await?;
    let request = client.request(pb::HashKvRequest { revision });
    let answer = client.maintenance().hash_kv(request).await.map_err(refused(endpoint))?;
    let answer = answer.into_inner();
    let (hash, compacted) = (answer.hash, answer.compact_revision);
    Ok(EndpointHash { hash, revision: answer.hash_revision, compacted })
}

/// Where a file is while it is not whole.
pub(super) fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Adds the hash, checks the whole and gives the file its name.
pub(super) fn finish(
    mut file: File,
    bytes: u64,
    part: &Path,
    to: &Path,
) -> Result<Saved, BackupError> {
    let failed = BackupError::io;
    let hash = hash_of(&mut file, bytes).map_err(failed(part))?;
    file.seek(SeekFrom::Start(bytes)).map_err(failed(part))?;
    file.write_all(&hash).map_err(failed(part))?;
    file.sync_all().map_err(failed(part))?;
    let status = SnapshotFile::open(part, HashCheck::Required).and_then(|file| file.status());
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            let _ = std::fs::remove_file(part);
            return Err(error);
        }
    };
    std::fs::rename(part, to).map_err(failed(to))?;
    if let Some(dir) = to.parent() {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))?;
    }
    Ok(Saved { status, sha256: hex(&hash) })
}

/// Receives the database without its hash, which is checked.
async fn receive(
    client: &mut Client,
    endpoint: &Endpoint,
    part: &Path,
) -> Result<(File, u64), BackupError> {
    let failed = BackupError::io;
    let request = client.request(pb::SnapshotRequest {});
    let stream = client.maintenance().snapshot(request).await.map_err(refused(endpoint))?;
    let mut stream = stream.into_inner();
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(true).open(part);
    let mut file = file.map_err(failed(part))?;
    let mut bytes = 0;
    while let Some(piece) = stream.message().await.map_err(refused(endpoint))? {
        file.write_all(&piece.blob).map_err(failed(part))?;
        bytes += piece.blob.len() as u64;
    }
    let cut = || BackupError::Endpoint {
        endpoint: endpoint.url.clone(),
        why: "the snapshot ended too early".into(),
    };
    let bytes = bytes.checked_sub(HASH_BYTES).filter(|bytes| bytes % 512 == 0).ok_or_else(cut)?;
    // Opening checks the hash that was sent.
    SnapshotFile::open(part, HashCheck::Required)?;
    Ok((file, bytes))
}

fn refused(endpoint: &Endpoint) -> impl Fn(Status) -> BackupError + '_ {
    move |status| BackupError::Endpoint {
        endpoint: endpoint.url.clone(),
        why: status.message().to_owned(),
    }
}

/// A connection.
struct Client {
    channel: Channel,
    token: Option<MetadataValue<tonic::metadata::Ascii>>,
}

// === impl Client ===

impl Client {
    async fn connect(endpoint: &Endpoint) -> Result<Self, BackupError> {
        let channel = endpoint.connect().await?;
        let mut client = Self { channel, token: None };
        if let Some((name, password)) = &endpoint.user {
            let request =
                pb::AuthenticateRequest { name: name.clone(), password: password.clone() };
            let mut auth = AuthClient::new(client.channel.clone());
            let answer = auth.authenticate(request).await.map_err(refused(endpoint))?;
            let token = answer.into_inner().token.parse().map_err(|_| BackupError::Endpoint {
                endpoint: endpoint.url.clone(),
                why: "the token it gave cannot be sent".into(),
            })?;
            client.token = Some(token);
        }
        Ok(client)
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

// === impl Endpoint ===

impl Endpoint {
    async fn connect(&self) -> Result<Channel, BackupError> {
        let failed = |why: String| BackupError::Endpoint { endpoint: self.url.clone(), why };
        let wants_tls = self.cacert.is_some() || self.cert.is_some();
        let url = match self.url.split_once("://") {
            Some(_) => self.url.clone(),
            None if self.url.starts_with("unix:") => self.url.clone(),
            None if wants_tls => format!("https://{}", self.url),
            None => format!("http://{}", self.url),
        };
        let is_https = url.starts_with("https:");
        let mut target = tonic::transport::Endpoint::from_shared(url)
            .map_err(|error| failed(error.to_string()))?
            .connect_timeout(self.dial_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if is_https {
            target = target.tls_config(self.tls()?).map_err(|error| failed(chain(&error)))?;
        }
        target.connect().await.map_err(|error| failed(chain(&error)))
    }

    fn tls(&self) -> Result<ClientTlsConfig, BackupError> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(BackupError::io(path));
        let Some(cacert) = &self.cacert else {
            let what = "an https endpoint needs --cacert".to_owned();
            return Err(BackupError::Settings(what));
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(cacert)?));
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
            }
            (None, None) => {}
            _ => {
                let what = "--cert and --key belong together".to_owned();
                return Err(BackupError::Settings(what));
            }
        }
        Ok(tls)
    }
}

/// So that a member that is gone is noticed while nothing comes.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

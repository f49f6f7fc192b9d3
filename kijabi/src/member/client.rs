//! The store's Cluster service, as a client.
//!
//! Owns: endpoints, TLS and the token. Must not know: what is asked for. A newcomer's trap: a
//! request goes to the next endpoint only if the one before was never reached; one whose answer was
//! lost may have been carried out.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::auth_client::AuthClient;
use kijabi_proto::etcdserverpb::cluster_client::ClusterClient;
use kijabi_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status};

use super::Access;

/// A connection to one member.
pub(crate) struct Client {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

// === impl Client ===

impl Client {
    /// Connects to the first endpoint that answers.
    pub(crate) async fn connect(access: &Access) -> anyhow::Result<Self> {
        let tls = Arc::new(tls(access)?);
        let mut failures = Vec::new();
        for endpoint in &access.endpoints {
            match channel(endpoint, Arc::clone(&tls), access.timeout()).await {
                Ok(channel) => {
                    let timeout = access.timeout();
                    let mut client = Self { channel, token: None, timeout };
                    client.log_in(access).await?;
                    return Ok(client);
                }
                Err(error) => failures.push(format!("{endpoint}: {error:#}")),
            }
        }
        bail!("no endpoint can be reached ({})", failures.join("; "))
    }

    async fn log_in(&mut self, access: &Access) -> anyhow::Result<()> {
        let Some(user) = &access.user else { return Ok(()) };
        let (name, password) = user.split_once(':').context("--user is not name:password")?;
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = self.request(pb::AuthenticateRequest { name, password });
        let mut auth = AuthClient::new(self.channel.clone());
        let token = done(auth.authenticate(request).await)?.token;
        self.token = Some(token.parse().context("the token is no header value")?);
        Ok(())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub(crate) async fn list(&self) -> anyhow::Result<Vec<pb::Member>> {
        let request = self.request(pb::MemberListRequest { linearizable: true });
        Ok(done(self.cluster().member_list(request).await)?.members)
    }

    pub(crate) async fn add(
        &self,
        peer_ur_ls: Vec<String>,
        is_learner: bool,
    ) -> anyhow::Result<pb::MemberAddResponse> {
        let request = self.request(pb::MemberAddRequest { peer_ur_ls, is_learner });
        done(self.cluster().member_add(request).await)
    }

    pub(crate) async fn remove(&self, id: u64) -> anyhow::Result<pb::MemberRemoveResponse> {
        let request = self.request(pb::MemberRemoveRequest { id });
        done(self.cluster().member_remove(request).await)
    }

    pub(crate) async fn promote(&self, id: u64) -> anyhow::Result<pb::MemberPromoteResponse> {
        done(self.try_promote(id).await)
    }

    /// Promotes, or says in etcd's own words why not.
    pub(crate) async fn try_promote(
        &self,
        id: u64,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let request = self.request(pb::MemberPromoteRequest { id });
        self.cluster().member_promote(request).await
    }

    pub(crate) async fn update(
        &self,
        id: u64,
        peer_ur_ls: Vec<String>,
    ) -> anyhow::Result<pb::MemberUpdateResponse> {
        let request = self.request(pb::MemberUpdateRequest { id, peer_ur_ls });
        done(self.cluster().member_update(request).await)
    }

    /// The id of the member that answers.
    pub(crate) async fn member_id(&self) -> anyhow::Result<u64> {
        let request = self.request(pb::StatusRequest {});
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        let status = done(maintenance.status(request).await)?;
        Ok(status.header.unwrap_or_default().member_id)
    }
}

fn done<T>(answer: Result<Response<T>, Status>) -> anyhow::Result<T> {
    match answer {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => bail!("{}", status.message()),
    }
}

fn tls(access: &Access) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = &access.cacert {
        for certificate in certificates(path)? {
            roots.add(certificate).with_context(|| path.display().to_string())?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match (&access.cert, &access.key) {
        (Some(certificate), Some(key)) => {
            let name = || key.display().to_string();
            let key = PrivateKeyDer::from_pem_file(key).with_context(name)?;
            config.with_client_auth_cert(certificates(certificate)?, key)?
        }
        _ => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.with_context(|| path.display().to_string())
}

async fn channel(
    url: &str,
    tls: Arc<rustls::ClientConfig>,
    timeout: Duration,
) -> anyhow::Result<Channel> {
    let url = url.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let (url, tls) = (url.clone(), Arc::clone(&tls));
        async move { dial(&url, tls).await.map(hyper_util::rt::TokioIo::new) }
    });
    // The address in it is never dialed: the connector knows where to go.
    let endpoint = Endpoint::from_static("http://store").connect_timeout(timeout);
    let connected = endpoint.connect_with_connector(connect).await;
    connected.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        anyhow::anyhow!("{cause}")
    })
}

async fn dial(url: &str, tls: Arc<rustls::ClientConfig>) -> io::Result<Pin<Box<dyn Stream>>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let (scheme, address) = url.split_once("://").unwrap_or(("http", url));
    match scheme {
        "unix" => Ok(Box::pin(UnixStream::connect(address).await?)),
        "http" => Ok(Box::pin(TcpStream::connect(address).await?)),
        "https" => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(|_| wrong("not a host name"))?;
            let stream = TcpStream::connect(address).await?;
            let secured = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;
            Ok(Box::pin(secured))
        }
        _ => Err(wrong("the scheme must be http, https or unix")),
    }
}

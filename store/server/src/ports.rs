//! The listeners of a member: which URLs, with which certificates, for whom.
//!
//! Owns: from settings to bound listeners, and from those to servers. Must not know: requests. A
//! newcomer's trap: certificates are read before anything is bound, so that a wrong file costs
//! nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use kijabi_base::tasks::{self, Shutdown};
use tokio::task::JoinHandle;

use crate::cluster::remote::MembershipPort;
use crate::config::{Config, TlsFiles};
use crate::crew::Spawner;
use crate::peer::PeerPort;
use crate::serve::{
    self, Bound, Clients, Endpoints, ListenError, Protocols, Role, ServerTls, Service, Side,
    TlsError,
};

/// Why a member cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The bound listeners.
pub(crate) struct Ports {
    clients: Vec<Bound>,
    http_clients: Vec<Bound>,
    monitoring: Vec<Bound>,
    members: Vec<Bound>,
}

impl Ports {
    /// Reads the certificates and binds everything.
    pub(crate) async fn bind(config: &Config) -> Result<Self, PortError> {
        let clients = config.listen_client_urls.iter().chain(&config.listen_client_http_urls);
        let clients: Vec<&String> = clients.chain(&config.listen_metrics_urls).collect();
        let client_tls = tls(config, Side::Client, &config.client_tls, &clients)?;
        let members: Vec<&String> = config.listen_peer_urls.iter().collect();
        let peer_tls = tls(config, Side::Peer, &config.peer_tls, &members)?;
        let (client_tls, peer_tls) = (client_tls.as_ref(), peer_tls.as_ref());
        Ok(Self {
            members: bind_all(config, &config.listen_peer_urls, peer_tls).await?,
            clients: bind_all(config, &config.listen_client_urls, client_tls).await?,
            http_clients: bind_all(config, &config.listen_client_http_urls, client_tls).await?,
            monitoring: bind_all(config, &config.listen_metrics_urls, client_tls).await?,
        })
    }

    /// Those that clients speak gRPC to.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &Bound> {
        self.clients.iter()
    }

    /// Those for monitoring alone.
    pub(crate) fn monitoring(&self) -> impl Iterator<Item = &Bound> {
        self.monitoring.iter()
    }

    /// Those for other members.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Bound> {
        self.members.iter()
    }

    /// Begins to accept other members.
    pub(crate) fn serve_members(
        &mut self,
        config: &Config,
        (peers, membership, crew): (PeerPort, MembershipPort, Spawner),
        endpoints: &Arc<Endpoints>,
        shutdown: &Shutdown,
    ) -> Vec<JoinHandle<()>> {
        let ports = std::mem::take(&mut self.members);
        let role = Role::Members(peers, membership, crew);
        let group = (ports, role, Protocols::Both, "serving peer traffic");
        serve_group(group, config, endpoints, shutdown)
    }

    /// Begins to accept monitoring.
    pub(crate) fn serve_monitoring(
        &mut self,
        config: &Config,
        endpoints: &Arc<Endpoints>,
        shutdown: &Shutdown,
    ) -> Vec<JoinHandle<()>> {
        let ports = std::mem::take(&mut self.monitoring);
        let group = (ports, Role::Monitoring, Protocols::Both, "serving metrics");
        serve_group(group, config, endpoints, shutdown)
    }

    /// Begins to accept clients.
    pub(crate) fn serve_clients(
        self,
        config: &Config,
        clients: Box<Clients>,
        endpoints: &Arc<Endpoints>,
        shutdown: &Shutdown,
    ) -> Vec<JoinHandle<()>> {
        let parted = !self.http_clients.is_empty();
        let mixed = if parted { Protocols::GrpcOnly } else { Protocols::Both };
        let groups = [
            (self.clients, Role::Clients(clients.clone()), mixed, "serving client traffic"),
            (
                self.http_clients,
                Role::Clients(clients),
                Protocols::HttpOnly,
                "serving client traffic",
            ),
        ];
        let mut servers = Vec::new();
        for group in groups {
            servers.extend(serve_group(group, config, endpoints, shutdown));
        }
        servers
    }
}

/// Listeners, whom they are for, with which protocols, and what the log says of it.
type Group = (Vec<Bound>, Role, Protocols, &'static str);

fn serve_group(
    (ports, role, protocols, told): Group,
    config: &Config,
    endpoints: &Arc<Endpoints>,
    shutdown: &Shutdown,
) -> Vec<JoinHandle<()>> {
    let service = Service {
        role,
        endpoints: Arc::clone(endpoints),
        protocols,
        max_concurrent_streams: config.max_concurrent_streams,
        keep_alive: config.keep_alive,
    };
    let serve = |bound: Bound| {
        let secure = bound.tls().is_some();
        tracing::info!(address = %bound.url(), secure, "{told}");
        tasks::spawn("server", serve::run(bound, service.clone(), shutdown.clone()))
    };
    ports.into_iter().map(serve).collect()
}

/// The TLS of one kind of listener, if one of its URLs asks for it.
fn tls(
    config: &Config,
    side: Side,
    files: &TlsFiles,
    urls: &[&String],
) -> Result<Option<Arc<ServerTls>>, TlsError> {
    if files.is_empty() || !urls.iter().any(|url| serve::is_secure(url)) {
        return Ok(None);
    }
    let tls = ServerTls::new(side, files, &config.tls, &config.data_dir, &hosts(urls))?;
    Ok(Some(Arc::new(tls)))
}

/// The hosts of URLs, each once: whom a certificate made here is for.
pub(crate) fn hosts(urls: &[&String]) -> Vec<String> {
    let mut hosts = BTreeSet::new();
    for url in urls {
        let Some((scheme, authority)) = url.split_once("://") else { continue };
        if !scheme.starts_with("unix")
            && let Some((host, _)) = authority.rsplit_once(':')
        {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            if !host.is_empty() {
                hosts.insert(host.to_owned());
            }
        }
    }
    hosts.into_iter().collect()
}

async fn bind_all(
    config: &Config,
    urls: &[String],
    tls: Option<&Arc<ServerTls>>,
) -> Result<Vec<Bound>, ListenError> {
    let mut bound = Vec::with_capacity(urls.len());
    for url in urls {
        bound.push(serve::bind(url, config.socket, tls).await?);
    }
    Ok(bound)
}

//! One API server, put together: store, caches, admission, handlers, filters, listener.
//!
//! Owns: the order of the start. Must not know: what the parts do. A newcomer's trap: the listener
//! is bound first, so that a port in use is found before anything is written anywhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use kijabi_base::tasks::{self, Shutdown};

use crate::admission::{Chain, Objects};
use crate::allocate::{Repair, Services};
use crate::authn::Authenticator;
use crate::authn::jwt::{BadKey, TokenKey};
use crate::authn::token::Tokens;
use crate::authz::Authorizer;
use crate::bootstrap::Bootstrap;
use crate::config::Config;
use crate::discovery::Discovery;
use crate::exchange::ResourceHandler;
use crate::filters::{Filters, InFlight};
use crate::handler::Handlers;
use crate::health::{Check, Health};
use crate::issuer::Issuer;
use crate::logs::Logs;
use crate::loopback::Loopback;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::pki::{Pki, PkiError, PkiOptions};
use crate::registry::Registry;
use crate::router::Router;
use crate::server;
use crate::storage::{Client, StoreError};
use crate::tls::{ServerTls, TlsError};
use crate::version::GIT_VERSION;

/// How often it is looked whether the caches are filled.
const FILL_POLL: Duration = Duration::from_millis(200);

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened at.
    #[error("listen {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder of certificates and keys cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key of tokens cannot be used.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// The store's addresses make no sense.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metrics cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The range of service addresses has no first address.
    #[error("service range {0} is too small")]
    ServiceRange(crate::config::Ipv4Cidr),
}

/// A running API server.
#[derive(Debug)]
pub struct ApiServer {
    local_addr: SocketAddr,
    pki: Arc<Pki>,
    loopback: Loopback,
    shutdown: Shutdown,
    ended: Shutdown,
}

impl ApiServer {
    /// Starts a server. It answers at once; `/readyz` says when it has everything.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = server::bind(config.listen).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let service_address =
            config.service_cidr.nth(1).ok_or(StartError::ServiceRange(config.service_cidr))?;
        let pki = Arc::new(Pki::ensure(
            &config.pki_dir,
            &pki_options(&config, local_addr.port(), IpAddr::V4(service_address)),
        )?);
        let tls = ServerTls::new(&pki)?;
        let shutdown = Shutdown::new();
        let backend = Backend::new(&config, &pki, &shutdown)?;
        let loopback = Loopback::new(backend.resources.clone());
        let bootstrap = Bootstrap {
            client: loopback.clone(),
            address: config.advertised(),
            port: local_addr.port(),
            service_address: IpAddr::V4(service_address),
            hostname: config.hostname.clone(),
            done: Arc::default(),
        };
        let filters = Arc::new(filters(&config, &pki, &backend, &bootstrap, &shutdown)?);
        let Backend { registry, services, .. } = backend;
        let repair = Repair::new(services, registry.clone());
        tasks::spawn("service-repair", repair_when_filled(registry, repair, shutdown.child()));
        tasks::spawn("bootstrap", bootstrap.run(shutdown.child()));
        let ended = Shutdown::new();
        let (serving, at_end) =
            (server::spawn(listener, tls, filters, shutdown.clone()), ended.clone());
        tasks::spawn("apiserver-end", async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the listener ended");
            }
            at_end.trigger();
        });
        Ok(Self { local_addr, pki, loopback, shutdown, ended })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its certificates and keys, for kubeconfigs.
    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// Requests from inside the process.
    pub fn loopback(&self) -> &Loopback {
        &self.loopback
    }

    /// Stops it: no new connections, open requests may end, watches are closed.
    pub async fn shutdown(&self) {
        self.shutdown.trigger();
        self.ended.wait().await;
    }

    /// Waits until it has stopped.
    pub async fn wait(&self) {
        self.ended.wait().await;
    }
}

/// What answers requests for resources.
struct Backend {
    registry: Arc<Registry>,
    services: Services,
    resources: Arc<dyn ResourceHandler>,
    tokens: Arc<Tokens>,
    authorizer: Authorizer,
    issuer: Issuer,
}

impl Backend {
    fn new(config: &Config, pki: &Pki, shutdown: &Shutdown) -> Result<Self, StartError> {
        let key = Arc::new(TokenKey::from_pkcs8(pki.token_key_der())?);
        let registry = Registry::new(Client::connect(&config.etcd_endpoints)?, shutdown.child())?;
        registry.run();
        let objects: Arc<dyn Objects> = registry.clone();
        let services =
            Services::new(registry.client().clone(), config.service_cidr, config.node_ports);
        let chain = Chain::standard(&objects, vec![Arc::new(services.clone())]);
        let name = config.service_account_issuer.clone();
        let issuer = Issuer::new(&name, &pki.server_url(), &key);
        let tokens = Arc::new(Tokens::new(key, name, objects.clone()));
        let authorizer = Authorizer::new(objects);
        let resources = Arc::new(Handlers::with_identities(
            registry.clone(),
            chain,
            tokens.clone(),
            authorizer.clone(),
        ));
        Ok(Self { registry, services, resources, tokens, authorizer, issuer })
    }
}

fn filters(
    config: &Config,
    pki: &Pki,
    backend: &Backend,
    bootstrap: &Bootstrap,
    shutdown: &Shutdown,
) -> Result<Filters, StartError> {
    let openapi = Arc::new(OpenApi::default());
    let early = openapi.clone();
    tasks::blocking(move || early.prepare());
    let metrics = Arc::new(Metrics::new(GIT_VERSION)?);
    let server_address = SocketAddr::new(bootstrap.address, bootstrap.port).to_string();
    let registry = &backend.registry;
    Ok(Filters {
        authenticator: Authenticator::new(backend.tokens.clone(), config.anonymous_auth),
        authorizer: backend.authorizer.clone(),
        in_flight: InFlight::new(config.read_only_in_flight_max, config.mutating_in_flight_max),
        metrics: metrics.clone(),
        router: Router {
            resources: backend.resources.clone(),
            logs: Logs::new(registry.clone(), pki, config.allow_loopback_nodes)?,
            discovery: Discovery::new(&server_address),
            openapi,
            issuer: backend.issuer.clone(),
            health: health(registry, &bootstrap.done, shutdown),
            metrics,
        },
        shutdown: shutdown.clone(),
    })
}

/// Runs the repair once the cache of services can be believed.
async fn repair_when_filled(registry: Arc<Registry>, repair: Repair, shutdown: Shutdown) {
    while !registry.unready().is_empty() {
        tokio::select! {
            () = tokio::time::sleep(FILL_POLL) => {}
            () = shutdown.wait() => return,
        }
    }
    repair.run(shutdown).await;
}

fn pki_options(config: &Config, port: u16, service_address: IpAddr) -> PkiOptions {
    PkiOptions {
        advertise_address: config.advertised(),
        port,
        service_address,
        hostname: config.hostname.clone(),
        cluster_domain: config.cluster_domain.clone(),
        extra_names: config.extra_names.clone(),
    }
}

fn health(registry: &Arc<Registry>, bootstrapped: &Arc<AtomicBool>, shutdown: &Shutdown) -> Health {
    fn check<F>(name: &'static str, live: bool, run: F) -> Check
    where
        F: Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    {
        Check { name, live, run: Box::new(run) }
    }
    let store = registry.clone();
    let etcd = move || -> BoxFuture<'static, Result<(), String>> {
        let client = store.client().clone();
        Box::pin(async move { client.check_health().await.map_err(|error| error.to_string()) })
    };
    let caches = registry.clone();
    let synced = move || -> BoxFuture<'static, Result<(), String>> {
        let missing = caches.unready();
        let outcome =
            if missing.is_empty() { Ok(()) } else { Err(format!("not filled: {missing:?}")) };
        Box::pin(std::future::ready(outcome))
    };
    let done = bootstrapped.clone();
    let system = move || -> BoxFuture<'static, Result<(), String>> {
        let outcome = if done.load(Ordering::Relaxed) { Ok(()) } else { Err("not yet".to_owned()) };
        Box::pin(std::future::ready(outcome))
    };
    let stopping = shutdown.clone();
    let not_stopping = move || -> BoxFuture<'static, Result<(), String>> {
        let outcome =
            if stopping.is_triggered() { Err("shutting down".to_owned()) } else { Ok(()) };
        Box::pin(std::future::ready(outcome))
    };
    Health::new(vec![
        check("etcd", true, etcd.clone()),
        check("etcd-readiness", false, etcd),
        check("informer-sync", false, synced),
        check("poststarthook/bootstrap-controller", true, system.clone()),
        check("poststarthook/start-system-namespaces-controller", true, system),
        check("shutdown", false, not_stopping),
    ])
}

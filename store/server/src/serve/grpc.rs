//! gRPC: which service a path belongs to.
//!
//! Owns: the dispatch. Must not know: the services' requests. A newcomer's trap: the size limit of
//! a message is the request limit plus etcd's overhead, so that a request just over the limit gets
//! etcd's own error instead of the transport's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::Body as HttpBody;
use kijabi_base::clock;
use kijabi_base::limits::GRPC_OVERHEAD_BYTES;
use kijabi_proto::etcdserverpb::auth_server::AuthServer;
use kijabi_proto::etcdserverpb::cluster_server::ClusterServer;
use kijabi_proto::etcdserverpb::kv_server::{Kv as _, KvServer};
use kijabi_proto::etcdserverpb::lease_server::LeaseServer;
use kijabi_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use kijabi_proto::etcdserverpb::watch_server::WatchServer;
use kijabi_proto::health::health_server::HealthServer;
use kijabi_proto::v3electionpb::election_server::ElectionServer;
use kijabi_proto::v3lockpb::lock_server::LockServer;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service as _;

use super::counted::{self, Received, Sent};
use super::{refusal, unary};
use crate::cluster::Cluster;
use crate::consensus::Applier;
use crate::drivers::DatabaseSize;
use crate::metrics::Metrics;
use crate::metrics::rpc::Call;
use crate::service;
use crate::service::auth::AuthService;
use crate::service::cluster::ClusterService;
use crate::service::election::ElectionService;
use crate::service::health::HealthService;
use crate::service::kv::KvService;
use crate::service::lease::LeaseService;
use crate::service::lock::LockService;
use crate::service::maintenance::MaintenanceService;
use crate::service::recipe::Recipe;
use crate::service::watch::WatchService;
use crate::store::Store;
use crate::watch::Hub;

/// All services. Cloning shares.
#[derive(Clone)]
pub(crate) struct Grpc {
    /// The service behind `kv`, for the calls that there are most of.
    plain: Arc<KvService>,
    kv: KvServer<KvService>,
    watch: WatchServer<WatchService>,
    lease: LeaseServer<LeaseService>,
    cluster: ClusterServer<ClusterService>,
    maintenance: MaintenanceServer<MaintenanceService>,
    auth: AuthServer<AuthService>,
    lock: LockServer<LockService>,
    election: ElectionServer<ElectionService>,
    health: HealthServer<HealthService>,
    metrics: Arc<Metrics>,
    /// The largest message taken.
    bytes_max: usize,
    /// How long a unary request may take before it is logged.
    slow: Duration,
}

/// The calls that are answered without tonic (`unary.rs`).
#[derive(Clone, Copy)]
enum Plain {
    Range,
    Put,
    DeleteRange,
    Txn,
}

impl Grpc {
    pub(crate) fn new(
        store: &Store,
        hub: Arc<Hub>,
        applier: Applier,
        size: DatabaseSize,
        metrics: Arc<Metrics>,
        cluster: Cluster,
    ) -> Self {
        let bytes_max = store.config().max_request_bytes + GRPC_OVERHEAD_BYTES;
        let slow = store.config().warning_unary_request;
        let store = || store.clone();
        let maintenance = MaintenanceService::new(store(), applier, size);
        let health = HealthService::new(store().shutdown().clone());
        let recipe = Recipe::new(store(), Arc::clone(&hub));
        let plain = Arc::new(KvService::new(store()));
        Self {
            kv: KvServer::from_arc(Arc::clone(&plain)).max_decoding_message_size(bytes_max),
            plain,
            watch: WatchServer::new(WatchService::new(store(), hub))
                .max_decoding_message_size(bytes_max),
            lease: LeaseServer::new(LeaseService::new(store()))
                .max_decoding_message_size(bytes_max),
            cluster: ClusterServer::new(ClusterService::new(store(), cluster)),
            maintenance: MaintenanceServer::new(maintenance),
            auth: AuthServer::new(AuthService::new(store())),
            lock: LockServer::new(LockService::new(Arc::clone(&recipe)))
                .max_decoding_message_size(bytes_max),
            election: ElectionServer::new(ElectionService::new(recipe))
                .max_decoding_message_size(bytes_max),
            health: HealthServer::new(health),
            metrics,
            bytes_max,
            slow,
        }
    }

    /// Whether a request is gRPC. Over HTTP/1.1 nothing is: what a browser can send must pass the
    /// checks of plain HTTP.
    pub(crate) fn is_for<B>(request: &Request<B>) -> bool {
        request.version() == Version::HTTP_2
            && request
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
    }

    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let version = request.headers().get("client-api-version");
        let version = version.and_then(|version| version.to_str().ok());
        let Some(mut call) = self.metrics.rpc.begin(request.uri().path(), version) else {
            return Box::pin(self.dispatch(request.map(Body::new))).await;
        };
        if let Some(plain) = Plain::of(request.uri().path())
            && unary::takes(request.headers())
        {
            return self.answer_plain(plain, request, call).await;
        }
        let method = Arc::clone(call.method());
        let request = request.map(|body| Body::new(Received::new(body, method)));
        // Cloning shares the path's bytes.
        let (uri, begun) = (request.uri().clone(), clock::now());
        let response = Box::pin(self.dispatch(request)).await;
        self.warn_if_slow(uri.path(), begun.elapsed());
        if let Some(code) = counted::code(response.headers()) {
            call.end(code);
            return response;
        }
        response.map(|body| Body::new(Sent::new(body, call)))
    }

    async fn answer_plain<B>(&self, plain: Plain, request: Request<B>, call: Call) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (kv, bytes_max, begun) = (&*self.plain, self.bytes_max, clock::now());
        let response = match plain {
            Plain::Range => unary::answer(request, call, bytes_max, |r| kv.range(r)).await,
            Plain::Put => unary::answer(request, call, bytes_max, |r| kv.put(r)).await,
            Plain::DeleteRange => {
                unary::answer(request, call, bytes_max, |r| kv.delete_range(r)).await
            }
            Plain::Txn => unary::answer(request, call, bytes_max, |r| kv.txn(r)).await,
        };
        self.warn_if_slow(plain.path(), begun.elapsed());
        response
    }

    /// etcd's line for a unary request that took long (`--warning-unary-request-duration`).
    fn warn_if_slow(&self, path: &str, took: Duration) {
        const STREAMS: &[&str] =
            &["/Watch", "/LeaseKeepAlive", "/Snapshot", "/RangeStream", "/Observe"];
        if took > self.slow && !STREAMS.iter().any(|name| path.ends_with(name)) {
            let took = format!("{took:?}");
            tracing::warn!("time spent" = took, "response type" = path, "request stats");
        }
    }

    async fn dispatch(&self, request: Request<Body>) -> Response<Body> {
        let uri = request.uri().clone();
        let path = uri.path();
        let name = path[1.min(path.len())..].split('/').next().unwrap_or_default();
        let answered = match name {
            "etcdserverpb.KV" => self.kv.clone().call(request).await,
            "etcdserverpb.Watch" => self.watch.clone().call(request).await,
            "etcdserverpb.Lease" => self.lease.clone().call(request).await,
            "etcdserverpb.Cluster" => self.cluster.clone().call(request).await,
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request).await,
            "etcdserverpb.Auth" => self.auth.clone().call(request).await,
            "v3lockpb.Lock" => self.lock.clone().call(request).await,
            "v3electionpb.Election" => self.election.clone().call(request).await,
            "grpc.health.v1.Health" => self.health.clone().call(request).await,
            unknown => return unimplemented(unknown),
        };
        let answered = service::complete(answered.unwrap_or_else(|never| match never {}));
        refusal::translate(path, answered)
    }
}

// === impl Plain ===

impl Plain {
    const ALL: [Self; 4] = [Self::Range, Self::Put, Self::DeleteRange, Self::Txn];

    fn path(self) -> &'static str {
        match self {
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Put => "/etcdserverpb.KV/Put",
            Self::DeleteRange => "/etcdserverpb.KV/DeleteRange",
            Self::Txn => "/etcdserverpb.KV/Txn",
        }
    }

    fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plain| plain.path() == path)
    }
}

/// What grpc-go says of a service that is not registered.
fn unimplemented(service: &str) -> Response<Body> {
    let status = Status::new(Code::Unimplemented, format!("unknown service {service}"));
    let mut response = status.into_http();
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

//! Plain HTTP: health, version, metrics.
//!
//! Owns: etcd's paths and their exact answers. Must not know: sockets. A newcomer's trap: a health
//! check reads through the store like a client does, so it must have a deadline of its own.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::Full;
use kijabi_proto::etcdserverpb as pb;
use tonic::body::Body;

use crate::config::ETCD_VERSION;
use crate::metrics::Metrics;
use crate::service::maintenance::STORAGE_VERSION;
use crate::status::EtcdError;
use crate::store::Store;

/// The endpoints of one member.
pub(crate) struct Endpoints {
    store: Store,
    metrics: Arc<Metrics>,
}

/// One thing that a health path looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

// === impl Endpoints ===

impl Endpoints {
    pub(crate) fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    pub(crate) async fn answer(&self, method: &Method, uri: &Uri) -> Response<Body> {
        let query = Query::of(uri);
        let path = uri.path();
        match path {
            "/health" => match get_only(method) {
                Ok(()) => self.health(&query).await,
                Err(refusal) => refusal,
            },
            "/version" => match get_only(method) {
                Ok(()) => respond(StatusCode::OK, "application/json", version_body()),
                Err(refusal) => refusal,
            },
            "/metrics" => {
                let body = self.metrics.render();
                respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
            }
            _ => {
                for (root, checks) in [("/livez", LIVEZ), ("/readyz", READYZ)] {
                    if let Some(rest) = path.strip_prefix(root)
                        && (rest.is_empty() || rest.starts_with('/'))
                    {
                        let name = rest.trim_start_matches('/');
                        return match get_only(method) {
                            Ok(()) => self.probe(checks, name, &query).await,
                            Err(refusal) => refusal,
                        };
                    }
                }
                not_found()
            }
        }
    }

    /// What other members may ask.
    // Differs from etcd: `/members` and the rest come with clusters of several members.
    pub(crate) fn answer_member(method: &Method, uri: &Uri) -> Response<Body> {
        match (uri.path(), get_only(method)) {
            ("/version", Ok(())) => respond(StatusCode::OK, "application/json", version_body()),
            ("/version", Err(refusal)) => refusal,
            _ => not_found(),
        }
    }

    /// The older health path: JSON, one reason.
    async fn health(&self, query: &Query) -> Response<Body> {
        let reason = self.health_reason(query).await;
        let healthy = reason.is_empty();
        let counter =
            if healthy { &self.metrics.health_success } else { &self.metrics.health_failures };
        counter.inc();
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let reason = serde_json::Value::String(reason);
        let mut body = format!("{{\"health\":\"{healthy}\",\"reason\":{reason}}}");
        if !healthy {
            // Go's http.Error ends with a line feed.
            body.push('\n');
        }
        respond(status, TEXT, body)
    }

    async fn health_reason(&self, query: &Query) -> String {
        for alarm in self.store.machine().read().alarms() {
            let name = alarm.alarm().as_str_name();
            if !query.excluded.iter().any(|excluded| excluded == name) {
                return format!("ALARM {name}");
            }
        }
        if query.serializable {
            return String::new();
        }
        if self.store.standing().leader == 0 {
            return "RAFT NO LEADER".into();
        }
        match self.store.read_barrier().await {
            Ok(()) => String::new(),
            Err(error) => format!("RANGE ERROR:{}", EtcdError::from(&error).text()),
        }
    }

    async fn probe(&self, checks: &[Check], name: &str, query: &Query) -> Response<Body> {
        let chosen: Vec<Check> = if name.is_empty() {
            let wanted = |check: &&Check| !query.excluded.iter().any(|name| name == check.name());
            checks.iter().filter(wanted).copied().collect()
        } else {
            checks.iter().filter(|check| check.name() == name).copied().collect()
        };
        if !name.is_empty() && chosen.is_empty() {
            return not_found();
        }
        let mut report = String::new();
        let mut healthy = true;
        for check in chosen {
            match self.run(check).await {
                Ok(()) => {
                    let _ = writeln!(report, "[+]{} ok", check.name());
                }
                Err(why) => {
                    healthy = false;
                    let _ = writeln!(report, "[-]{} failed: {why}", check.name());
                }
            }
        }
        if !healthy {
            return respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, report + "\n");
        }
        let body = if query.verbose { report + "ok\n" } else { "ok\n".into() };
        respond(StatusCode::OK, TEXT, body)
    }

    async fn run(&self, check: Check) -> Result<(), String> {
        match check {
            Check::DataCorruption => {
                let alarms = self.store.machine().read().alarms();
                let corrupt = alarms.iter().any(|alarm| alarm.alarm() == pb::AlarmType::Corrupt);
                if corrupt { Err("alarm activated: CORRUPT".into()) } else { Ok(()) }
            }
            Check::SerializableRead => {
                let request = pb::RangeRequest {
                    key: b"a".as_slice().into(),
                    limit: 1,
                    serializable: true,
                    ..Default::default()
                };
                let machine = self.store.machine();
                let (plan, state) = {
                    let machine = machine.read();
                    (machine.range(&request), machine.state())
                };
                let read = plan.and_then(|plan| plan.fetch(&*state));
                read.map(|_| ()).map_err(|error| format!("range error: {error}"))
            }
            Check::LinearizableRead => self
                .store
                .read_barrier()
                .await
                .map_err(|error| format!("range error: {}", EtcdError::from(&error).text())),
            Check::NonLearner => {
                if self.store.standing().is_learner {
                    Err("not supported for learner".into())
                } else {
                    Ok(())
                }
            }
        }
    }
}

fn version_body() -> String {
    format!(
        "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{STORAGE_VERSION}\",\"storage\":\"{STORAGE_VERSION}\"}}"
    )
}

#[allow(clippy::result_large_err, reason = "the refusal is the answer")]
fn get_only(method: &Method) -> Result<(), Response<Body>> {
    if method == Method::GET {
        return Ok(());
    }
    let mut refusal = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
    refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    Err(refusal)
}

fn not_found() -> Response<Body> {
    respond(StatusCode::NOT_FOUND, TEXT, "404 page not found\n")
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The parameters that health paths know.
#[derive(Debug, Default)]
struct Query {
    serializable: bool,
    verbose: bool,
    excluded: Vec<String>,
}

impl Query {
    fn of(uri: &Uri) -> Self {
        let mut query = Self::default();
        for part in uri.query().unwrap_or_default().split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "serializable" => query.serializable = value == "true",
                "verbose" => query.verbose = true,
                "exclude" => query.excluded.push(value.to_owned()),
                _ => {}
            }
        }
        query
    }
}

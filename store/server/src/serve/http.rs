//! Plain HTTP: health, version, metrics, variables.
//!
//! Owns: etcd's paths and their exact answers. Must not know: sockets, nor what makes a member
//! healthy (`health.rs`). A newcomer's trap: the port for monitoring serves these, too, without the
//! access rules of the clients' port.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::Full;
use tonic::body::Body;

use super::health::{Health, Probe};
use crate::config::ETCD_VERSION;
use crate::metrics::Metrics;
use crate::service::cluster::member_list;
use crate::store::Store;
use crate::watch::Tally;

/// The endpoints of one member.
pub(crate) struct Endpoints {
    store: Store,
    metrics: Arc<Metrics>,
    health: Health,
    tally: Arc<Tally>,
}

const TEXT: &str = "text/plain; charset=utf-8";

// === impl Endpoints ===

impl Endpoints {
    pub(crate) fn new(store: Store, metrics: Arc<Metrics>, tally: Arc<Tally>) -> Self {
        let health = Health::new(store.clone(), Arc::clone(&metrics));
        Self { store, metrics, health, tally }
    }

    // Differs from etcd: there are no profiles below `/debug/pprof/`; they are Go's.
    pub(crate) async fn answer(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> Response<Body> {
        let answering = async {
            match path {
                "/health" => self.health(&Query::of(query)).await,
                "/version" => {
                    respond(StatusCode::OK, "application/json", version_body(&self.store))
                }
                "/metrics" => {
                    self.metrics.look(&self.store.machine().read(), &self.tally);
                    let body = self.metrics.render();
                    respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
                }
                "/debug/vars" => {
                    let kind = "application/json; charset=utf-8";
                    respond(StatusCode::OK, kind, self.variables())
                }
                _ => match Probe::of(path) {
                    Some(probe) => self.probe(probe, &Query::of(query)).await,
                    None => not_found(),
                },
            }
        };
        let only_get = path != "/metrics" && (path.starts_with("/debug/") || known(path));
        if only_get && method != Method::GET {
            return method_not_allowed();
        }
        answering.await
    }

    /// What other members may ask.
    // Differs from etcd: Raft, promotion, hashes and leases go over gRPC, so their paths are unknown.
    pub(crate) fn answer_member(&self, method: &Method, uri: &Uri) -> Response<Body> {
        let body = match uri.path() {
            "/version" => version_body(&self.store),
            "/members" => members_body(&self.store),
            _ => return not_found(),
        };
        let mut response = if method == Method::GET {
            respond(StatusCode::OK, "application/json", body)
        } else {
            method_not_allowed()
        };
        let cluster_id = format!("{:x}", self.store.header(0).cluster_id);
        if let Ok(id) = HeaderValue::from_str(&cluster_id) {
            response.headers_mut().insert("x-etcd-cluster-id", id);
        }
        response
    }

    /// The older health path: JSON, one reason.
    async fn health(&self, query: &Query) -> Response<Body> {
        let reason = self.health.reason(query.serializable, &query.excluded).await;
        let healthy = reason.is_empty();
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let reason = serde_json::Value::String(reason);
        let mut body = format!("{{\"health\":\"{healthy}\",\"reason\":{reason}}}");
        if !healthy {
            // Go's http.Error ends with a line feed.
            body.push('\n');
        }
        respond(status, TEXT, body)
    }

    async fn probe(&self, probe: Probe, query: &Query) -> Response<Body> {
        match self.health.probe(&probe, &query.excluded).await {
            Err(report) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, report + "\n"),
            Ok(report) if query.verbose => respond(StatusCode::OK, TEXT, report + "ok\n"),
            Ok(_) => respond(StatusCode::OK, TEXT, "ok\n"),
        }
    }

    /// What can be said of the variables that etcd publishes.
    fn variables(&self) -> String {
        let standing = self.store.standing();
        let state = if standing.leader == self.store.member_id() {
            "StateLeader"
        } else if standing.leader == 0 {
            "StateCandidate"
        } else {
            "StateFollower"
        };
        let limit = crate::metrics::process::descriptors().1;
        let variables = serde_json::json!({
            "cmdline": command_line(std::env::args()),
            "file_descriptor_limit": limit,
            "raft.status": {
                "id": format!("{:x}", self.store.member_id()),
                "term": standing.term,
                "lead": format!("{:x}", standing.leader),
                "commit": standing.committed_index,
                "applied": standing.applied_index,
                "raftState": state,
            },
        });
        format!("{variables:#}\n")
    }
}

/// The arguments, without the values of those that are secret.
fn command_line(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut hide_next = false;
    arguments
        .map(|argument| {
            if std::mem::take(&mut hide_next) && !argument.starts_with('-') {
                return "***".to_owned();
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            if !name.contains("password") {
                return argument;
            }
            hide_next = value.is_none();
            if value.is_some() { format!("{name}=***") } else { argument }
        })
        .collect()
}

/// Paths that answer nothing but GET.
fn known(path: &str) -> bool {
    matches!(path, "/health" | "/version") || Probe::of(path).is_some()
}

fn version_body(store: &Store) -> String {
    let cluster = store.machine().read().cluster_version();
    // What is stored is stored as the cluster's version has it.
    format!(
        "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{cluster}\"}}"
    )
}

/// The members as etcd lists them for one that wants to join.
fn members_body(store: &Store) -> String {
    let members: Vec<_> = member_list(store)
        .into_iter()
        .map(|member| {
            let mut json = serde_json::json!({ "id": member.id, "peerURLs": member.peer_ur_ls });
            if member.is_learner {
                json["isLearner"] = true.into();
            }
            if !member.name.is_empty() {
                json["name"] = member.name.into();
            }
            if !member.client_ur_ls.is_empty() {
                json["clientURLs"] = member.client_ur_ls.into();
            }
            json
        })
        .collect();
    let mut body = serde_json::Value::from(members).to_string();
    body.push('\n');
    body
}

fn method_not_allowed() -> Response<Body> {
    let mut refusal = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
    refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    refusal
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
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if kind == TEXT {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
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
    fn of(query: Option<&str>) -> Self {
        let mut found = Self::default();
        for part in query.unwrap_or_default().split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "serializable" => found.serializable = value == "true",
                "verbose" => found.verbose = true,
                "exclude" if !value.is_empty() => found.excluded.push(value.to_owned()),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_on_the_command_line_are_not_shown() {
        let given = ["etcd", "--name=a", "--discovery-password=p", "--discovery-password", "p"];
        let shown = command_line(given.into_iter().map(str::to_owned));
        let expected =
            ["etcd", "--name=a", "--discovery-password=***", "--discovery-password", "***"];
        assert_eq!(shown, expected);
    }
}

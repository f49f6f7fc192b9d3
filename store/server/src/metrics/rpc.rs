//! How many RPCs, messages and bytes, under the names that etcd's dashboards use.
//!
//! Owns: the counters of gRPC. Must not know: the services. A newcomer's trap: all series exist from
//! the start with zero, as with etcd, so that a rate over the first error is seen; and a request
//! finds its counters by one look in a table, without waiting for others.

use std::collections::HashMap;
use std::sync::Arc;

use kijabi_base::clock::{self, Instant};
use parking_lot::RwLock;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use tonic::Code;

use super::register;

/// The codes in the order of their numbers, as grpc-go names them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Versions that clients may claim before the rest is counted together.
const CLIENT_VERSIONS_MAX: usize = 64;
const UNKNOWN_VERSION: &str = "unknown";

/// One RPC to be counted.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    /// `etcdserverpb.KV`.
    pub(crate) service: String,
    /// `Range`.
    pub(crate) method: String,
    /// Whether requests come as a stream.
    pub(crate) client_streaming: bool,
    /// Whether responses go as a stream.
    pub(crate) server_streaming: bool,
}

/// The counters of all RPCs.
#[derive(Debug)]
pub(crate) struct RpcMetrics {
    methods: HashMap<String, Arc<MethodMetrics>>,
    client_requests: IntCounterVec,
    versions: RwLock<HashMap<String, [IntCounter; 2]>>,
}

/// The counters of one RPC.
#[derive(Debug)]
pub(crate) struct MethodMetrics {
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    handled: Vec<IntCounter>,
    seconds: Option<Histogram>,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    streams: bool,
}

/// A call that runs. If it is dropped before it has ended, its client has gone.
#[derive(Debug)]
pub(crate) struct Call {
    method: Arc<MethodMetrics>,
    started: Option<Instant>,
    ended: bool,
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

const LABELS: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];

// === impl RpcMetrics ===

impl RpcMetrics {
    /// Counters of `rpcs`; with `extensive`, their latencies, too.
    pub(crate) fn new(registry: &Registry, rpcs: &[Rpc], extensive: bool) -> Self {
        let make = |name: &str, help: &str| counters(registry, name, help, &LABELS);
        let started = make("grpc_server_started_total", "RPCs started on the server.");
        let received = make("grpc_server_msg_received_total", "RPC messages received.");
        let sent = make("grpc_server_msg_sent_total", "RPC messages sent.");
        let labels = [LABELS[0], LABELS[1], LABELS[2], "grpc_code"];
        let help = "RPCs completed on the server, regardless of success or failure.";
        let handled = counters(registry, "grpc_server_handled_total", help, &labels);
        let seconds = extensive.then(|| {
            let name = "grpc_server_handling_seconds";
            let options = HistogramOpts::new(name, "Response latency of RPCs, in seconds.");
            register(registry, HistogramVec::new(options, &LABELS))
        });
        let bytes = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let received_bytes = bytes(
            "etcd_network_client_grpc_received_bytes_total",
            "Bytes received from gRPC clients.",
        );
        let sent_bytes =
            bytes("etcd_network_client_grpc_sent_bytes_total", "Bytes sent to gRPC clients.");
        let mut methods = HashMap::new();
        for rpc in rpcs {
            let labels = [rpc.kind(), rpc.service.as_str(), rpc.method.as_str()];
            let with_code =
                |code: &&str| handled.with_label_values(&[labels[0], labels[1], labels[2], code]);
            let metrics = MethodMetrics {
                started: started.with_label_values(&labels),
                received: received.with_label_values(&labels),
                sent: sent.with_label_values(&labels),
                handled: CODES.iter().map(with_code).collect(),
                seconds: seconds.as_ref().map(|seconds| seconds.with_label_values(&labels)),
                received_bytes: received_bytes.clone(),
                sent_bytes: sent_bytes.clone(),
                streams: rpc.client_streaming || rpc.server_streaming,
            };
            methods.insert(format!("/{}/{}", rpc.service, rpc.method), Arc::new(metrics));
        }
        let client_requests = counters(
            registry,
            "etcd_server_client_requests_total",
            "Client requests, by the version of the API that the client speaks.",
            &["type", "client_api_version"],
        );
        Self { methods, client_requests, versions: RwLock::default() }
    }

    /// A call of `path` begins; `None` if there is no such RPC.
    pub(crate) fn begin(&self, path: &str, client_version: Option<&str>) -> Option<Call> {
        let method = Arc::clone(self.methods.get(path)?);
        method.started.inc();
        self.count_client(client_version.unwrap_or(UNKNOWN_VERSION), method.streams);
        let started = method.seconds.is_some().then(clock::now);
        Some(Call { method, started, ended: false })
    }

    fn count_client(&self, version: &str, streams: bool) {
        if let Some(counters) = self.versions.read().get(version) {
            counters[usize::from(streams)].inc();
            return;
        }
        let mut versions = self.versions.write();
        // Differs from etcd: what a client calls itself must not fill the memory.
        let full = versions.len() >= CLIENT_VERSIONS_MAX || version.len() > 32;
        let version = if full { UNKNOWN_VERSION } else { version };
        let of = |kind: &str| self.client_requests.with_label_values(&[kind, version]);
        let counters = [of("unary"), of("stream")];
        counters[usize::from(streams)].inc();
        versions.entry(version.to_owned()).or_insert(counters);
    }
}

// === impl Rpc ===

impl Rpc {
    fn kind(&self) -> &'static str {
        match (self.client_streaming, self.server_streaming) {
            (false, false) => "unary",
            (true, false) => "client_stream",
            (false, true) => "server_stream",
            (true, true) => "bidi_stream",
        }
    }
}

// === impl MethodMetrics ===

impl MethodMetrics {
    /// Messages have come.
    pub(crate) fn received(&self, messages: u64, bytes: u64) {
        self.received.inc_by(messages);
        self.received_bytes.inc_by(bytes);
    }

    /// Messages have been given to the transport.
    pub(crate) fn sent(&self, messages: u64, bytes: u64) {
        self.sent.inc_by(messages);
        self.sent_bytes.inc_by(bytes);
    }
}

// === impl Call ===

impl Call {
    /// What it counts on.
    pub(crate) fn method(&self) -> &Arc<MethodMetrics> {
        &self.method
    }

    /// It has ended.
    pub(crate) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some(handled) = self.method.handled.get(code as usize) {
            handled.inc();
        }
        if let (Some(seconds), Some(started)) = (&self.method.seconds, self.started) {
            seconds.observe(started.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_in_order() {
        let named = |code: Code| CODES[code as usize];
        assert_eq!(named(Code::Ok), "OK");
        assert_eq!(named(Code::Cancelled), "Canceled");
        assert_eq!(named(Code::OutOfRange), "OutOfRange");
        assert_eq!(named(Code::Unauthenticated), "Unauthenticated");
    }

    #[test]
    fn clients_cannot_make_series_without_bound() {
        let rpc = Rpc {
            service: "s".into(),
            method: "m".into(),
            client_streaming: false,
            server_streaming: false,
        };
        let registry = Registry::new();
        let metrics = RpcMetrics::new(&registry, &[rpc], false);
        for number in 0..10_000 {
            drop(metrics.begin("/s/m", Some(&format!("3.{number}"))));
        }
        assert!(metrics.begin("/s/other", None).is_none());
        assert!(metrics.versions.read().len() <= CLIENT_VERSIONS_MAX + 1);
        let families = registry.gather();
        let started = families.iter().find(|f| f.name() == "grpc_server_started_total").unwrap();
        assert!((started.get_metric()[0].get_counter().get_value() - 10_000.0).abs() < 0.5);
    }
}

//! The server's own figures, with the names kube-apiserver gives them.
//!
//! Owns: the metrics and their text form. Must not know: what is done with them. A newcomer's trap:
//! labels come from parsed requests, so only known verbs and served resources become label values;
//! anything else would let a client make endless series.

use std::time::Duration;

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::request::RequestInfo;

/// Upper bounds of the request durations, upstream's.
const DURATION_BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

/// The figures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGaugeVec,
    long_running: IntGaugeVec,
    terminations: IntCounterVec,
    dropped: IntCounterVec,
}

impl Metrics {
    /// Figures that are all zero.
    pub fn new(version: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let place = ["verb", "group", "version", "resource", "subresource", "scope"];
        let requests = counter(
            "apiserver_request_total",
            "Requests by verb, resource, scope and answer code.",
            &[&place[..], &["code"]].concat(),
        )?;
        let terminations = counter(
            "apiserver_request_terminations_total",
            "Requests that the server ended in self-defense.",
            &[&place[..], &["code"]].concat(),
        )?;
        let dropped = counter(
            "apiserver_dropped_requests_total",
            "Requests refused because too many were in flight.",
            &["request_kind"],
        )?;
        let in_flight = gauge(
            "apiserver_current_inflight_requests",
            "Requests in flight by kind.",
            &["request_kind"],
        )?;
        let long_running =
            gauge("apiserver_longrunning_requests", "Watches and streams that are open.", &place)?;
        let build = gauge("kubernetes_build_info", "Always 1.", &["git_version"])?;
        build.with_label_values(&[version]).set(1);
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "apiserver_request_duration_seconds",
                "How long answers took, watches and streams apart.",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
            &place,
        )?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self { registry, requests, durations, in_flight, long_running, terminations, dropped })
    }

    /// Counts a finished request.
    pub fn finished(&self, info: &RequestInfo, served: bool, code: u16, took: Duration) {
        let place = labels(info, served);
        let code = code.to_string();
        let with_code = [&place[..], &[code.as_str()]].concat();
        self.requests.with_label_values(&with_code).inc();
        if !info.is_long_running() {
            self.durations.with_label_values(&place).observe(took.as_secs_f64());
        }
    }

    /// Counts a request that ran out of time.
    pub fn timed_out(&self, info: &RequestInfo, served: bool) {
        let with_code = [&labels(info, served)[..], &["504"]].concat();
        self.terminations.with_label_values(&with_code).inc();
    }

    /// Counts a request that was refused for lack of room.
    pub fn dropped(&self, kind: &str) {
        self.dropped.with_label_values(&[kind]).inc();
    }

    /// Sets how many requests of a kind are in flight.
    pub fn set_in_flight(&self, kind: &str, count: usize) {
        self.in_flight.with_label_values(&[kind]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts an open stream until the answer is dropped.
    pub fn open_stream(&self, info: &RequestInfo, served: bool) -> OpenStream {
        let gauge = self.long_running.with_label_values(&labels(info, served));
        gauge.inc();
        OpenStream(gauge)
    }

    /// All figures in Prometheus' text form.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        text
    }
}

/// Counted as open while it lives.
#[derive(Debug)]
pub struct OpenStream(prometheus::IntGauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Labels of a request; what is not served is counted as one thing.
fn labels(info: &RequestInfo, served: bool) -> [&str; 6] {
    if !info.is_resource || !served {
        let verb = if info.verb.is_empty() { "other" } else { info.verb };
        return [verb, "", "", "", "", ""];
    }
    let scope = if !info.name.is_empty() {
        "resource"
    } else if info.namespace.is_empty() {
        "cluster"
    } else {
        "namespace"
    };
    [info.verb, &info.api_group, &info.api_version, &info.resource, &info.subresource, scope]
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn requests_are_counted_by_place_but_unknown_places_are_one() {
        let metrics = Metrics::new("v1").unwrap();
        for (path, served) in [("/api/v1/namespaces/g/pods", true), ("/api/v1/evil", false)] {
            let info = RequestInfo::parse(&Method::GET, path, None).unwrap();
            metrics.finished(&info, served, 200, Duration::from_millis(1));
        }
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains(
            r#"apiserver_request_total{code="200",group="",resource="pods",scope="namespace",subresource="",verb="list",version="v1"} 1"#
        ), "{text}");
        assert!(!text.contains("evil"), "{text}");
    }
}

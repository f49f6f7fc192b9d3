//! Every load, for a moment, on a real member: nothing fails and what is reported adds up.

use std::time::Duration;

use clap::Parser;
use kijabi_benches::load::{self, Bench};
use kijabi_server::{Config, Member};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: Bench,
}

/// A run that did something: a disk may stand still for longer than a run takes.
async fn measured(bench: &Bench) -> load::Report {
    for _ in 0..20 {
        let report = load::measure(bench).await.expect("it is measured");
        if report.operations > 0 {
            return report;
        }
    }
    panic!("nothing was done in any of many runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_load_runs_and_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: folder.path().join("data"),
        listen_client_urls: vec!["http://127.0.0.1:0".into()],
        listen_peer_urls: vec!["http://127.0.0.1:0".into()],
        ..Config::default()
    };
    let member = Member::start(config).await.unwrap();
    let endpoint = member.client_urls().remove(0);
    for (load, events) in [
        ("put", false),
        ("put --rate=200", false),
        ("range", false),
        ("range --read=page --limit=7 --serializable", false),
        ("range --read=all", false),
        ("range --read=pages --limit=30", false),
        ("range --read=stream", false),
        ("range --read=count", false),
        ("txn", false),
        ("mixed --reads=30", false),
        ("watch-fanout --watchers=5 --per-stream=2 --prev-kv", true),
        ("watch-latency --watchers=2 --rate=100", true),
        ("watch-behind --revisions=512 --watchers=2", true),
        ("put --maintenance", false),
        ("lease-grant", false),
        ("lease-keep-alive", false),
        ("kubernetes --resources=2", true),
    ] {
        let millis = if load.contains("maintenance") { 3_000 } else { 400 };
        let line = format!(
            "bench {load} --endpoints={endpoint} --conns=2 --clients=4 --keys=200 --quiet \
             --warm-up=50ms --duration={millis}ms"
        );
        let bench = Line::try_parse_from(line.split_whitespace()).unwrap().bench;
        let report = measured(&bench).await;
        assert_eq!((report.errors, &report.first_error), (0, &None), "{load}");
        assert!(report.operations > 0 && report.latency.max > 0, "{load}: {report:?}");
        assert!(report.seconds >= 0.4 && report.per_second > 0.0, "{load}: {report:?}");
        assert!(load::Report::table(&report).contains("operations"), "{load}");
        if events {
            let extra = report.extra.as_ref().expect("a load with watchers tells what they saw");
            assert!(extra.count > 0, "{load}: {extra:?}");
            // Nine of ten requests put, and each put is an event of one watch.
            let all = load.starts_with("kubernetes");
            assert!(!all || extra.count * 3 > report.operations, "{load}: {report:?}");
        }
        assert_eq!(report.maintenance.len(), if load.contains("maint") { 3 } else { 0 }, "{load}");
        if load.starts_with("put --rate") {
            // Half a second at 200 a second: a closed loop would do far more.
            assert!(report.operations <= 100, "{load}: {report:?}");
        }
        assert!(report.usage.rss_bytes > 0, "the server is this process: {report:?}");
    }
    idle(&endpoint).await;
    let text = "bench put --duration=1x";
    assert!(Line::try_parse_from(text.split_whitespace()).is_err());
    tokio::time::timeout(Duration::from_secs(20), member.shutdown()).await.unwrap();
}

/// More connections than the usual limit of open files allows, each with a watch.
async fn idle(endpoint: &str) {
    let line = format!(
        "bench watch-idle --endpoints={endpoint} --watchers=700 --conns=700 --clients=1 --quiet \
         --warm-up=0s --duration=100ms"
    );
    let bench = Line::try_parse_from(line.split_whitespace()).expect("a valid line").bench;
    let report = load::measure(&bench).await.expect("it is measured");
    assert_eq!((report.errors, report.operations), (0, 0), "{report:?}");
    let extra = report.extra.expect("what an idle watch costs");
    assert_eq!(extra.count, 700);
    assert!(extra.bytes_each.is_some_and(|bytes| bytes > 0.0), "{extra:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_an_error() {
    let line = "bench put --endpoints=http://127.0.0.1:1 --conns=1 --clients=1 --quiet";
    let bench = Line::try_parse_from(line.split_whitespace()).unwrap().bench;
    let error = load::measure(&bench).await.unwrap_err();
    assert!(format!("{error:#}").contains("127.0.0.1:1"), "{error:#}");
}

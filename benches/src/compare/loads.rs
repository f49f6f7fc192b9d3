//! Which loads are compared, and what each must come to.
//!
//! Owns: the rows of the table with their bounds. Must not know: how a load is made; it is named
//! by its command line, so that each row can be run alone. A newcomer's trap: loads of one group
//! share a server and its data, in order; memory and recovery have a server of their own.

use anyhow::Context as _;
use clap::Parser;

use super::{Compare, Storage};
use crate::load::args::Bench;
use crate::load::report::Report;

/// What is done.
#[derive(Clone, Debug)]
pub(super) enum Measure {
    /// A load, as a command line of `kijabi bench`.
    Load(String),
    /// A member is killed and started again.
    Recovery,
}

/// What came out.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Report(Box<Report>),
    Seconds(f64),
}

impl Value {
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Report(report) => {
                let events = report.extra.as_ref();
                let events = events.map_or_else(String::new, |extra| {
                    format!(", {:.0} events/s", extra.per_second)
                });
                format!(
                    "{:.0}/s, p99 {:.2} ms, {:.1} µs CPU, {:.0} MB{events}",
                    report.per_second,
                    report.latency.p99 as f64 / 1_000.0,
                    report.server_cpu_us,
                    report.usage.rss_bytes as f64 / 1e6
                )
            }
            Self::Seconds(seconds) => format!("{seconds:.3} s"),
        }
    }
}

/// How a figure is taken from a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    PerSecond,
    Events,
    P99,
    CpuMicros,
    Rss,
    Seconds,
}

impl Figure {
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Events => "events/s",
            Self::P99 => "ms p99",
            Self::CpuMicros => "µs CPU",
            Self::Rss => "MB",
            Self::Seconds => "s",
        }
    }

    /// Whether more is better.
    pub(super) fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond | Self::Events)
    }

    pub(super) fn of(self, value: &Value) -> Option<f64> {
        match (self, value) {
            (Self::Seconds, Value::Seconds(seconds)) => Some(*seconds),
            (_, Value::Seconds(_)) | (Self::Seconds, _) => None,
            (Self::PerSecond, Value::Report(report)) => Some(report.per_second),
            (Self::Events, Value::Report(report)) => Some(report.extra.as_ref()?.per_second),
            (Self::P99, Value::Report(report)) => Some(report.latency.p99 as f64 / 1_000.0),
            (Self::CpuMicros, Value::Report(report)) => Some(report.server_cpu_us),
            (Self::Rss, Value::Report(report)) => Some(report.usage.rss_bytes as f64 / 1e6),
        }
    }
}

/// One figure of a load in the table: what it must and should be, as ours ÷ etcd's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) figure: Figure,
    pub(super) must: Option<f64>,
    pub(super) goal: Option<f64>,
}

/// A load and its rows.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) id: String,
    pub(super) measure: Measure,
    pub(super) rows: Vec<Row>,
    /// The chart it is a point of, and where on the axis.
    pub(super) point: Option<(&'static str, f64)>,
}

/// The loads of one setup.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Each group on a server of its own.
    pub(super) groups: Vec<Vec<Load>>,
}

impl Plan {
    pub(super) fn of(storage: Storage, members: usize, args: &Compare) -> Self {
        let mut groups = vec![writes(storage, members, args), reads(args), watches(args)];
        if members == 1 {
            let mut keys = 10_000;
            while keys <= args.keys_max {
                groups.push(sizes(keys, args));
                keys *= 10;
            }
        }
        if let Some(only) = &args.only {
            for group in &mut groups {
                group.retain(|load| load.id.contains(only.as_str()));
            }
        }
        groups.retain(|group| !group.is_empty());
        Self { groups }
    }
}

fn row(figure: Figure, must: f64, goal: f64) -> Row {
    Row { figure, must: Some(must), goal: Some(goal) }
}

fn shown(figure: Figure) -> Row {
    Row { figure, must: None, goal: None }
}

fn load(id: String, line: String, rows: Vec<Row>, args: &Compare) -> Load {
    let line = format!(
        "{line} --duration={}ms --warm-up={}ms",
        args.each.as_millis(),
        args.each.as_millis() / 4
    );
    Load { id, measure: Measure::Load(line), rows, point: None }
}

fn writes(storage: Storage, members: usize, args: &Compare) -> Vec<Load> {
    let mut loads = Vec::new();
    for clients in [1, 8, 64, 256, 1_000, 8_000] {
        if clients > args.clients_max {
            continue;
        }
        let throughput = match (clients, storage, members) {
            (1, Storage::Disk, _) => row(Figure::PerSecond, 0.95, 1.05),
            (1, Storage::Tmpfs, 1) => row(Figure::PerSecond, 1.3, 2.0),
            (1_000, Storage::Tmpfs, 1) => row(Figure::PerSecond, 2.0, 3.0),
            (1_000, Storage::Tmpfs, _) => row(Figure::PerSecond, 1.8, 2.5),
            (1_000, Storage::Disk, _) => row(Figure::PerSecond, 1.5, 2.5),
            (8_000, _, _) => row(Figure::PerSecond, 3.0, 8.0),
            _ => shown(Figure::PerSecond),
        };
        let mut rows = vec![throughput, shown(Figure::P99)];
        if clients == 1_000 {
            rows.push(row(Figure::CpuMicros, 0.5, 0.35));
        }
        let conns = clients.min(100);
        let line = format!("put --clients={clients} --conns={conns}");
        let mut one = load(format!("put, {clients} clients"), line, rows, args);
        one.point = Some(("put", clients as f64));
        loads.push(one);
    }
    let rows = vec![shown(Figure::PerSecond), shown(Figure::P99)];
    let line = "txn --clients=256 --conns=100";
    loads.push(load("compare-and-put, 256 clients".into(), line.into(), rows.clone(), args));
    let line = "kubernetes --clients=64 --conns=20";
    loads.push(load("kubernetes, 64 clients".into(), line.into(), rows.clone(), args));
    let line = "lease-grant --clients=256 --conns=100";
    loads.push(load("lease grant, 256 clients".into(), line.into(), rows.clone(), args));
    let line = "lease-keep-alive --clients=256 --conns=100";
    loads.push(load("lease keep-alive, 256 clients".into(), line.into(), rows, args));
    loads
}

fn reads(args: &Compare) -> Vec<Load> {
    let clients = 1_000.min(args.clients_max);
    let get = format!("range --clients={clients} --conns=100");
    let get_rows = vec![
        row(Figure::PerSecond, 1.8, 2.5),
        shown(Figure::P99),
        row(Figure::CpuMicros, 0.5, 0.35),
    ];
    let local = format!("{get} --serializable");
    let page = "range --read=page --limit=500 --val-size=1024 --clients=64 --conns=20";
    let count = "range --read=count --keys=100000 --clients=64 --conns=20";
    vec![
        load(format!("get, {clients} clients"), get, get_rows, args),
        load(
            format!("serializable get, {clients} clients"),
            local,
            vec![row(Figure::PerSecond, 2.0, 2.5)],
            args,
        ),
        load(
            "range of 500 x 1 KB".into(),
            page.into(),
            vec![row(Figure::PerSecond, 2.0, 3.0)],
            args,
        ),
        load("count of 100,000 keys".into(), count.into(), vec![shown(Figure::PerSecond)], args),
    ]
}

fn watches(args: &Compare) -> Vec<Load> {
    let mut loads = Vec::new();
    for (prev_kv, must, goal) in [(false, 3.0, 6.0), (true, 5.0, 12.0)] {
        for watchers in [1, 10, 100, 1_000] {
            let (name, flag) = if prev_kv { (" with prev_kv", " --prev-kv") } else { ("", "") };
            let line = format!("watch-fanout --clients=1 --conns=100 --watchers={watchers}{flag}");
            let rows = if watchers == 1_000 {
                vec![row(Figure::Events, must, goal), row(Figure::P99, 0.5, 0.3)]
            } else {
                vec![shown(Figure::Events)]
            };
            let mut one = load(format!("fan-out to {watchers} watchers{name}"), line, rows, args);
            one.point =
                Some((if prev_kv { "fan-out-prev-kv" } else { "fan-out" }, f64::from(watchers)));
            loads.push(one);
        }
    }
    loads
}

/// Memory with so many keys, and how long a killed member takes to serve again.
fn sizes(keys: u64, args: &Compare) -> Vec<Load> {
    let goal = keys == 1_000_000;
    let figure =
        |figure, must, wanted| if goal { row(figure, must, wanted) } else { shown(figure) };
    let line = format!("range --read=key --keys={keys} --key-size=64 --val-size=256 --clients=64");
    let mut memory =
        load(format!("memory with {keys} keys"), line, vec![figure(Figure::Rss, 0.7, 0.5)], args);
    memory.point = Some(("memory", keys as f64));
    let recovery = Load {
        id: format!("SIGKILL to serving with {keys} keys"),
        measure: Measure::Recovery,
        rows: vec![figure(Figure::Seconds, 0.5, 0.25)],
        point: Some(("recovery", keys as f64)),
    };
    vec![memory, recovery]
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: Bench,
}

/// The load of a command line on these endpoints.
pub(super) fn parse(line: &str, endpoints: &[String], pids: &[u32]) -> anyhow::Result<Bench> {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let flags = [
        format!("--endpoints={}", endpoints.join(",")),
        format!("--server-pid={}", pids.join(",")),
    ];
    let words = std::iter::once("bench").chain(line.split_whitespace()).map(str::to_owned);
    let line = Line::try_parse_from(words.chain(flags)).with_context(|| line.to_owned())?;
    Ok(line.bench)
}

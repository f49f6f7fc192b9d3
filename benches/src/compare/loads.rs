//! Which loads are compared, and what each must come to.
//!
//! Owns: the rows of the table with their bounds. Must not know: how a load is made; it is named
//! by its command line, so that each row can be run alone. A newcomer's trap: loads of one group
//! share a server and its data, in order; groups start both servers anew, one after the other.

use anyhow::Context as _;
use clap::Parser;

use super::figure::{Bound, Figure, Row};
use super::{Compare, Storage};
use crate::load::args::Bench;

/// What is done.
#[derive(Clone, Debug)]
pub(super) enum Measure {
    /// A load, as a command line of `kijabi bench`; `{rate}` stands for 70 % of etcd's own peak.
    Load(String),
    /// A member is killed and started again.
    Recovery,
    /// The leader is killed; how long until a write is acknowledged.
    LeaderLoss,
}

/// A load and its rows.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) id: String,
    pub(super) measure: Measure,
    pub(super) rows: Vec<Row>,
    /// The series it is a point of, and where on the axis.
    pub(super) point: Option<(&'static str, f64)>,
}

impl Load {
    fn new(id: impl Into<String>, line: impl Into<String>, rows: Vec<Row>) -> Self {
        Self { id: id.into(), measure: Measure::Load(line.into()), rows, point: None }
    }

    fn at(mut self, series: &'static str, x: f64) -> Self {
        self.point = Some((series, x));
        self
    }
}

/// Loads on one server.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) loads: Vec<Load>,
    /// Only in the first round: how cost grows, and what takes minutes.
    pub(super) once: bool,
    /// etcd must come first: the rate follows from what it does.
    pub(super) paced: bool,
}

/// The load whose throughput on etcd is its peak.
pub(super) const PEAK: &str = "put, 256 clients, closed loop";

/// All groups of one setup.
pub(super) fn plan(storage: Storage, members: usize, args: &Compare) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut add = |once, loads: Vec<Load>| {
        groups.push(Group { loads, once, paced: false });
    };
    match (storage, members) {
        (Storage::Tmpfs, 1) => {
            add(false, puts(storage, members, &[1, 8, 64, 256, 1_000]));
            add(false, puts(storage, members, &[8_000]));
            add(false, others());
            add(false, reads(1_000));
            for prev_kv in [false, true] {
                add(false, fan_out(prev_kv));
            }
            add(false, idle());
            add(true, behind());
            add(true, value_sizes());
        }
        (Storage::Disk, 1) => {
            add(false, puts(storage, members, &[1, 64, 1_000]));
            add(false, puts(storage, members, &[8_000]));
            add(true, large(args.store_gib));
        }
        (Storage::Tmpfs, 3) => {
            add(false, puts(storage, members, &[1, 64, 1_000]));
            add(false, puts(storage, members, &[8_000]));
            add(false, reads(1_000).into_iter().take(2).collect());
            add(false, vec![leader_loss()]);
        }
        (Storage::Disk, 3) => add(false, puts(storage, members, &[1, 1_000])),
        _ => add(true, puts(storage, members, &[64, 1_000])),
    }
    if members == 1 {
        groups.push(Group { loads: at_peak(), once: false, paced: true });
        let mut keys = 10_000;
        while keys <= args.keys_max {
            let rows = keys == 1_000_000;
            let once = !rows || storage == Storage::Disk;
            groups.push(Group { loads: sizes(keys, storage), once, paced: false });
            keys *= 10;
        }
    }
    for group in &mut groups {
        let wanted = |load: &Load| {
            let contained = |only: &String| load.id.contains(only.as_str());
            args.only.is_empty() || args.only.iter().any(contained)
        };
        // What paces a group belongs to it, and so does what fills the store for the others.
        let any = group.loads.iter().any(wanted);
        let paced = group.paced;
        let needs = |load: &Load| match &load.measure {
            Measure::Load(line) => line.contains("--filled"),
            Measure::Recovery => true,
            Measure::LeaderLoss => false,
        };
        let fills = |load: &Load| match &load.measure {
            Measure::Load(line) => line.starts_with("range") && !line.contains("--filled"),
            _ => false,
        };
        let any_needs = group.loads.iter().any(|load| wanted(load) && needs(load));
        group.loads.retain(|load| {
            wanted(load) || any && paced && load.id == PEAK || any_needs && fills(load)
        });
    }
    groups.retain(|group| !group.loads.is_empty());
    groups
}

fn puts(storage: Storage, members: usize, all: &[usize]) -> Vec<Load> {
    let put = |clients: &usize| {
        let clients = *clients;
        let per_second = Figure::PerSecond;
        let throughput = match (clients, storage, members) {
            (1, Storage::Disk, _) => Row::ratio(per_second, 0.95, 1.05),
            (1, Storage::Tmpfs, 1) => Row::ratio(per_second, 1.3, 2.0),
            (1_000, Storage::Tmpfs, 1) => Row::ratio(per_second, 2.0, 3.0),
            (1_000, Storage::Tmpfs, 3) => Row::ratio(per_second, 1.8, 2.5),
            (1_000, Storage::Disk, 1) => Row::ratio(per_second, 1.5, 2.5),
            (8_000, _, _) => Row::ratio(per_second, 3.0, 8.0),
            _ => Row::shown(per_second),
        };
        let cpu = match clients {
            1_000 => Row::ratio(Figure::CpuMicros, 0.5, 0.35),
            _ => Row::shown(Figure::CpuMicros),
        };
        let rows = vec![throughput, cpu, Row::shown(Figure::P99)];
        let line = format!("put --clients={clients} --conns={}", clients.min(100));
        Load::new(format!("put, {clients} clients"), line, rows).at("put", clients as f64)
    };
    all.iter().map(put).collect()
}

fn others() -> Vec<Load> {
    let rows = || {
        vec![Row::shown(Figure::PerSecond), Row::shown(Figure::CpuMicros), Row::shown(Figure::P99)]
    };
    vec![
        Load::new("compare-and-put, 256 clients", "txn --clients=256 --conns=100", rows()),
        Load::new("reads and puts, 256 clients", "mixed --clients=256 --conns=100", rows()),
        Load::new("kubernetes, 64 clients", "kubernetes --clients=64 --conns=20", rows()),
        Load::new("lease grant, 256 clients", "lease-grant --clients=256 --conns=100", rows()),
        Load::new(
            "lease keep-alive, 256 clients",
            "lease-keep-alive --clients=256 --conns=100",
            rows(),
        ),
    ]
}

fn reads(clients: usize) -> Vec<Load> {
    let get = format!("range --clients={clients} --conns=100");
    let cpu = Row::ratio(Figure::CpuMicros, 0.5, 0.35);
    let rows =
        |must, goal| vec![Row::ratio(Figure::PerSecond, must, goal), cpu, Row::shown(Figure::P99)];
    let shown = || vec![Row::shown(Figure::PerSecond), Row::shown(Figure::CpuMicros)];
    let page = "range --read=page --limit=500 --val-size=1024 --clients=64 --conns=20";
    vec![
        Load::new(format!("get, {clients} clients"), get.clone(), rows(1.8, 2.5)),
        Load::new(
            format!("serializable get, {clients} clients"),
            format!("{get} --serializable --filled"),
            rows(2.0, 2.5),
        ),
        Load::new(
            "range of 500 x 1 KB",
            page,
            vec![Row::ratio(Figure::PerSecond, 2.0, 3.0), Row::shown(Figure::CpuMicros)],
        ),
        Load::new(
            "list of 10,000 x 1 KB at once",
            "range --read=all --filled --clients=4 --conns=4",
            shown(),
        ),
        Load::new(
            "the same in pages of 500",
            "range --read=pages --filled --clients=4 --conns=4",
            shown(),
        ),
    ]
}

fn fan_out(prev_kv: bool) -> Vec<Load> {
    let (name, flag) = if prev_kv { (" with prev_kv", " --prev-kv") } else { ("", "") };
    let (must, goal) = if prev_kv { (5.0, 12.0) } else { (3.0, 6.0) };
    let series = if prev_kv { "fan-out with prev_kv" } else { "fan-out" };
    let fan = |watchers: u32| {
        let line = format!("watch-fanout --clients=1 --conns=100 --watchers={watchers}{flag}");
        let rows = if watchers == 1_000 {
            vec![Row::ratio(Figure::Events, must, goal), Row::shown(Figure::P99)]
        } else {
            vec![Row::shown(Figure::Events)]
        };
        Load::new(format!("fan-out to {watchers} watchers{name}"), line, rows)
            .at(series, f64::from(watchers))
    };
    let mut loads: Vec<Load> = [1, 10, 100, 1_000].into_iter().map(fan).collect();
    let line = format!("watch-latency --clients=8 --conns=100 --watchers=1000 --rate=50{flag}");
    let rows = vec![Row::ratio(Figure::P99, 0.5, 0.3), Row::shown(Figure::EventsP99)];
    loads.push(Load::new(format!("50 puts/s with 1,000 watchers{name}"), line, rows));
    loads
}

fn idle() -> Vec<Load> {
    let each =
        Row { figure: Figure::Each, must: Some(Bound::Ratio(0.6)), goal: Some(Bound::Ours(12.0)) };
    vec![
        Load::new(
            "1,000 idle watches, a connection each",
            "watch-idle --watchers=1000 --conns=1000",
            vec![each],
        ),
        Load::new(
            "100,000 idle watches",
            "watch-idle --watchers=100000 --per-stream=100 --conns=100",
            vec![Row::ours(Figure::Rss, 500.0)],
        ),
    ]
}

fn behind() -> Vec<Load> {
    let rows =
        || vec![Row::shown(Figure::PerSecond), Row::shown(Figure::P99), Row::shown(Figure::Max)];
    let with = [&rows()[..], &[Row::shown(Figure::CaughtUp)]].concat();
    vec![
        Load::new(
            "puts with a watcher 500,000 revisions behind",
            "watch-behind --clients=64 --conns=32",
            with,
        ),
        Load::new("the same store without it", "put --clients=64 --conns=32", rows()),
    ]
}

fn value_sizes() -> Vec<Load> {
    let put = |bytes: u32| {
        let rows = vec![Row::shown(Figure::PerSecond), Row::shown(Figure::P99)];
        let line = format!("put --clients=64 --conns=32 --keys=1000 --val-size={bytes}");
        Load::new(format!("put of {bytes} bytes, 64 clients"), line, rows)
            .at("value size", f64::from(bytes))
    };
    [64, 256, 1_024, 4_096, 16_384, 65_536, 262_144].into_iter().map(put).collect()
}

fn leader_loss() -> Load {
    Load {
        id: "leader killed to first write".into(),
        measure: Measure::LeaderLoss,
        rows: vec![Row::ratio(Figure::Seconds, 1.0, 0.7)],
        point: None,
    }
}

fn at_peak() -> Vec<Load> {
    let pause = "mixed --reads=0 --keys=100000 --clients=256 --conns=100 --rate={rate}";
    vec![
        Load::new(PEAK, "put --clients=256 --conns=100", vec![Row::shown(Figure::PerSecond)]),
        Load::new(
            "puts at 70 % of etcd's peak",
            "put --clients=256 --conns=100 --rate={rate}",
            vec![
                Row::ratio(Figure::P99, 0.7, 0.4),
                Row::shown(Figure::P50),
                Row::shown(Figure::CpuMicros),
            ],
        ),
        Load::new(
            "the same with compaction, defragmentation and a snapshot",
            format!("{pause} --maintenance"),
            vec![
                Row::ours(Figure::Max, 50.0),
                Row { figure: Figure::MaxOverP50, must: None, goal: Some(Bound::Ours(10.0)) },
            ],
        ),
    ]
}

/// Memory with so many keys, what reads cost, and how long a killed member takes to serve again.
fn sizes(keys: u64, storage: Storage) -> Vec<Load> {
    let goal = keys == 1_000_000 && storage == Storage::Tmpfs;
    let row = |figure, must, wanted| {
        if goal { Row::ratio(figure, must, wanted) } else { Row::shown(figure) }
    };
    let common = format!("--keys={keys} --key-size=64 --val-size=256");
    let one = |name: &str, line: &str, rows: Vec<Row>| {
        Load::new(format!("{name} with {keys} keys"), format!("{line} {common}"), rows)
    };
    let latency = || vec![Row::shown(Figure::P50), Row::shown(Figure::P99)];
    let (memory, own) = (row(Figure::Rss, 0.7, 0.5), Row::shown(Figure::RssOwn));
    let n = keys as f64;
    let recovery = Load {
        id: format!("SIGKILL to serving with {keys} keys"),
        measure: Measure::Recovery,
        rows: if goal {
            vec![Row::ratio(Figure::Seconds, 0.5, 0.25), Row::ours(Figure::Seconds, 1.0)]
        } else {
            vec![Row::shown(Figure::Seconds)]
        },
        point: Some(("recovery", n)),
    };
    vec![
        one("memory", "range --read=key --clients=64", vec![memory, own]).at("memory", n),
        one("get", "range --filled --clients=1 --conns=1", latency()).at("get", n),
        one("count", "range --read=count --filled --clients=1 --conns=1", latency()).at("count", n),
        one("page of 500", "range --read=page --filled --clients=1 --conns=1", latency())
            .at("page", n),
        one(
            "put",
            "put --clients=64 --conns=32",
            vec![Row::shown(Figure::PerSecond), Row::shown(Figure::P99)],
        )
        .at("put by keys", n),
        recovery,
    ]
}

/// A store larger than memory should have to be.
fn large(gib: u64) -> Vec<Load> {
    const VALUE_BYTES: u64 = 16_384;
    let keys = (gib << 30) / VALUE_BYTES;
    if keys == 0 {
        return Vec::new();
    }
    let line = format!("range --read=key --keys={keys} --val-size={VALUE_BYTES} --clients=16");
    let rows = vec![Row::shown(Figure::Rss), Row::shown(Figure::RssOwn), Row::shown(Figure::P99)];
    vec![Load::new(format!("a store of {gib} GiB"), line, rows)]
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: Bench,
}

/// The load of a command line on these endpoints.
pub(super) fn parse(
    line: &str,
    args: &Compare,
    endpoints: &[String],
    pids: &[u32],
) -> anyhow::Result<Bench> {
    // Compaction and the like need some time, and so does a first answer to each of thousands.
    let many = line.contains("--clients=8000") && args.clients_max >= 8_000;
    let (each, warm_up) = match () {
        () if many => (args.each * 3, args.each),
        () if line.contains("--maintenance") => (args.each * 2, args.each / 4),
        () => (args.each, args.each / 4),
    };
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let flags = [
        format!("--duration={}ms", each.as_millis()),
        format!("--warm-up={}ms", warm_up.as_millis()),
        format!("--endpoints={}", endpoints.join(",")),
        format!("--server-pid={}", pids.join(",")),
        "--quiet".to_owned(),
    ];
    let words = std::iter::once("bench").chain(line.split_whitespace()).map(str::to_owned);
    let parsed = Line::try_parse_from(words.chain(flags)).with_context(|| line.to_owned())?;
    let mut bench = parsed.bench;
    bench.common.clients = bench.common.clients.min(args.clients_max);
    bench.common.conns = bench.common.conns.min(args.conns_max);
    Ok(bench)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_can_be_parsed_and_names_are_told_apart() {
        #[derive(Parser)]
        struct Own {
            #[command(flatten)]
            compare: Compare,
        }
        let args = Own::try_parse_from(["compare", "--store-gib=30"]).unwrap().compare;
        for storage in [Storage::Tmpfs, Storage::Disk] {
            for members in [1, 3, 5] {
                let mut names = std::collections::BTreeSet::new();
                for load in plan(storage, members, &args).into_iter().flat_map(|g| g.loads) {
                    if let Measure::Load(line) = &load.measure {
                        let line = line.replace("{rate}", "100");
                        parse(&line, &args, &["http://h:1".into()], &[1]).unwrap();
                    }
                    assert!(names.insert(load.id.clone()), "{} twice", load.id);
                }
                assert!(!names.is_empty());
            }
        }
    }

    #[test]
    fn a_paced_load_brings_what_paces_it() {
        #[derive(Parser)]
        struct Own {
            #[command(flatten)]
            compare: Compare,
        }
        let args = Own::try_parse_from(["compare", "--only=70 %"]).unwrap().compare;
        let groups = plan(Storage::Tmpfs, 1, &args);
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].loads[0].id, PEAK);
        let only = "--only=SIGKILL to serving with 10000 keys";
        let args = Own::try_parse_from(["compare", only]).unwrap().compare;
        let groups = plan(Storage::Tmpfs, 1, &args);
        let names: Vec<&str> = groups[0].loads.iter().map(|load| &load.id[..]).collect();
        assert_eq!(names, ["memory with 10000 keys", "SIGKILL to serving with 10000 keys"]);
    }
}

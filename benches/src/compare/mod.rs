//! Our store beside an etcd, in one run: the same loads, one after the other, in turns.
//!
//! Owns: the order of rounds, and what is kept of them. Must not know: how a load works. A
//! newcomer's trap: only a ratio of two neighbouring measurements counts, so each round starts
//! both servers anew and the table shows the median of the rounds' ratios with their spread.

mod charts;
mod figure;
mod growth;
mod loads;
mod report;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use figure::{Figure, Value};
use loads::{Group, Load, Measure, PEAK};
use report::{Findings, Setup};
use servers::{Cluster, Program};

use crate::load::args::duration;

/// What `{rate}` in a load's line is of etcd's peak.
const SHARE_OF_PEAK: f64 = 0.7;

/// Compare this program's store with an etcd on this machine.
#[derive(Args, Clone, Debug)]
pub struct Compare {
    /// The etcd to compare with.
    #[arg(long, default_value = "etcd")]
    pub etcd: PathBuf,
    /// The program with our store, or the example `member` of `kijabi-server`; this one if not
    /// given.
    #[arg(long)]
    pub kijabi: Option<PathBuf>,
    /// Rounds; each starts both anew.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Members of the clusters; five only to show how cost grows.
    #[arg(long, value_delimiter = ',', default_value = "1,3,5")]
    pub members: Vec<usize>,
    /// Where the data is.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tmpfs,disk")]
    pub storage: Vec<Storage>,
    /// How long each load is measured; rounds tell more than length does.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub each: Duration,
    /// Largest number of keys of the rows about memory and recovery; 10000000 takes its time.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys_max: u64,
    /// Size of the store that is read while most of it is on disk, in GiB; 30 takes its time.
    #[arg(long, default_value_t = 3)]
    pub store_gib: u64,
    /// Largest number of clients; fewer make the rows mean something else.
    #[arg(long, default_value_t = 8_000)]
    pub clients_max: usize,
    /// Largest number of connections.
    #[arg(long, default_value_t = 1_000)]
    pub conns_max: usize,
    /// Only loads whose name contains this; may be given more than once.
    #[arg(long)]
    pub only: Vec<String>,
    /// Where the report and its charts are written.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
}

/// Where the data of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize)]
pub enum Storage {
    /// In memory: what the program itself costs.
    Tmpfs,
    /// On disk, every commit synced.
    Disk,
}

impl Storage {
    fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Disk => "disk",
        }
    }
}

/// Runs the whole comparison and writes `report.md` and its charts.
///
/// # Errors
/// If a server does not start or a load cannot be made.
pub async fn run(args: Compare) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make {}", args.out.display()))?;
    let own = match &args.kijabi {
        Some(path) => path.clone(),
        None => std::env::current_exe().context("this program's own path")?,
    };
    let programs = [Program::etcd(args.etcd.clone()), Program::kijabi(own)];
    let mut findings = Findings::new(programs[0].version());
    for round in 0..args.rounds.max(1) {
        for storage in &args.storage {
            for members in &args.members {
                let setup = (*storage, *members);
                for group in loads::plan(*storage, *members, &args) {
                    if group.once && round > 0 {
                        continue;
                    }
                    one_group(&programs, setup, round, &group, &args, &mut findings).await?;
                    // What there is so far is worth reading if a later round fails.
                    report::write(&args, &findings)?;
                }
            }
        }
    }
    eprintln!("{}", args.out.join("report.md").display());
    Ok(())
}

/// The same loads on both, one right after the other; in every second round ours is first.
async fn one_group(
    programs: &[Program; 2],
    setup: Setup,
    round: usize,
    group: &Group,
    args: &Compare,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let [etcd, kijabi] = programs;
    let order =
        if round.is_multiple_of(2) || group.paced { [etcd, kijabi] } else { [kijabi, etcd] };
    for program in order {
        let what = format!(
            "round {} of {}, {} member(s), {}: {}",
            round + 1,
            args.rounds,
            setup.1,
            setup.0.name(),
            program.name
        );
        eprintln!("{what}");
        let running = async {
            let mut cluster = Cluster::start(program, setup.0, setup.1, args).await?;
            for load in &group.loads {
                let value = one(&mut cluster, setup, round, load, args, findings).await;
                let value = value.with_context(|| load.id.clone())?;
                eprintln!("  {}: {}", load.id, value.shown());
                findings.add(setup, round, load, program.name, value);
            }
            cluster.stop().await;
            anyhow::Ok(())
        };
        running.await.context(what)?;
    }
    Ok(())
}

async fn one(
    cluster: &mut Cluster,
    setup: Setup,
    round: usize,
    load: &Load,
    args: &Compare,
    findings: &Findings,
) -> anyhow::Result<Value> {
    let line = match &load.measure {
        Measure::Load(line) => line,
        Measure::Recovery => return Ok(Value::Seconds(cluster.kill_and_recover().await?)),
        Measure::LeaderLoss => return Ok(Value::Seconds(cluster.lose_leader().await?)),
    };
    let mut line = line.clone();
    if line.contains("{rate}") {
        let peaks = findings.figures(setup, PEAK, "etcd", Figure::PerSecond);
        let peak = peaks.get(&round).context("etcd's peak is not known")?;
        line = line.replace("{rate}", &format!("{:.0}", peak * SHARE_OF_PEAK));
    }
    let bench = loads::parse(&line, args, &cluster.endpoints(), &cluster.pids())?;
    let report = crate::load::measure(&bench).await?;
    if report.errors > 0 {
        let first = report.first_error.clone().unwrap_or_default();
        eprintln!("  {}: {} errors, the first: {first}", load.id, report.errors);
    }
    Ok(Value::Report(Box::new(report)))
}

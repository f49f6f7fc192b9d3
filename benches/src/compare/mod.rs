//! Our store beside an etcd, in one run: the same loads, one after the other, in turns.
//!
//! Owns: the order of rounds, and what is kept of them. Must not know: how a load works. A
//! newcomer's trap: only a ratio of two neighbouring measurements counts, so each round starts
//! both servers anew and the table shows the median of the rounds' ratios with their spread.

mod charts;
mod loads;
mod report;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use loads::{Measure, Plan};
use report::Findings;
use servers::{Cluster, Program};

use crate::load::args::duration;

/// Compare this program's store with an etcd on this machine.
#[derive(Args, Clone, Debug)]
pub struct Compare {
    /// The etcd to compare with.
    #[arg(long, default_value = "etcd")]
    pub etcd: PathBuf,
    /// The program with our store; this one if not given.
    #[arg(long)]
    pub kijabi: Option<PathBuf>,
    /// Rounds; each starts both anew.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Members of the clusters.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    pub members: Vec<usize>,
    /// Where the data is.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tmpfs,disk")]
    pub storage: Vec<Storage>,
    /// How long each load is measured.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub each: Duration,
    /// Largest number of keys of the rows about memory and recovery.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys_max: u64,
    /// Largest number of clients.
    #[arg(long, default_value_t = 8_000)]
    pub clients_max: usize,
    /// Only loads whose name contains this.
    #[arg(long)]
    pub only: Option<String>,
    /// Where the report and its charts are written.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
}

/// Where the data of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
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
    let mut findings = Findings::default();
    for storage in &args.storage {
        for members in &args.members {
            let plan = Plan::of(*storage, *members, &args);
            for round in 0..args.rounds.max(1) {
                for program in &programs {
                    let what = format!(
                        "{members} member(s), {}, round {} of {}: {}",
                        storage.name(),
                        round + 1,
                        args.rounds,
                        program.name
                    );
                    eprintln!("{what}");
                    one_round(program, *storage, *members, round, &plan, &args, &mut findings)
                        .await
                        .with_context(|| what)?;
                }
                // What there is so far is worth reading if a later round fails.
                report::write(&args, &findings)?;
            }
        }
    }
    eprintln!("{}", args.out.join("report.md").display());
    Ok(())
}

async fn one_round(
    program: &Program,
    storage: Storage,
    members: usize,
    round: usize,
    plan: &Plan,
    args: &Compare,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    for group in &plan.groups {
        let mut cluster = Cluster::start(program, storage, members, &args.out).await?;
        for load in group {
            let endpoints = cluster.endpoints();
            let value = match &load.measure {
                Measure::Load(line) => {
                    let bench = loads::parse(line, &endpoints, &cluster.pids())?;
                    let report = crate::load::measure(&bench).await.context(load.id.clone())?;
                    if report.errors > 0 {
                        let first = report.first_error.clone().unwrap_or_default();
                        eprintln!("  {}: {} errors, the first: {first}", load.id, report.errors);
                    }
                    loads::Value::Report(Box::new(report))
                }
                Measure::Recovery => loads::Value::Seconds(cluster.kill_and_recover().await?),
            };
            eprintln!("  {}: {}", load.id, value.shown());
            findings.add(storage, members, round, load, program.name, value);
        }
        cluster.stop().await;
    }
    Ok(())
}

//! Three members under load and faults: whatever happens, clients see one store that does one thing
//! at a time, and watchers see all of it.
//!
//! `make test` runs a few seeds; `make prove` runs many. A seed that fails is run again by
//! `scripts/prove.sh 1 SEED`, with the number of members before it if it is not three.

#![allow(clippy::print_stdout, reason = "what a run was like is its result")]

use std::time::Duration;

use kijabi_tests::faults::{ClusterProgram, Plan, Report, run};

/// How long faults go on.
const SPAN: Duration = Duration::from_secs(20);
/// In the quick runs.
const QUICK_SPAN: Duration = Duration::from_secs(9);
/// Fewer requests than that are no load, whatever the machine does beside.
const REQUESTS_MIN: usize = 300;

/// As many clients as have requests enough under way in the long runs.
const CLIENTS: u64 = 96;
/// In the quick runs, whose members may have been built without optimisation.
const QUICK_CLIENTS: u32 = 48;

fn plan(seed: u64, members: usize, span: Duration) -> Plan {
    Plan {
        program: ClusterProgram::Kijabi,
        members,
        seed,
        span,
        clients: QUICK_CLIENTS,
        watchers: 12,
        replace: false,
    }
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Runs a plan, which must end well and must have been worth it. Returns requests a second.
async fn prove(plan: &Plan) -> Result<f64, String> {
    let (seed, members) = (plan.seed, plan.members);
    let report: Report = run(plan).await;
    println!("seed {seed}, {members} members: {report}");
    let again = format!("KIJABI_PROVE_MEMBERS={members} scripts/prove.sh 1 {seed}");
    let worth = report.requests.0 > REQUESTS_MIN && !report.faults.is_empty();
    match (report.violations.is_empty(), worth) {
        (true, true) => Ok(report.rate),
        (true, false) => Err(format!("seed {seed} proves nothing: no load or no faults")),
        (false, _) => Err(format!("seed {seed} failed; run it again by: {again}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_under_kills_pauses_and_compactions() {
    prove(&plan(1, 1, QUICK_SPAN)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_under_kills_pauses_partitions_and_compactions() {
    prove(&plan(2, 3, QUICK_SPAN)).await.unwrap();
}

/// The long part: `scripts/prove.sh`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes to hours: make prove"]
async fn many_seeds() {
    let (runs, first) = (setting("KIJABI_PROVE_RUNS", 30), setting("KIJABI_PROVE_SEED", 1000));
    let members = setting("KIJABI_PROVE_MEMBERS", 3) as usize;
    let span = Duration::from_secs(setting("KIJABI_PROVE_SECONDS", SPAN.as_secs()));
    // The harness is itself tried on a store that is known: `etcd` must be Debian's.
    let etcd = std::env::var("KIJABI_PROVE_PROGRAM").is_ok_and(|name| name == "etcd");
    let program = if etcd { ClusterProgram::Etcd } else { ClusterProgram::Kijabi };
    let clients = setting("KIJABI_PROVE_CLIENTS", CLIENTS) as u32;
    let (mut rates, mut failures) = (Vec::new(), Vec::new());
    for seed in first..first + runs {
        let replace = members >= 3 && seed % 2 == 1;
        match prove(&Plan { program, replace, clients, ..plan(seed, members, span) }).await {
            Ok(rate) => rates.push(rate),
            Err(why) => failures.push(why),
        }
    }
    rates.sort_by(f64::total_cmp);
    let rate = |at: usize| rates.get(at).copied().unwrap_or_default();
    println!(
        "{} passed, {} failed; requests/s: least {:.0}, median {:.0}, most {:.0}",
        rates.len(),
        failures.len(),
        rate(0),
        rate(rates.len() / 2),
        rate(rates.len().saturating_sub(1))
    );
    assert!(failures.is_empty(), "{failures:#?}");
}

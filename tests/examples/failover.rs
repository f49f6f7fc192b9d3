//! How long nobody can write after the leader has gone: three members at etcd's default timings.
//!
//! Usage: `failover [kijabi|etcd] [RUNS] [kill|term]`. Clients ask both members that are left, again
//! and again; the time is from the signal to the first write that is acknowledged under another
//! leader. With `term`, the leader is asked to stop and may hand its office over. The program is the
//! one built beside this one, or the one that `KIJABI_BINARY` names.
//!
//! A machine that is shared stands still at times, for all programs at once. How late a thread is
//! that only sleeps for a millisecond, again and again, tells when; runs in which it was not late
//! are told apart from the others.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use kijabi_base::tasks;
use kijabi_proto::etcdserverpb::PutRequest;
use kijabi_tests::etcd::Client;
use kijabi_tests::faults::{Cluster, ClusterProgram};
use tokio::sync::mpsc;

/// How often a write is tried at each member.
const INTERVAL: Duration = Duration::from_millis(5);
/// A cluster without a leader for that long has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a cluster is left alone before its leader is ended.
const CALM: Duration = Duration::from_millis(1500);

/// A thread that is woken this much too late was waiting for the machine.
const LATE: Duration = Duration::from_millis(10);
/// How late the watchman was at most since somebody looked last, in microseconds.
static LATENESS: AtomicU64 = AtomicU64::new(0);

/// Sleeps for a millisecond, again and again, and notes how much longer it took.
fn watch_machine() {
    const NAP: Duration = Duration::from_millis(1);
    loop {
        let before = clock::now();
        std::thread::sleep(NAP);
        let late = before.elapsed().saturating_sub(NAP);
        LATENESS.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
    }
}

/// One time without a leader, and how late the machine was during it.
struct Run {
    time: Duration,
    lateness: Duration,
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let milliseconds = |at: usize| times.get(at).map_or(0, Duration::as_millis);
    println!(
        "{what}: {} failovers, median {} ms, worst {} ms, best {} ms",
        times.len(),
        milliseconds(times.len() / 2),
        milliseconds(times.len().saturating_sub(1)),
        milliseconds(0)
    );
}

/// Tries to write at one member until somebody has succeeded under another leader.
async fn write_until(client: Client, term: u64, first: mpsc::Sender<Instant>) {
    while !first.is_closed() {
        let (mut kv, first) = (client.kv(), first.clone());
        tasks::spawn("write", async move {
            let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
            if let Ok(answer) = kv.put(put).await
                && answer.get_ref().header.as_ref().is_some_and(|header| header.raft_term > term)
            {
                // Nobody listens any more once one has succeeded.
                let _ = first.try_send(clock::now());
            }
        });
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn fail_over(cluster: &mut Cluster, kill: bool) -> Run {
    cluster.wait_until_served().await;
    tokio::time::sleep(CALM).await;
    let leader = cluster.leader().await.expect("a cluster that serves has a leader");
    let status = cluster.status(leader).await.expect("a leader that serves");
    let (sender, mut first) = mpsc::channel(1);
    let mut clients = Vec::new();
    for member in (0..cluster.size()).filter(|member| *member != leader) {
        clients.push(cluster.connect(member).await.expect("a member listens"));
    }
    let term = status.raft_term;
    LATENESS.store(0, Ordering::Relaxed);
    let before = clock::now();
    let ended = if kill {
        cluster.kill(leader);
        before
    } else {
        // By a program: its own start is nobody's time without a leader.
        cluster.signal(leader, "TERM");
        clock::now()
    };
    let writers = clients.into_iter().map(|client| write_until(client, term, sender.clone()));
    let writers: Vec<_> = writers.map(|writer| tasks::spawn("writer", writer)).collect();
    let acknowledged = tokio::time::timeout(LIMIT, first.recv()).await;
    let acknowledged = acknowledged.expect("a write in time").expect("writers go on");
    let lateness = Duration::from_micros(LATENESS.load(Ordering::Relaxed));
    first.close();
    for writer in writers {
        // It ends as soon as it looks.
        let _ = writer.await;
    }
    cluster.end(leader);
    cluster.launch(leader);
    Run { time: acknowledged - ended, lateness }
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "kijabi".to_owned());
    let runs: usize = arguments.next().map_or(30, |text| text.parse().expect("RUNS is a number"));
    let program = match name.as_str() {
        "kijabi" => ClusterProgram::Kijabi,
        "etcd" => ClusterProgram::Etcd,
        other => panic!("kijabi or etcd, not {other}"),
    };
    let how = arguments.next().unwrap_or_else(|| "kill".to_owned());
    let kill = match how.as_str() {
        "kill" => true,
        "term" => false,
        other => panic!("kill or term, not {other}"),
    };
    let _watchman = std::thread::spawn(watch_machine);
    let mut cluster = Cluster::start(program, 3, &[]).await;
    let mut all = Vec::new();
    for _ in 0..runs {
        all.push(fail_over(&mut cluster, kill).await);
    }
    print(&format!("{name}, {how}"), all.iter().map(|run| run.time).collect());
    let calm = all.iter().filter(|run| run.lateness < LATE).map(|run| run.time);
    print(&format!("{name}, {how}, while the machine was at most 10 ms late"), calm.collect());
}

//! One run: members, clients, watchers, faults, then calm, and the verdict.
//!
//! Owns: the phases and the report. Must not know: single faults or requests. A newcomer's trap: a
//! run that asked too little or hit nothing proves nothing; whoever calls this looks at the counts.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kijabi_base::clock;
use kijabi_base::tasks::{self, Shutdown};
use kijabi_proto::etcdserverpb as pb;
use tokio::sync::{RwLock, watch};

use super::cluster::{Cluster, Program};
use super::nemesis::{rage, schedules};
use super::record::Recorder;
use super::traffic::{Shared, client, read_all};
use super::watcher::watcher;
use crate::linear::{self, Answer, Entry, History, Mode, Request, Violation, WatchKind};

/// How long the search for an order may take.
const VERDICT_LIMIT: Duration = Duration::from_secs(120);
/// How much of a run's beginning is also checked without short cuts.
const PLAIN_REVISIONS_MAX: i64 = 600;
const PLAIN_LIMIT: Duration = Duration::from_secs(20);
/// How long everybody may take to be well again after the last fault.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// How long a watcher may take to see the last revision then.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(200);

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose program.
    pub program: Program,
    /// How many members.
    pub members: usize,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// How long faults and clients go on.
    pub span: Duration,
    /// How many clients, each with one request under way.
    pub clients: u32,
    /// How many watchers.
    pub watchers: u32,
    /// Whether members are replaced.
    pub replace: bool,
}

/// What it was.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests, and how many of them have an unknown fate.
    pub requests: (usize, usize),
    /// Requests a second.
    pub rate: f64,
    /// Watches, and the events they showed.
    pub watched: (usize, usize),
    /// Revisions there were.
    pub revisions: i64,
    /// Every fault, with its time.
    pub faults: Vec<String>,
    /// How long the verdict took.
    pub verdict: Duration,
    /// Everything that was wrong.
    pub violations: Vec<Violation>,
    /// Where the members' logs and the history are, if anything was wrong.
    pub evidence: Option<PathBuf>,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (requests, unknown) = self.requests;
        let (watches, events) = self.watched;
        let (rate, revisions) = (self.rate, self.revisions);
        let replaced = self.faults.iter().filter(|fault| fault.ends_with("replaced")).count();
        let faults = self.faults.len() - replaced;
        write!(
            f,
            "{requests} requests ({rate:.0}/s, {unknown} of unknown fate), {revisions} revisions, \
             {watches} watches with {events} events, {faults} faults, {replaced} members replaced; \
             verdict in {:.1} s: ",
            self.verdict.as_secs_f64()
        )?;
        match self.violations.as_slice() {
            [] => write!(f, "right"),
            some => {
                const SHOWN_MAX: usize = 5;
                writeln!(f, "{} VIOLATIONS", some.len())?;
                for violation in some.iter().take(SHOWN_MAX) {
                    let text: String = violation.to_string().chars().take(1500).collect();
                    writeln!(f, "  {text}")?;
                }
                writeln!(f, "  faults: {:#?}", self.faults)?;
                write!(f, "  evidence: {:?}", self.evidence)
            }
        }
    }
}

/// Runs a plan.
pub async fn run(plan: &Plan) -> Report {
    // Snapshots and purges happen every few seconds, so that a member that was away needs one.
    let flags: &[&str] = match plan.program {
        Program::Kijabi => &["--snapshot-count=1000", "--snapshot-catchup-entries=200"],
        Program::Etcd => &["--snapshot-count=1000"],
    };
    let cluster = Cluster::start(plan.program, plan.members, flags).await;
    let shared = Shared {
        cluster: Arc::new(RwLock::new(cluster)),
        recorder: Recorder::new(),
        seen: Arc::new(AtomicI64::new(1)),
        collected: Arc::new(AtomicI64::new(1)),
        stop: Shutdown::new(),
        give_up: Shutdown::new(),
        seed: plan.seed,
    };
    let (goal, goal_seen) = watch::channel(None);
    let clients: Vec<_> =
        (0..plan.clients).map(|n| tasks::spawn("client", client(shared.clone(), n))).collect();
    let watchers: Vec<_> = (0..plan.watchers)
        .map(|n| tasks::spawn("watcher", watcher(shared.clone(), n, goal_seen.clone())))
        .collect();
    let steps = schedules(plan.seed, plan.members, plan.span, plan.replace);
    let lanes: Vec<_> = (1_000_000..)
        .zip(steps)
        .map(|(number, steps)| tasks::spawn("faults", rage(shared.clone(), steps, number)))
        .collect();
    tokio::time::sleep(plan.span).await;
    shared.stop.trigger();
    let mut report = Report::default();
    for lane in lanes {
        report.faults.extend(lane.await.expect("faults do not panic"));
    }
    for client in clients {
        client.await.expect("a client does not panic");
    }
    let seconds = plan.span.as_secs_f64();
    match recover(&shared).await {
        Ok(last) => {
            goal.send_replace(Some(last));
            let waiting = shared.give_up.clone();
            let patience = tasks::spawn("patience", async move {
                tokio::time::sleep(CATCH_UP_LIMIT).await;
                waiting.trigger();
            });
            for ended in join_all(watchers).await {
                if let Err(why) = ended.expect("a watcher does not panic") {
                    report.violations.push(violation("LIVE", why));
                }
            }
            patience.abort();
            report.revisions = last;
            report.violations.extend(same_hashes(&shared, last).await);
            judge(&shared, &mut report, last);
        }
        Err(why) => {
            shared.give_up.trigger();
            join_all(watchers).await;
            report.violations.push(violation("LIVE", why));
            judge(&shared, &mut report, shared.seen.load(Ordering::Relaxed));
        }
    }
    report.rate = report.requests.0 as f64 / seconds;
    if !report.violations.is_empty() {
        let mut cluster = shared.cluster.write().await;
        cluster.keep();
        report.evidence = Some(cluster.folder().to_owned());
    }
    report
}

fn violation(rule: &'static str, what: impl Into<String>) -> Violation {
    Violation { rule, what: what.into() }
}

/// Ends all faults and waits until everybody answers; returns the last revision.
async fn recover(shared: &Shared) -> Result<i64, String> {
    {
        let mut cluster = shared.cluster.write().await;
        cluster.links().heal();
        for member in 0..cluster.size() {
            cluster.pause(member, false);
            cluster.launch(member);
        }
        if let [first, ..] = cluster.crashes() {
            return Err(first.clone());
        }
    }
    let members = shared.cluster.read().await.size();
    let deadline = clock::now() + RECOVERY_LIMIT;
    let mut revisions = vec![None; members];
    loop {
        let mut now = Vec::new();
        for member in 0..members {
            now.push(read_all(shared, member).await);
        }
        // Requests of unknown fate may still be on their way: wait until nothing changes.
        if let [Some(first), ..] = now.as_slice()
            && now.iter().all(|revision| *revision == Some(*first))
            && now == revisions
        {
            return Ok(*first);
        }
        revisions = now;
        if clock::now() >= deadline {
            let cluster = shared.cluster.read().await;
            let silent = revisions.iter().position(Option::is_none).unwrap_or(0);
            return Err(format!(
                "not well {RECOVERY_LIMIT:?} after the last fault: {revisions:?}; member {silent}: {}",
                cluster.output(silent)
            ));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// All members hold the same.
async fn same_hashes(shared: &Shared, revision: i64) -> Option<Violation> {
    let cluster = shared.cluster.read().await;
    let mut hashes = Vec::new();
    for member in 0..cluster.size() {
        let Some(client) = cluster.connect(member).await else { continue };
        let hash = client.maintenance().hash_kv(pb::HashKvRequest { revision }).await;
        hashes.push(hash.map(|r| r.into_inner()).map(|r| (r.hash, r.compact_revision)));
    }
    let known: Vec<_> = hashes.iter().flatten().collect();
    let same = known.len() == cluster.size() && known.windows(2).all(|two| two[0] == two[1]);
    (!same).then(|| violation("HASH", format!("at {revision}: {hashes:?}")))
}

/// Checks the history, in the order found by the short cuts, and its beginning without them.
fn judge(shared: &Shared, report: &mut Report, last: i64) {
    let mut history = shared.recorder.take();
    forget_later(&mut history, last);
    let unknown = history.entries.iter().filter(|entry| entry.returned.is_none()).count();
    report.requests = (history.entries.len(), unknown);
    let events = history.watches.iter().map(|watch| watch.events().count()).sum();
    report.watched = (history.watches.len(), events);
    let started = clock::now();
    report.violations.extend(linear::check(&history, Mode::Placed, VERDICT_LIMIT));
    let plain = linear::check(&beginning(&history), Mode::Plain, PLAIN_LIMIT);
    report.violations.extend(plain);
    report.verdict = clock::now() - started;
    if !report.violations.is_empty() {
        let cluster = shared.cluster.try_read();
        if let Ok(cluster) = cluster {
            // What cannot be written is only missed by whoever looks into it.
            let _ = fs::write(cluster.folder().join("history"), format!("{history:#?}"));
        }
    }
}

/// Requests of unknown fate may take effect after the last read; nobody can place those.
fn forget_later(history: &mut History, last: i64) {
    for watch in &mut history.watches {
        for seen in &mut watch.seen {
            if let WatchKind::Events(events, _) = &mut seen.kind {
                events.retain(|event| event.revision <= last);
            }
        }
        watch.seen.retain(|seen| match &seen.kind {
            WatchKind::Events(events, _) => !events.is_empty(),
            WatchKind::Progress => seen.revision <= last,
            WatchKind::Created | WatchKind::Canceled(..) => true,
        });
    }
}

/// What happened up to a revision before which no request of unknown fate took effect: that is the
/// beginning of the same order, short enough to be found without short cuts.
fn beginning(history: &History) -> History {
    let at = |entry: &Entry| match (&entry.request, entry.answer()) {
        (Request::Range { revision: 0, serializable: false, .. }, Some(Answer::Range(at, _)))
        | (Request::Txn(..), Some(Answer::Txn(at, ..))) => Some(*at),
        _ => None,
    };
    let changes = history.entries.iter().filter(|entry| entry.changed());
    let owned: BTreeSet<i64> = changes.filter_map(at).collect();
    let gap = (2..=PLAIN_REVISIONS_MAX).find(|revision| !owned.contains(revision));
    let last = gap.map_or(PLAIN_REVISIONS_MAX, |gap| gap - 1);
    let placed = history.entries.iter().filter(|entry| at(entry).is_some_and(|at| at <= last));
    History { entries: placed.cloned().collect(), watches: Vec::new() }
}

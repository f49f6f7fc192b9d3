//! Whether this member is alive, ready, healthy.
//!
//! Owns: the checks, their names and their reasons. Must not know: HTTP. A newcomer's trap: a check
//! reads through the store like a client does, so what it waits for has a deadline of its own.

use std::fmt::Write as _;
use std::sync::Arc;

use kijabi_proto::etcdserverpb as pb;

use crate::metrics::Metrics;
use crate::status::EtcdError;
use crate::store::Store;

/// The checks of one member.
pub(super) struct Health {
    store: Store,
    metrics: Arc<Metrics>,
}

/// A health path: all checks of a kind, or one of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    kind: &'static str,
    checks: &'static [Check],
    whole: bool,
}

/// One thing that a health path looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

// === impl Check ===

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }
}

// === impl Probe ===

impl Probe {
    /// The probe of a path, if it is one.
    pub(super) fn of(path: &str) -> Option<Self> {
        for (kind, all) in [("livez", LIVEZ), ("readyz", READYZ)] {
            let Some(rest) = path.strip_prefix('/').and_then(|path| path.strip_prefix(kind)) else {
                continue;
            };
            if rest.is_empty() {
                return Some(Self { kind, checks: all, whole: true });
            }
            let name = rest.strip_prefix('/')?;
            let at = all.iter().position(|check| check.name() == name)?;
            return Some(Self { kind, checks: &all[at..=at], whole: false });
        }
        None
    }
}

// === impl Health ===

impl Health {
    pub(super) fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    /// Why the member is not healthy; nothing if it is.
    pub(super) async fn reason(&self, serializable: bool, excluded: &[String]) -> String {
        let reason = self.find_reason(serializable, excluded).await;
        let metrics = &self.metrics;
        let counter =
            if reason.is_empty() { &metrics.health_success } else { &metrics.health_failures };
        counter.inc();
        if !reason.is_empty() {
            tracing::warn!(reason, "serving /health false");
        }
        reason
    }

    async fn find_reason(&self, serializable: bool, excluded: &[String]) -> String {
        for alarm in self.store.alarms() {
            let name = alarm.alarm().as_str_name();
            if !excluded.iter().any(|excluded| excluded == name) {
                return format!("ALARM {name}");
            }
        }
        if !serializable && self.store.standing().leader == 0 {
            return "RAFT NO LEADER".into();
        }
        let read = if serializable { self.read_here() } else { self.read_agreed().await };
        match read {
            Ok(()) => String::new(),
            Err(why) => format!("RANGE ERROR:{why}"),
        }
    }

    /// Runs the checks; a line each, and whether all are well.
    pub(super) async fn probe(&self, probe: &Probe, excluded: &[String]) -> Result<String, String> {
        let (mut report, mut healthy) = (String::new(), true);
        for check in probe.checks {
            let name = check.name();
            if probe.whole && excluded.iter().any(|excluded| excluded == name) {
                continue;
            }
            let result = self.run(*check).await;
            self.metrics.health_checked(probe.kind, name, result.is_ok());
            match result {
                Ok(()) => _ = writeln!(report, "[+]{name} ok"),
                Err(why) => {
                    healthy = false;
                    tracing::warn!(check = name, why, "a health check failed");
                    let _ = writeln!(report, "[-]{name} failed: {why}");
                }
            }
        }
        if healthy { Ok(report) } else { Err(report) }
    }

    async fn run(&self, check: Check) -> Result<(), String> {
        match check {
            Check::DataCorruption => {
                let alarms = self.store.alarms();
                let corrupt = alarms.iter().any(|alarm| alarm.alarm() == pb::AlarmType::Corrupt);
                if corrupt { Err("alarm activated: CORRUPT".into()) } else { Ok(()) }
            }
            Check::SerializableRead => {
                self.read_here().map_err(|why| format!("range error: {why}"))
            }
            Check::LinearizableRead => {
                self.read_agreed().await.map_err(|why| format!("range error: {why}"))
            }
            Check::NonLearner => {
                let learns = self.store.standing().is_learner;
                if learns { Err("not supported for learner".into()) } else { Ok(()) }
            }
        }
    }

    /// Whether this member can read what it has.
    fn read_here(&self) -> Result<(), String> {
        let request = pb::RangeRequest {
            key: b"a".as_slice().into(),
            limit: 1,
            keys_only: true,
            serializable: true,
            ..Default::default()
        };
        let (plan, state) = {
            let machine = self.store.machine().read();
            (machine.range(&request), machine.state())
        };
        let read = plan.and_then(|plan| plan.fetch(&*state));
        read.map(|_| ()).map_err(|error| EtcdError::from(&error).text().to_owned())
    }

    /// Whether the members agree on what may be read.
    async fn read_agreed(&self) -> Result<(), String> {
        let barrier = self.store.read_barrier().await;
        barrier.map_err(|error| EtcdError::from(&error).text().to_owned())
    }
}

//! The catalogue of invariants: one id each, quoted in code, tests and the simulator.
//!
//! [`check!`](crate::check) panics in debug builds and tests. In release it counts the violation,
//! and for the ids marked fatal it stops the member: better down than wrong.

use std::sync::atomic::{AtomicU64, Ordering};

/// The invariants. The doc line of each is its definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// WAL-1: an entry is acknowledged only after its frame is durable. Fatal.
    Wal1,
    /// WAL-2: votes and entries reach the disk in the order they were issued. Fatal.
    Wal2,
    /// APPLY-1: state and applied index change in one atomic write. Fatal.
    Apply1,
    /// REV-1: the revision grows by exactly one per mutating command.
    Rev1,
    /// WATCH-1: each event once, in revision order, no gap.
    Watch1,
    /// WATCH-2: a revision is delivered whole.
    Watch2,
    /// WATCH-3: progress at r means everything up to r was delivered.
    Watch3,
    /// READ-1: a linearizable read sees every write acknowledged before it began.
    Read1,
    /// LEASE-1: no key expires before TTL after its last acknowledged keepalive.
    Lease1,
    /// AUTH-1: what a caller may do is decided when its request takes effect, with the auth revision
    /// its name was proven at.
    Auth1,
}

impl Invariant {
    /// Whether a violation stops the member.
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::Wal1 | Self::Wal2 | Self::Apply1)
    }
}

static VIOLATIONS: AtomicU64 = AtomicU64::new(0);

/// Violations seen since the process started (the metric `invariant_violations_total`).
pub fn violations() -> u64 {
    VIOLATIONS.load(Ordering::Relaxed)
}

/// Called by [`check!`](crate::check) when a condition does not hold.
#[track_caller]
pub fn violated(id: Invariant, detail: std::fmt::Arguments<'_>) {
    VIOLATIONS.fetch_add(1, Ordering::Relaxed);
    tracing::error!(invariant = ?id, %detail, "invariant violated");
    #[cfg(debug_assertions)]
    panic!("invariant {id:?} violated: {detail}");
    #[cfg(not(debug_assertions))]
    if id.is_fatal() {
        std::process::exit(EXIT_INVARIANT);
    }
}

/// Exit code of a member that stopped itself over a fatal invariant (`EX_SOFTWARE`).
pub const EXIT_INVARIANT: i32 = 70;

/// Checks an invariant of the catalogue: `check!(Rev1, next == prev + 1, "prev={prev}")`.
#[macro_export]
macro_rules! check {
    ($id:ident, $condition:expr, $($detail:tt)+) => {
        if !$condition {
            $crate::invariant::violated($crate::invariant::Invariant::$id, format_args!($($detail)+));
        }
    };
}

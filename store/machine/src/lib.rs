//! The store's state machine: revisions, ranges, transactions, compaction, leases. Pure.
//!
//! Owns: what a committed command means. Must not know: files, sockets, clocks, Raft. A newcomer's
//! trap: state is read through [`state::StateReader`] but never written directly; a batch's changes
//! come out as a [`state::StateBatch`] that the caller stores together with the applied index
//! (APPLY-1).

mod error;
mod id;
mod machine;
pub mod outcome;
pub mod state;

pub use error::Error;
pub use id::LeaseId;
pub use machine::{Machine, Settings};
pub use outcome::{Applied, CompactStep, Outcome, RangePlan, RevisionEvents, TxnPlan};

use kijabi_proto::command::command::Request;
use kijabi_proto::etcdserverpb::TxnRequest;

/// Whether a transaction holds no put and no delete at any depth: it needs no log entry.
pub fn is_read_only(_request: &TxnRequest) -> bool {
    todo!()
}

/// Whether a transaction holds a range, at any depth, that is not serializable: it needs a read
/// barrier first.
pub fn needs_read_barrier(_request: &TxnRequest) -> bool {
    todo!()
}

/// What a request adds to the database at most, in bytes, as etcd's quota counts it (put: 256 plus
/// key and value; lease: 64). 0 = never refused for space.
pub fn quota_cost(_request: &Request) -> u64 {
    todo!()
}

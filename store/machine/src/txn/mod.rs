//! Transactions: deciding the branches, checking what could fail, then carrying it out.
//!
//! Owns: the three passes over a transaction. Must not know: how one put becomes rows. A newcomer's
//! trap: all conditions, those of nested transactions too, are decided on the state before the
//! outermost transaction; a nested one does not see the outer one's writes in its conditions.

mod answer;
mod compare;
mod execute;
mod path;

pub use execute::TxnPlan;
pub(crate) use execute::{delete_range, put, txn};

use kijabi_proto::etcdserverpb::request_op::Request;
use kijabi_proto::etcdserverpb::{RequestOp, TxnRequest};

fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// Whether a transaction holds ranges only: it needs no log entry. A nested transaction counts as
/// a write, as in etcd.
pub fn is_read_only(request: &TxnRequest) -> bool {
    operations(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a read-only transaction holds a range that is not serializable: it needs a read barrier.
pub fn needs_read_barrier(request: &TxnRequest) -> bool {
    !operations(request)
        .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

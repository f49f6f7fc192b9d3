//! What a request costs against the space quota.
//!
//! Owns: etcd's estimate. Must not know: how large the database is. A newcomer's trap: a delete
//! costs nothing, so that a full database can be emptied.

use kijabi_proto::command::command::Request;
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

/// Bytes counted for a key besides key and value.
const KEY_OVERHEAD_BYTES: u64 = 256;
/// Bytes counted for a lease.
const LEASE_OVERHEAD_BYTES: u64 = 64;

/// What a request adds to the database at most, in bytes, as etcd's quota counts it. 0 = never
/// refused for space.
pub fn quota_cost(request: &Request) -> u64 {
    match request {
        Request::Put(put) => put_cost(put),
        Request::Txn(txn) => txn_cost(txn),
        Request::LeaseGrant(_) => LEASE_OVERHEAD_BYTES,
        _ => 0,
    }
}

fn put_cost(put: &PutRequest) -> u64 {
    KEY_OVERHEAD_BYTES + put.key.len() as u64 + put.value.len() as u64
}

/// The dearer of both branches. The depth is bounded by the decoder that made the request.
fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Op::RequestPut(put)) => put_cost(put),
                Some(Op::RequestTxn(nested)) => txn_cost(nested),
                _ => 0,
            })
            .sum()
    };
    branch(&txn.success).max(branch(&txn.failure))
}

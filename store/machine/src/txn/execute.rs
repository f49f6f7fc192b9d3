//! Carrying out puts, deletes and transactions.
//!
//! Owns: the answers to them. Must not know: the log. A newcomer's trap: inside a transaction a
//! read sees the transaction's own writes, and its header says the new revision from the first
//! write on.

use kijabi_base::limits::{RANGE_KEY_BYTES, RANGE_MEMORY_BYTES_MAX};
use kijabi_proto::etcdserverpb::request_op::Request;
use kijabi_proto::etcdserverpb::response_op::Response;
use kijabi_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse,
};

use super::answer::AnswerBudget;
use super::path::{Path, branch, check_lease, decide};
use crate::error::Error;
use crate::id::LeaseId;
use crate::lease::Leases;
use crate::mvcc::{KeyRange, Mvcc, RangePlan, Write};
use crate::state::{StateError, StateView};

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..Default::default() }
}

/// Carries out a put.
pub(crate) fn put(write: &mut Write<'_>, request: &PutRequest) -> Result<PutResponse, Error> {
    check_lease(write.leases, LeaseId(request.lease))?;
    put_checked(write, request)
}

fn put_checked(write: &mut Write<'_>, request: &PutRequest) -> Result<PutResponse, Error> {
    let mut value = request.value.clone();
    let mut lease = LeaseId(request.lease);
    if request.ignore_value || request.ignore_lease {
        let current = write.current(&request.key)?.ok_or(Error::KeyNotFound)?;
        if request.ignore_value {
            value = current.value;
        }
        if request.ignore_lease {
            lease = LeaseId(current.lease);
        }
    }
    let previous = write.put(&request.key, value, lease, request.prev_kv)?;
    let prev_kv = previous.filter(|_| request.prev_kv);
    Ok(PutResponse { header: Some(header(write.next_revision())), prev_kv })
}

/// Carries out a delete.
pub(crate) fn delete_range(
    write: &mut Write<'_>,
    request: &DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Error> {
    AnswerBudget::default().delete(write.mvcc, request)?;
    Ok(delete_checked(write, request)?)
}

fn delete_checked(
    write: &mut Write<'_>,
    request: &DeleteRangeRequest,
) -> Result<DeleteRangeResponse, StateError> {
    let range = KeyRange::of(&request.key, &request.range_end);
    let deleted = write.delete_range(range, request.prev_kv)?;
    Ok(DeleteRangeResponse {
        header: Some(header(write.revision())),
        deleted: deleted.count as i64,
        prev_kvs: deleted.previous,
    })
}

/// Carries out a transaction: decides, checks, and only then writes.
pub(crate) fn txn(write: &mut Write<'_>, request: &TxnRequest) -> Result<TxnResponse, Error> {
    let mut path = decide(write.mvcc, write.leases, request)?;
    AnswerBudget::default().txn(write.mvcc, request, &mut path.iter())?;
    let mut response = execute(write, request, &mut path)?;
    response.header = Some(header(write.revision()));
    Ok(response)
}

fn execute(
    write: &mut Write<'_>,
    request: &TxnRequest,
    path: &mut Path,
) -> Result<TxnResponse, Error> {
    let succeeded = path.pop_front().expect("one decision was made for each transaction");
    let mut responses =
        Vec::with_capacity(request.success.len().min(branch(request, succeeded).len()));
    for op in branch(request, succeeded) {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => {
                let plan = write.mvcc.plan_range(range, write.revision())?;
                Some(Response::ResponseRange(plan.fetch_from(&*write.mvcc)?))
            }
            Some(Request::RequestPut(put)) => Some(Response::ResponsePut(put_checked(write, put)?)),
            Some(Request::RequestDeleteRange(delete)) => {
                Some(Response::ResponseDeleteRange(delete_checked(write, delete)?))
            }
            Some(Request::RequestTxn(nested)) => {
                Some(Response::ResponseTxn(execute(write, nested, path)?))
            }
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    // The header of a nested answer is there but empty, as etcd's is.
    Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
}

/// A read-only transaction whose branch is decided and whose values are still to be fetched.
#[derive(Debug)]
pub struct TxnPlan {
    succeeded: bool,
    revision: i64,
    ranges: Vec<RangePlan>,
}

impl TxnPlan {
    /// Plans a transaction that is [`super::is_read_only`]; other operations are left out. One whose
    /// answer has more keys than can ever be held is refused before they are listed.
    pub(crate) fn of(mvcc: &Mvcc, leases: &Leases, request: &TxnRequest) -> Result<Self, Error> {
        let path = decide(mvcc, leases, request)?;
        let succeeded = path.front().copied().unwrap_or_default();
        let revision = mvcc.revision();
        let ranges = branch(request, succeeded).iter().filter_map(|op| match &op.request {
            Some(Request::RequestRange(range)) => Some(range),
            _ => None,
        });
        let keys: usize = ranges.clone().map(|range| mvcc.range_count(range)).sum();
        if keys as u64 > RANGE_MEMORY_BYTES_MAX / RANGE_KEY_BYTES {
            return Err(Error::AnswerTooLarge);
        }
        let ranges =
            ranges.map(|range| mvcc.plan_range(range, revision)).collect::<Result<_, _>>()?;
        Ok(Self { succeeded, revision, ranges })
    }

    /// Bytes of the records that will be read.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(RangePlan::bytes).sum()
    }

    /// How many rows will be read at most.
    pub fn row_count(&self) -> usize {
        self.ranges.iter().map(RangePlan::row_count).sum()
    }

    /// Reads the values. `Err(Compacted)` means that a compaction overtook the plan: plan again.
    pub fn fetch(self, state: &dyn StateView) -> Result<TxnResponse, Error> {
        let responses = self
            .ranges
            .into_iter()
            .map(|plan| {
                let response = Some(Response::ResponseRange(plan.fetch(state)?));
                Ok(ResponseOp { response })
            })
            .collect::<Result<_, Error>>()?;
        Ok(TxnResponse {
            header: Some(header(self.revision)),
            succeeded: self.succeeded,
            responses,
        })
    }
}

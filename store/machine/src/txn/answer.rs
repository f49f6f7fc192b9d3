//! Bounding what the answer to one command may hold: it is made while the command is applied, on
//! every member, so it must fit in memory whatever the keys hold.
//!
//! Owns: the sum over all reads of a command. Must not know: the answer's form. A newcomer's trap:
//! the decision must be the same on every member and come before the first change; so it counts
//! stored records, which are the same everywhere, and nothing else.
// Differs from etcd: it takes any such command and lets the answer fail on its way.

use std::collections::vec_deque;

use kijabi_base::limits::{ANSWER_BYTES_MAX, ANSWER_ROWS_UNMEASURED};
use kijabi_proto::etcdserverpb::request_op::Request;
use kijabi_proto::etcdserverpb::{DeleteRangeRequest, TxnRequest};

use super::path::branch;
use crate::error::Error;
use crate::mvcc::{KeyRange, Mvcc};

/// What the answer holds so far.
#[derive(Debug, Default)]
pub(super) struct AnswerBudget {
    rows: usize,
    bytes: u64,
}

impl AnswerBudget {
    /// Counts the reads of the branches that `path` takes.
    pub(super) fn txn(
        &mut self,
        mvcc: &Mvcc,
        request: &TxnRequest,
        path: &mut vec_deque::Iter<'_, bool>,
    ) -> Result<(), Error> {
        let succeeded = *path.next().expect("one decision was made for each transaction");
        for op in branch(request, succeeded) {
            match &op.request {
                Some(Request::RequestRange(range)) => {
                    let plan = mvcc.plan_range(range, mvcc.revision())?;
                    self.take(plan.row_count(), plan.bytes())?;
                }
                Some(Request::RequestPut(put)) if put.prev_kv => {
                    self.take_range(mvcc, KeyRange::One(&put.key))?;
                }
                Some(Request::RequestDeleteRange(delete)) => self.delete(mvcc, delete)?,
                Some(Request::RequestTxn(nested)) => self.txn(mvcc, nested, path)?,
                Some(Request::RequestPut(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Counts the previous values of a deletion.
    pub(super) fn delete(
        &mut self,
        mvcc: &Mvcc,
        request: &DeleteRangeRequest,
    ) -> Result<(), Error> {
        if !request.prev_kv {
            return Ok(());
        }
        self.take_range(mvcc, KeyRange::of(&request.key, &request.range_end))
    }

    fn take_range(&mut self, mvcc: &Mvcc, range: KeyRange<'_>) -> Result<(), Error> {
        let (rows, bytes) = mvcc.range_size(range);
        self.take(rows, bytes)
    }

    /// A few rows do not count: each is at most one request long.
    fn take(&mut self, rows: usize, bytes: u64) -> Result<(), Error> {
        self.rows += rows;
        if self.rows <= ANSWER_ROWS_UNMEASURED {
            return Ok(());
        }
        self.bytes += bytes;
        if self.bytes > ANSWER_BYTES_MAX as u64 { Err(Error::AnswerTooLarge) } else { Ok(()) }
    }
}

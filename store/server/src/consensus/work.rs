//! What one entry of the log asks the state machine to do.
//!
//! Owns: decoding it, and telling little from much. Must not know: how it is carried out. A
//! newcomer's trap: "little" is a promise to Raft, which waits for it; what is not known to be
//! little counts as much.

use std::io;

use kijabi_proto::command::Batch;
use kijabi_proto::command::command::Request;
use kijabi_proto::etcdserverpb::{RequestOp, request_op};
use openraft::entry::EntryPayload;
use prost::Message as _;

use super::types::{Entry, LogId, StoredMembership};

/// More commands than this are much.
const LIGHT_COMMANDS_MAX: usize = 32;
/// So are more bytes than this.
const LIGHT_BYTES_MAX: usize = 64 << 10;

/// A decoded entry.
pub(super) struct Work {
    pub(super) log_id: LogId,
    pub(super) batch: Batch,
    pub(super) membership: Option<StoredMembership>,
    bytes: usize,
}

// === impl Work ===

impl Work {
    pub(super) fn of(entry: Entry) -> io::Result<Self> {
        let log_id = entry.log_id;
        let (mut batch, mut membership, mut bytes) = (Batch::default(), None, 0);
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(payload) => {
                bytes = payload.0.len();
                batch = Batch::decode(payload.0).map_err(|error| {
                    let what = format!("entry {} cannot be decoded: {error}", log_id.index);
                    io::Error::new(io::ErrorKind::InvalidData, what)
                })?;
            }
            EntryPayload::Membership(changed) => {
                membership = Some(StoredMembership::new(Some(log_id), changed));
            }
        }
        Ok(Self { log_id, batch, membership, bytes })
    }

    /// Whether it is done in no time, whatever the store holds.
    pub(super) fn is_light(&self) -> bool {
        let commands = &self.batch.commands;
        self.bytes <= LIGHT_BYTES_MAX
            && commands.len() <= LIGHT_COMMANDS_MAX
            && commands.iter().all(|command| command.request.as_ref().is_none_or(is_light))
    }
}

fn is_light(request: &Request) -> bool {
    match request {
        Request::Put(_) | Request::LeaseGrant(_) | Request::LeaseRenewMany(_) => true,
        Request::DeleteRange(delete) => delete.range_end.is_empty(),
        Request::Txn(txn) => {
            let mut ops = txn.success.iter().chain(&txn.failure);
            txn.compare.iter().all(|compare| compare.range_end.is_empty())
                && ops.all(is_light_operation)
        }
        _ => false,
    }
}

fn is_light_operation(op: &RequestOp) -> bool {
    match &op.request {
        Some(request_op::Request::RequestPut(_)) | None => true,
        Some(request_op::Request::RequestRange(range)) => range.range_end.is_empty(),
        Some(request_op::Request::RequestDeleteRange(delete)) => delete.range_end.is_empty(),
        Some(request_op::Request::RequestTxn(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use kijabi_proto::command::Command;
    use kijabi_proto::etcdserverpb as pb;

    use super::*;

    fn work(requests: Vec<Request>) -> Work {
        let command = |request| Command { request: Some(request), ..Command::default() };
        let commands = requests.into_iter().map(command).collect();
        let batch = Batch { commands, ..Batch::default() };
        Work {
            log_id: LogId::new_term_index(1, 1),
            bytes: batch.encoded_len(),
            batch,
            membership: None,
        }
    }

    #[test]
    fn what_touches_a_few_keys_is_light_and_what_may_touch_all_is_not() {
        let put = || Request::Put(pb::PutRequest { key: "k".into(), ..Default::default() });
        let delete = |range_end: &'static str| pb::DeleteRangeRequest {
            key: "k".into(),
            range_end: range_end.into(),
            ..Default::default()
        };
        let txn = |request| {
            let op = RequestOp { request: Some(request) };
            Request::Txn(pb::TxnRequest { failure: vec![op], ..Default::default() })
        };
        assert!(work(vec![]).is_light());
        assert!(work(vec![put(); LIGHT_COMMANDS_MAX]).is_light());
        assert!(!work(vec![put(); LIGHT_COMMANDS_MAX + 1]).is_light());
        assert!(work(vec![put(), Request::DeleteRange(delete(""))]).is_light());
        assert!(!work(vec![put(), Request::DeleteRange(delete("l"))]).is_light());
        assert!(work(vec![txn(request_op::Request::RequestDeleteRange(delete("")))]).is_light());
        assert!(!work(vec![txn(request_op::Request::RequestDeleteRange(delete("l")))]).is_light());
        let large = pb::PutRequest { value: vec![0; LIGHT_BYTES_MAX].into(), ..Default::default() };
        assert!(!work(vec![Request::Put(large)]).is_light());
        assert!(!work(vec![Request::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 })]).is_light());
    }
}

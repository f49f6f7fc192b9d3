//! The KV service: Range, Put, DeleteRange, Txn, Compact, RangeStream.
//!
//! Owns: which request needs the log, which a read barrier, which neither. Must not know: what they
//! do. A newcomer's trap: a transaction without writes never enters the log, so its answer carries
//! the current revision.

use std::sync::Arc;

use kijabi_base::clock;
use kijabi_machine::{Outcome, is_read_only, needs_read_barrier};
use kijabi_proto::command::command::Request as Command;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::kv_server::Kv;
use tonic::{Request, Response, Status};

use super::guard::{Learner, admit};
use super::range::{ChunkStream, Reader};
use super::{mismatch, stamp};
use crate::access::{self, Rpc};
use crate::check;
use crate::store::Store;

/// The service.
pub(crate) struct KvService {
    store: Store,
    reader: Reader,
}

impl KvService {
    /// The service on `store`.
    pub(crate) fn new(store: Store) -> Self {
        let headers = store.clone();
        let header = Arc::new(move |revision| headers.header(revision));
        let patience = store.config().request_timeout();
        let reader = Reader::new(store.machine().clone(), header, patience);
        Self { store, reader }
    }

    fn admit_range(&self, request: &Request<pb::RangeRequest>) -> Result<(), Status> {
        let serializable = request.get_ref().serializable;
        let learner = if serializable { Learner::Answers } else { Learner::Refuses };
        admit(&self.store, request.metadata(), learner)?;
        check::range(request.get_ref())?;
        Ok(())
    }

    /// Waits until a linearizable read may look (READ-1).
    async fn barrier(&self, needed: bool) -> Result<(), Status> {
        if needed {
            self.store.read_barrier().await?;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        self.admit_range(&request)?;
        self.barrier(!request.get_ref().serializable).await?;
        let caller = access::caller(&self.store, &request, Rpc::Range).await?;
        let begun = clock::now();
        let read = self.reader.range(&caller, request.get_ref()).await;
        self.store.metrics().mvcc.ranged(begun.elapsed(), read.is_ok());
        Ok(read?)
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        check::put(request.get_ref())?;
        let caller = access::caller(&self.store, &request, Rpc::Put).await?;
        let request = request.into_inner();
        match self.store.propose(&caller, Command::Put(request)).await? {
            Outcome::Put(mut response) => {
                stamp(&self.store, &mut response.header);
                Ok(Response::new(response))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        check::delete_range(request.get_ref())?;
        let caller = access::caller(&self.store, &request, Rpc::DeleteRange).await?;
        let request = request.into_inner();
        match self.store.propose(&caller, Command::DeleteRange(request)).await? {
            Outcome::DeleteRange(mut response) => {
                stamp(&self.store, &mut response.header);
                Ok(Response::new(response))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        check::txn(request.get_ref(), self.store.config().max_txn_ops)?;
        let reads = is_read_only(request.get_ref());
        self.barrier(reads && needs_read_barrier(request.get_ref())).await?;
        let caller = access::caller(&self.store, &request, Rpc::Txn).await?;
        let request = request.into_inner();
        let mut response = if reads {
            let response = self.reader.txn(&caller, &request).await?;
            self.store.metrics().mvcc.answered(response.get_ref());
            response
        } else {
            match self.store.propose(&caller, Command::Txn(request)).await? {
                Outcome::Txn(response) => Response::new(response),
                other => return Err(mismatch(&other)),
            }
        };
        stamp(&self.store, &mut response.get_mut().header);
        Ok(response)
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        let caller = access::caller(&self.store, &request, Rpc::Compact).await?;
        let request = request.into_inner();
        let (revision, physical) = (request.revision, request.physical);
        match self.store.propose(&caller, Command::Compaction(request)).await? {
            Outcome::Compaction(mut response) => {
                if physical {
                    self.store.compaction_finished(revision).await?;
                }
                stamp(&self.store, &mut response.header);
                Ok(Response::new(response))
            }
            other => Err(mismatch(&other)),
        }
    }

    type RangeStreamStream = ChunkStream;

    // Differs from etcd: sorted and filtered ranges are streamed, too.
    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.admit_range(&request)?;
        self.barrier(!request.get_ref().serializable).await?;
        let caller = access::caller(&self.store, &request, Rpc::RangeStream).await?;
        let bytes_target = self.store.config().max_request_bytes;
        let stream = self.reader.stream(caller, request.into_inner(), bytes_target).await?;
        Ok(Response::new(stream))
    }
}

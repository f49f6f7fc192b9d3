//! The Lock service: Lock, Unlock.
//!
//! Owns: who holds a lock. Must not know: how one waits. A newcomer's trap: a lock is as good as its
//! lease; whoever waited is told that it holds the lock only if its lease has lived through the
//! wait, and an unlock takes away only the key that it has seen.

use std::sync::Arc;

use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::v3lockpb as lock;
use kijabi_proto::v3lockpb::lock_server::Lock;
use tonic::{Request, Response, Status};

use super::recipe::{
    Caller, Lost, Recipe, created_at, key_of, oldest, op, prefix_of, read_by, revision, single,
    without_code,
};

/// etcd's words for a lock whose lease has ended.
const SESSION_EXPIRED: &str = "mutex: session is expired";

/// The service.
pub(crate) struct LockService {
    recipe: Arc<Recipe>,
}

impl LockService {
    pub(crate) fn new(recipe: Arc<Recipe>) -> Self {
        Self { recipe }
    }

    async fn acquire(
        &self,
        caller: &Caller,
        request: lock::LockRequest,
    ) -> Result<lock::LockResponse, Status> {
        let recipe = &self.recipe;
        let lease = recipe.session(caller, request.lease).await?;
        let prefix = prefix_of(&request.name);
        let key = key_of(&prefix, lease);
        let put = pb::PutRequest { key: key.clone(), lease, ..Default::default() };
        let holder = || op(Op::RequestRange(oldest(&prefix)));
        let entering = pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Op::RequestPut(put)), holder()],
            failure: vec![op(Op::RequestRange(single(&key))), holder()],
        };
        let entered = recipe.txn(caller, entering).await?;
        let created = match read_by(&entered, 0).first() {
            // The same lease has been here before.
            Some(own) if !entered.succeeded => own.create_revision,
            _ => revision(entered.header.as_ref()),
        };
        if read_by(&entered, 1).first().is_none_or(|holder| holder.create_revision == created) {
            return Ok(lock::LockResponse { header: entered.header, key });
        }
        let candidate = recipe.candidate(caller, key.clone(), created);
        // Differs from etcd: the lease is looked at, too.
        let held = async {
            candidate.wait_turn(&prefix).await?;
            candidate.holds(lease).await
        };
        match held.await {
            Ok(header) => {
                candidate.keep();
                Ok(lock::LockResponse { header: Some(header), key })
            }
            Err(Lost::OwnKey) => Err(Status::unknown(SESSION_EXPIRED)),
            Err(Lost::Failed(status)) => Err(status),
        }
    }

    async fn release(
        &self,
        caller: &Caller,
        request: lock::UnlockRequest,
    ) -> Result<lock::UnlockResponse, Status> {
        let found = self.recipe.range(caller, single(&request.key)).await?;
        let created = found.kvs.first().map_or(0, |kv| kv.create_revision);
        // Also when there is nothing to delete: who may not write the key learns nothing of it.
        let deleted = self.recipe.delete(caller, &request.key, created).await?;
        Ok(lock::UnlockResponse { header: deleted.header })
    }
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(
        &self,
        request: Request<lock::LockRequest>,
    ) -> Result<Response<lock::LockResponse>, Status> {
        let (caller, request) = self.recipe.admit(request)?;
        let response = self.acquire(&caller, request).await;
        response.map(Response::new).map_err(without_code)
    }

    async fn unlock(
        &self,
        request: Request<lock::UnlockRequest>,
    ) -> Result<Response<lock::UnlockResponse>, Status> {
        let (caller, request) = self.recipe.admit(request)?;
        let response = self.release(&caller, request).await;
        response.map(Response::new).map_err(without_code)
    }
}

//! The Maintenance service: status, alarms, hashes, snapshot, defragmentation, leadership.
//!
//! Owns: what operators ask of one member. Must not know: files. A newcomer's trap: kube-apiserver
//! decides on features by `version` in the status alone, so it is a bare etcd version.

use std::ops::ControlFlow;
use std::sync::Arc;

use kijabi_base::{clock, tasks};
use kijabi_machine::Outcome;
use kijabi_proto::command::command::Request as Command;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::maintenance_server::Maintenance;
use tonic::{Request, Response, Status};

use super::guard::{Learner, admit};
use super::snapshot::{self, Blobs};
use super::{hash, mismatch, stamp};
use crate::access::{self, Rpc};
use crate::cluster::downgrade;
use crate::config::ETCD_VERSION;
use crate::consensus::Applier;
use crate::drivers::DatabaseSize;
use crate::error::Error;
use crate::status::EtcdError;
use crate::store::Store;
use crate::transfer;

/// The version of the storage format that etcd 3.6 reports.
pub(crate) const STORAGE_VERSION: &str = "3.6.0";

/// The service.
pub(crate) struct MaintenanceService {
    store: Store,
    applier: Applier,
    size: DatabaseSize,
}

impl MaintenanceService {
    /// The service on `store`; the applier has the state that is hashed and copied.
    pub(crate) fn new(store: Store, applier: Applier, size: DatabaseSize) -> Self {
        Self { store, applier, size }
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        let caller = access::caller(&self.store, &request, Rpc::Alarm).await?;
        match self.store.propose(&caller, Command::Alarm(request.into_inner())).await? {
            Outcome::Alarm(mut response) => {
                if response.header.is_none() {
                    response.header = Some(self.store.header_now());
                }
                stamp(&self.store, &mut response.header);
                Ok(Response::new(response))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        access::caller(&self.store, &request, Rpc::Status).await?;
        let standing = self.store.standing();
        let alarms = self.store.alarms();
        let (revision, applied, live) = {
            let machine = self.store.machine().read();
            (machine.revision(), machine.applied_index(), machine.live_bytes())
        };
        let (version, downgrade) = {
            let machine = self.store.machine().read();
            (machine.cluster_version(), machine.downgrade_target())
        };
        let mut errors = Vec::new();
        if standing.leader == 0 {
            errors.push(EtcdError::NoLeader.text().to_owned());
        }
        for alarm in alarms {
            // The text is Go's of the message, with the space behind it.
            let name = alarm.alarm().as_str_name();
            errors.push(match alarm.member_id {
                0 => format!("alarm:{name} "),
                id => format!("memberID:{id} alarm:{name} "),
            });
        }
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.store.header(revision)),
            version: ETCD_VERSION.into(),
            // Files are compressed, and may be smaller than what is in them.
            db_size: self.size.total().max(live) as i64,
            leader: standing.leader,
            raft_index: standing.committed_index.max(applied),
            raft_term: standing.term,
            raft_applied_index: applied,
            errors,
            db_size_in_use: live as i64,
            is_learner: standing.is_learner,
            storage_version: version.to_string(),
            db_size_quota: self.store.config().quota_bytes as i64,
            downgrade_info: Some(pb::DowngradeInfo {
                enabled: downgrade.is_some(),
                target_version: downgrade.map(|target| target.to_string()).unwrap_or_default(),
            }),
        }))
    }

    // Differs from etcd: other requests go on meanwhile.
    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Answers)?;
        access::caller(&self.store, &request, Rpc::Defragment).await?;
        let state = self.applier.state();
        let (metrics, begun) = (self.store.metrics(), clock::now());
        metrics.disk.defragmenting();
        let done = tasks::blocking(move || state.compact_files()).await;
        metrics.disk.defragmented(begun.elapsed());
        done.map_err(|error| internal(&error))?;
        self.applier.renew_snapshot().await.map_err(|error| internal(&error))?;
        // Whoever disarms the quota's alarm next finds the new size.
        self.size.measure(&self.applier);
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(
        &self,
        request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        access::caller(&self.store, &request, Rpc::Hash).await?;
        let header = Some(self.store.header_now());
        let state = self.applier.state();
        let hashed = tasks::upkeep("hash", move || {
            let mut crc = 0;
            state.scan_all(&mut |table, key, value| {
                for part in [table.name().as_bytes(), key, value] {
                    crc = crc32c::crc32c_append(crc, part);
                }
                ControlFlow::Continue(())
            })?;
            Ok::<u32, kijabi_machine::state::StateError>(crc)
        });
        let begun = clock::now();
        let hash = hashed.await.ok_or_else(failed)?.map_err(|e| internal(&e))?;
        self.store.metrics().mvcc.hashed(begun.elapsed());
        Ok(Response::new(pb::HashResponse { header, hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        access::caller(&self.store, &request, Rpc::HashKV).await?;
        let asked = request.into_inner().revision;
        let (machine, state) = (Arc::clone(self.store.machine()), self.applier.state());
        let begun = clock::now();
        let hashed = move || hash::hash_kv(&machine, &*state, asked);
        let hashed = tasks::upkeep("hash of keys", hashed).await.ok_or_else(failed)?;
        let hashed = hashed.map_err(Error::Machine)?;
        self.store.metrics().mvcc.hashed_keys(begun.elapsed());
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.store.header(hashed.current)),
            hash: hashed.hash,
            compact_revision: hashed.compacted,
            hash_revision: hashed.upto,
        }))
    }

    type SnapshotStream = Blobs;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        admit(&self.store, request.metadata(), Learner::Answers)?;
        access::caller(&self.store, &request, Rpc::Snapshot).await?;
        let metrics = Arc::clone(self.store.metrics());
        Ok(Response::new(snapshot::stream(&self.applier, metrics).await?))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        access::caller(&self.store, &request, Rpc::MoveLeader).await?;
        let limit = self.store.config().request_timeout();
        transfer::to(&self.store, request.get_ref().target_id, limit).await?;
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        use pb::downgrade_request::DowngradeAction;
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        let caller = access::caller(&self.store, &request, Rpc::Downgrade).await?;
        let request = request.into_inner();
        let version = match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => {
                downgrade::validate(&self.store, &request.version).await?
            }
            Ok(DowngradeAction::Enable) => {
                downgrade::enable(&self.store, &caller, &request.version).await?
            }
            Ok(DowngradeAction::Cancel) => downgrade::cancel(&self.store, &caller).await?,
            Err(_) => return Err(Status::unknown("etcdserver: unknown method")),
        };
        let header = Some(self.store.header_now());
        Ok(Response::new(pb::DowngradeResponse { header, version }))
    }
}

/// Upkeep did not come to its end.
pub(super) fn failed() -> Status {
    internal(&"it was not carried out")
}

pub(crate) fn internal(error: &dyn std::fmt::Display) -> Status {
    tracing::error!(%error, "a maintenance request failed");
    Status::internal(format!("etcdserver: {error}"))
}

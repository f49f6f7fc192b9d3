//! The answer to the RPC `Snapshot`: a database of etcd's, and its SHA-256.
//!
//! Owns: the stream of blobs. Must not know: what the database holds. A newcomer's trap: the file
//! is written whole before the first blob is sent, because each blob says how much is to come; it
//! has no name and is gone with the stream.

use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use kijabi_base::limits::SNAPSHOT_STREAMS_MAX;
use kijabi_base::{clock, tasks};
use kijabi_proto::etcdserverpb as pb;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::maintenance::{STORAGE_VERSION, failed, internal};
use crate::backup::write_database;
use crate::consensus::Applier;
use crate::error::Error;
use crate::metrics::Metrics;

/// The stream.
pub(crate) type Blobs = ReceiverStream<Result<pb::SnapshotResponse, Status>>;

/// Size of a blob, etcd's.
const BLOB_BYTES: usize = 32 * 1024;
/// Blobs handed to the transport before it has taken them.
const BLOBS_MAX: usize = 4;

/// Room for snapshots being made and sent.
static STREAMS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(SNAPSHOT_STREAMS_MAX)));

/// Makes a snapshot of the state and sends it.
pub(crate) async fn stream(applier: &Applier, metrics: Arc<Metrics>) -> Result<Blobs, Status> {
    let room = Arc::clone(&STREAMS).try_acquire_owned();
    let room = room.map_err(|_full| Status::from(Error::TooManyRequests))?;
    let (state, home) = (applier.state(), applier.home().clone());
    let database = tasks::upkeep("snapshot", move || -> Result<_, String> {
        let file = home.scratch().map_err(|error| error.to_string())?;
        write_database(&state, file).map_err(|error| error.to_string())
    });
    let database = database.await.ok_or_else(failed)?.map_err(|e| internal(&e))?;
    tracing::info!(
        total_bytes = database.bytes,
        revision = database.revision,
        "sending database snapshot to client"
    );
    let (blobs, receiver) = mpsc::channel(BLOBS_MAX);
    let file = tokio::fs::File::from_std(database.file);
    let begun = clock::now();
    tasks::spawn("snapshot", async move {
        let sent = send(file, database.bytes, &blobs, room).await;
        metrics.disk.snapshot_sent(begun.elapsed());
        if let Err(error) = sent {
            // The client may have gone; that is all there is to do for it.
            let _ = blobs.send(Err(internal(&error))).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn send(
    mut file: tokio::fs::File,
    bytes: u64,
    blobs: &mpsc::Sender<Result<pb::SnapshotResponse, Status>>,
    _room: OwnedSemaphorePermit,
) -> std::io::Result<()> {
    file.rewind().await?;
    let mut hash = Sha256::new();
    let mut remaining = bytes;
    while remaining > 0 {
        let size = usize::try_from(remaining).unwrap_or(BLOB_BYTES).min(BLOB_BYTES);
        let mut blob = BytesMut::zeroed(size);
        file.read_exact(&mut blob).await?;
        hash.update(&blob);
        remaining -= size as u64;
        if blobs.send(Ok(response(remaining, blob.freeze()))).await.is_err() {
            return Ok(());
        }
    }
    let _ = blobs.send(Ok(response(0, Bytes::copy_from_slice(&hash.finalize())))).await;
    Ok(())
}

fn response(remaining_bytes: u64, blob: Bytes) -> pb::SnapshotResponse {
    let version = STORAGE_VERSION.to_owned();
    pb::SnapshotResponse { header: None, remaining_bytes, blob, version }
}

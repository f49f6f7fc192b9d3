//! What an operator does to a store while it serves: compact, defragment, take a snapshot.
//!
//! Owns: doing all three, spread over a run. Must not know: the load that is made meanwhile. A
//! newcomer's trap: the pause that matters is the longest that a request of the load saw, not how
//! long these took.

use std::time::Duration;

use anyhow::Context as _;
use kijabi_base::clock;
use kijabi_proto::etcdserverpb as pb;

use super::session::Session;
use super::wire::Method;

/// One of them, and how long it took.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Chore {
    /// What was done.
    pub name: String,
    /// Seconds it took, on all endpoints.
    pub seconds: f64,
    /// Bytes that came back.
    pub bytes: u64,
}

/// All three, the first after a fifth of `duration`, the others a fifth after each other.
pub(super) async fn all(session: Session, duration: Duration) -> anyhow::Result<Vec<Chore>> {
    let mut chores = Vec::new();
    for name in ["compact", "defragment", "snapshot"] {
        tokio::time::sleep(duration / 5).await;
        let started = clock::now();
        let bytes = one(&session, name).await.with_context(|| format!("cannot {name}"))?;
        let seconds = started.elapsed().as_secs_f64();
        chores.push(Chore { name: name.into(), seconds, bytes });
    }
    Ok(chores)
}

async fn one(session: &Session, name: &str) -> anyhow::Result<u64> {
    let mut bytes = 0;
    match name {
        "compact" => {
            let read = pb::RangeRequest { key: b"0"[..].into(), ..Default::default() };
            let answer: pb::RangeResponse = session.call(0, Method::Range, &read).await?;
            let revision = answer.header.map_or(0, |header| header.revision);
            let compact = pb::CompactionRequest { revision, physical: true };
            let _: pb::CompactionResponse = session.call(0, Method::Compact, &compact).await?;
        }
        "defragment" => {
            for endpoint in 0..session.dialer.endpoints() {
                let request = pb::DefragmentRequest::default();
                let _: pb::DefragmentResponse =
                    session.call(endpoint, Method::Defragment, &request).await?;
            }
        }
        _ => {
            let request = pb::SnapshotRequest::default();
            let count = |message: &[u8]| bytes += message.len() as u64;
            session.stream(0, Method::Snapshot, &request, count).await?;
        }
    }
    Ok(bytes)
}

//! Fetching the whole state of another member in place of one that is wrong.
//!
//! Owns: the way of the bytes. Must not know: why. A newcomer's trap: the state that comes may be
//! ahead of what Raft has applied here; entries that it holds already are then passed over.

use std::io;
use std::time::Duration;

use kijabi_proto::peer::snapshot_part::Part;

use crate::consensus::Applier;
use crate::peer::Link;
use crate::peer::snapshot::Incoming;

/// How long the next part may take.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches the state of the member behind `link` and puts it in place of the current one.
pub(super) async fn fetch(link: &Link, applier: &Applier) -> io::Result<()> {
    let mut parts = link.fetch_state().await.map_err(io::Error::other)?;
    let incoming = Incoming::begin(applier.home().clone());
    loop {
        let part = tokio::time::timeout(PART_TIMEOUT, parts.message()).await;
        let part = part.map_err(io::Error::other)?.map_err(io::Error::other)?;
        match part.and_then(|message| message.part) {
            Some(Part::Data(data)) => {
                if !incoming.take(data).await {
                    break;
                }
            }
            // What it says is in the state, too.
            Some(Part::Head(_)) => {}
            None => break,
        }
    }
    let state = incoming.end().await?;
    applier.replace(state).await
}

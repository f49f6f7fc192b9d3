//! A cluster of one member, by force, from the data that member has (`--force-new-cluster`).
//!
//! Owns: the entry that does it. Must not know: Raft's rules for changing members, which this
//! breaks on purpose. A newcomer's trap: entries that were never committed are kept, so what some
//! client was not sure of may turn out to be done; and the other members must never start again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use kijabi_disk::wal::Wal;
use openraft::Membership;
use openraft::entry::EntryPayload;
use openraft::storage::RaftLogStorage as _;
use openraft::vote::leader_id_std::CommittedLeaderId;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::consensus::types::{Entry, LogId, Vote, decode, to_disk};
use crate::consensus::{Applier, LogStore, Peer};

/// Appends a membership of this member alone, newer than everything there is. Raft then elects it,
/// and commits all that stands before.
pub(crate) async fn begin_anew(
    wal: &Wal,
    applier: &Applier,
    config: &Config,
    member_id: u64,
) -> io::Result<()> {
    let mut log = LogStore::new(wal.clone());
    let last = log.get_log_state().await?.last_log_id.max(applier.last_applied()?);
    let Some(last) = last else {
        let what = "--force-new-cluster needs the data of a member";
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    };
    let vote = wal.vote().map(|vote| decode::<Vote>(&vote)).transpose()?;
    let term = last.leader_id.term.max(vote.map_or(0, |vote| vote.leader_id.term)) + 1;
    log.save_vote(&Vote::new(term, member_id)).await?;
    let known = applier.peer(member_id)?;
    let peer = known.unwrap_or_else(|| Peer {
        name: config.name.clone(),
        peer_urls: config.initial_advertise_peer_urls.clone(),
        learner: false,
    });
    let alone = Membership::new(
        vec![BTreeSet::from([member_id])],
        BTreeMap::from([(member_id, Peer { learner: false, ..peer })]),
    );
    let entry = Entry {
        log_id: LogId::new(CommittedLeaderId::new(term), last.index + 1),
        payload: EntryPayload::Membership(alone.map_err(io::Error::other)?),
    };
    let (done, durable) = oneshot::channel();
    let callback = Box::new(move |result| {
        let _ = done.send(result);
    });
    let _writes = wal.append(vec![to_disk(entry)?], callback).map_err(io::Error::other)?;
    durable.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
    tracing::warn!("the member begins a cluster of its own; the others must never start again");
    Ok(())
}

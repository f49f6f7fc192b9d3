//! A member that was removed finds out, and leaves.
//!
//! Owns: noticing it. Must not know: who removed it. A newcomer's trap: the entry that removes a
//! member need not reach it, because the leader stops talking to it; a member that hears of no
//! leader therefore asks the others whether it is still one of them.

use std::time::Duration;

use super::Cluster;
use crate::fatal::Fatal;

/// Between two looks; also the time that answers have to get out before the member goes.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long another member may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// etcd's text.
pub(crate) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Runs until the member stops, or was removed and is told to stop.
pub(crate) async fn watch(cluster: Cluster, fatal: Fatal) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let store = cluster.store();
        let known = store.machine().read().is_member_removed(store.member_id());
        if known || (store.standing().leader == 0 && others_say_so(&cluster).await) {
            tracing::warn!(error = REMOVED, "server error");
            tracing::warn!("data-dir used by this member must be removed");
            return fatal.leave(REMOVED);
        }
    }
}

async fn others_say_so(cluster: &Cluster) -> bool {
    let store = cluster.store();
    let (me, cluster_id) = (store.member_id(), store.header(0).cluster_id);
    let members = store.machine().read().members();
    for member in members.into_iter().filter(|member| member.id != me) {
        let answer = cluster.remote().members(&member.peer_urls, me, ASK_TIMEOUT).await;
        if answer.is_ok_and(|answer| answer.cluster_id == cluster_id && answer.removed) {
            return true;
        }
    }
    false
}

//! Drops the store's old history, once for however many API servers there are.
//!
//! Owns: the protocol on the key `compact_rev_key`, shared with kube-apiserver. Must not know:
//! what the history holds. A newcomer's trap: the revision that is compacted is the one noted a
//! period ago, so a client always has at least one period to catch up.

use kijabi_base::tasks::Shutdown;

use super::{Client, Key, Revision, StoreError};
use crate::limits::COMPACTION_PERIOD;

const KEY: &str = "compact_rev_key";

/// How often the key was written, and the revision noted then.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    version: i64,
    revision: Revision,
}

/// Compacts every period until `shutdown`.
pub async fn run_compactor(client: Client, shutdown: Shutdown) {
    let mut round = Round::default();
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(COMPACTION_PERIOD) => {}
        }
        match run_round(&client, round).await {
            Ok(next) => round = next,
            Err(error) => tracing::warn!(%error, "the store was not compacted"),
        }
    }
}

/// One round: whoever claims the key first compacts; the others take over its numbers.
async fn run_round(client: &Client, round: Round) -> Result<Round, StoreError> {
    let key = Key::plain(KEY);
    let (claimed, held, revision) =
        client.claim(&key, round.version, round.revision.to_string()).await?;
    if !claimed {
        return Ok(Round { version: held.map_or(0, |kv| kv.version), revision });
    }
    if round.revision > Revision(0) {
        match client.compact(round.revision).await {
            Ok(()) | Err(StoreError::Compacted) => {
                tracing::debug!(revision = round.revision.0, "compacted the store");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Round { version: round.version + 1, revision })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Etcd;

    #[tokio::test]
    async fn two_servers_share_the_work_and_compact_what_was_noted_before() {
        let etcd = Etcd::start().await;
        let client = etcd.client();
        let write = async |name: &str| {
            let key = Key::object("pods", "g", name).unwrap();
            client.create(&key, b"{}".to_vec(), 0).await.unwrap();
        };
        write("a").await;
        let first = run_round(&client, Round::default()).await.unwrap();
        assert_eq!((first.version, first.revision), (1, Revision(3)));
        // A second server finds the round claimed and adopts its numbers.
        let second = run_round(&client, Round::default()).await.unwrap();
        assert_eq!(second.version, 1);
        write("b").await;
        let range = super::super::KeyRange::resource("pods", "").unwrap();
        client.page(&range, range.start(), 0, Some(Revision(2))).await.unwrap();
        run_round(&client, first).await.unwrap();
        let gone = client.page(&range, range.start(), 0, Some(Revision(2))).await;
        assert_eq!(gone.unwrap_err(), StoreError::Compacted);
        // The other server lost this round.
        assert_eq!(run_round(&client, second).await.unwrap().version, 2);
    }
}

//! The members' table: the one answer to who the members are.
//!
//! Owns: the rows, and the ids that were removed. Must not know: Raft. A newcomer's trap: which
//! members there are comes from the log's membership entries alone ([`Members::replace`]); what a
//! member says of itself ([`Members::describe`]) only fills in a row that exists, so a member that
//! was removed cannot bring itself back. An id in `removed` is never given to anybody again.

use std::collections::{BTreeMap, BTreeSet};

use kijabi_proto::command::MemberAttributes;
use prost::Message as _;

use crate::cluster::records;
use crate::state::{StateBatch, StateError, StateReader, Table};

pub(crate) const MEMBER_PREFIX: &[u8] = b"member/";
pub(crate) const REMOVED_PREFIX: &[u8] = b"removed/";

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Members {
    rows: BTreeMap<u64, MemberAttributes>,
    removed: BTreeSet<u64>,
}

// === impl Members ===

impl Members {
    /// Reads the table back.
    pub(crate) fn open(state: &dyn StateReader) -> Result<Self, StateError> {
        let rows = records::<MemberAttributes>(state, MEMBER_PREFIX)?;
        let removed = records::<MemberAttributes>(state, REMOVED_PREFIX)?;
        Ok(Self {
            rows: rows.into_iter().map(|row| (row.id, row)).collect(),
            removed: removed.into_iter().map(|row| row.id).collect(),
        })
    }

    /// All rows in the order of their ids.
    pub(crate) fn all(&self) -> Vec<MemberAttributes> {
        self.rows.values().cloned().collect()
    }

    pub(crate) fn get(&self, id: u64) -> Option<&MemberAttributes> {
        self.rows.get(&id)
    }

    pub(crate) fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    pub(crate) fn removed(&self) -> Vec<u64> {
        self.removed.iter().copied().collect()
    }

    /// Makes the members the ones given. A row that exists keeps its name and its client URLs.
    pub(crate) fn replace(&mut self, members: &[MemberAttributes], batch: &mut StateBatch) {
        let kept: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
        let gone: Vec<u64> = self.rows.keys().copied().filter(|id| !kept.contains(id)).collect();
        for id in gone {
            self.rows.remove(&id);
            self.removed.insert(id);
            batch.delete(Table::Cluster, row_key(MEMBER_PREFIX, id));
            let record = MemberAttributes { id, ..MemberAttributes::default() };
            batch.put(Table::Cluster, row_key(REMOVED_PREFIX, id), record.encode_to_vec());
        }
        for member in members {
            if self.removed.remove(&member.id) {
                // Only a cluster begun anew from old data has such a member: the log decides.
                batch.delete(Table::Cluster, row_key(REMOVED_PREFIX, member.id));
            }
            let row = match self.rows.get(&member.id) {
                Some(row) => MemberAttributes {
                    peer_urls: member.peer_urls.clone(),
                    is_learner: member.is_learner,
                    ..row.clone()
                },
                None => member.clone(),
            };
            self.write(row, batch);
        }
    }

    /// Records the name and the client URLs that a member says it has.
    pub(crate) fn describe(&mut self, member: &MemberAttributes, batch: &mut StateBatch) {
        let Some(row) = self.rows.get(&member.id) else { return };
        let name = member.name.clone();
        let row = MemberAttributes { name, client_urls: member.client_urls.clone(), ..row.clone() };
        self.write(row, batch);
    }

    fn write(&mut self, row: MemberAttributes, batch: &mut StateBatch) {
        if self.rows.get(&row.id) == Some(&row) {
            return;
        }
        batch.put(Table::Cluster, row_key(MEMBER_PREFIX, row.id), row.encode_to_vec());
        self.rows.insert(row.id, row);
    }
}

fn row_key(prefix: &[u8], id: u64) -> Vec<u8> {
    [prefix, &id.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemoryState;

    fn member(id: u64, url: &str, is_learner: bool) -> MemberAttributes {
        let peer_urls = vec![url.to_owned()];
        MemberAttributes { id, peer_urls, is_learner, ..MemberAttributes::default() }
    }

    fn said(id: u64, name: &str) -> MemberAttributes {
        let client_urls = vec![format!("http://{name}")];
        MemberAttributes { id, name: name.into(), client_urls, ..MemberAttributes::default() }
    }

    #[test]
    fn rows_follow_the_membership_and_keep_what_members_said() {
        let state = MemoryState::default();
        let mut members = Members::default();
        let mut batch = StateBatch::default();
        members.replace(&[member(1, "http://a", false), member(2, "http://b", true)], &mut batch);
        members.describe(&said(1, "one"), &mut batch);
        members.describe(&said(7, "stranger"), &mut batch);
        members.replace(&[member(1, "http://c", false), member(3, "http://d", false)], &mut batch);
        members.describe(&said(2, "two"), &mut batch);
        state.write(&batch);
        for members in [members, Members::open(&state).unwrap()] {
            let rows = members.all();
            let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
            assert_eq!(ids, [1, 3], "neither the removed one nor the stranger came in");
            assert_eq!((&*rows[0].name, &*rows[0].peer_urls[0]), ("one", "http://c"));
            assert_eq!(rows[0].client_urls, ["http://one"]);
            assert!(members.is_removed(2) && !members.is_removed(7));
            assert_eq!(members.removed(), [2]);
        }
    }

    #[test]
    fn a_learner_that_is_promoted_keeps_its_row() {
        let mut members = Members::default();
        let mut batch = StateBatch::default();
        members.replace(&[member(1, "http://a", true)], &mut batch);
        members.describe(&said(1, "one"), &mut batch);
        members.replace(&[member(1, "http://a", false)], &mut batch);
        let row = members.get(1).unwrap();
        assert_eq!((&*row.name, row.is_learner), ("one", false));
        let before = batch.ops.len();
        members.replace(&[member(1, "http://a", false)], &mut batch);
        assert_eq!(batch.ops.len(), before, "what does not change is not written");
    }
}

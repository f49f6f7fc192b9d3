//! The rows that begin a new cluster on old data.
//!
//! Owns: the members' rows, the raised revision, the beginning of the log. Must not know: Raft's
//! own rows, which the server adds. A newcomer's trap: every member of the new cluster must get
//! the same rows, bit by bit: they are all said to be the state after the same log entry.

use kijabi_proto::command::MemberAttributes;

use crate::machine::Machine;
use crate::meta;
use crate::state::StateBatch;

/// A member that the new cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstMember {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
}

/// How the new cluster begins.
#[derive(Clone, Debug)]
pub struct Seed<'a> {
    /// The members.
    pub members: &'a [FirstMember],
    /// The index of the log entry that the state is said to be the result of.
    pub log_index: u64,
    /// Its term.
    pub log_term: u64,
    /// How much the current revision is raised by, so that no client ever sees one again that it
    /// has seen before with other content.
    pub bump_revision: i64,
    /// Whether everything before the raised revision is compacted, so that no watch goes on from a
    /// revision of the old cluster.
    pub mark_compacted: bool,
}

impl Seed<'_> {
    /// The changes that make `machine`'s state the beginning of a new cluster. Returns its
    /// revision.
    pub fn plant(&self, machine: &mut Machine, batch: &mut StateBatch) -> Option<i64> {
        let members: Vec<MemberAttributes> = self
            .members
            .iter()
            .map(|member| MemberAttributes {
                id: member.id,
                name: member.name.clone(),
                peer_urls: member.peer_urls.clone(),
                ..MemberAttributes::default()
            })
            .collect();
        machine.set_members(&members, batch);
        let revision = machine.revision().checked_add(self.bump_revision)?;
        meta::put_i64(batch, meta::REVISION, revision);
        if self.mark_compacted {
            meta::put_i64(batch, meta::COMPACT_SCHEDULED, revision);
        }
        meta::put_i64(batch, meta::DIGEST, 0);
        meta::put_i64(batch, meta::APPLIED_INDEX, self.log_index.cast_signed());
        meta::put_i64(batch, meta::APPLIED_TERM, self.log_term.cast_signed());
        Some(revision)
    }
}

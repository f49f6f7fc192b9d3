//! A new member's data folder, made from a snapshot or from an etcd member's data.
//!
//! Owns: the order of the steps, and that nothing is left behind when one fails. Must not know:
//! what rows mean. A newcomer's trap: the folder `member` appears at the very end and whole; until
//! then everything is in a folder beside it that no member looks at.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kijabi_disk::lock::DataDir;
use kijabi_disk::snapshot::StateHome;
use kijabi_disk::state::State;
use kijabi_disk::vfs::{RealVfs, Vfs as _};
use kijabi_disk::wal::{Wal, WalOptions};
use kijabi_machine::exchange::{FirstMember, Seed, row_crc};
use kijabi_machine::state::{StateBatch, StateView as _, Table};
use kijabi_machine::{Machine, Settings};
use sha2::{Digest as _, Sha256};

use super::import::{Filled, fill};
use super::snapshot_file::hex;
use super::{BackupError, Source};
use crate::config::{self, Config, Parsed};
use crate::consensus::{Peer, seed};
use crate::identity::{self, Identity};

/// The member to make.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// Its name.
    pub name: String,
    /// All first members as `name=url[,name=url…]`.
    pub initial_cluster: String,
    /// What keeps clusters apart that were made alike.
    pub initial_cluster_token: String,
    /// Its URLs for other members, separated by commas.
    pub initial_advertise_peer_urls: String,
    /// Where to make it; a folder that is missing or empty.
    pub data_dir: PathBuf,
    /// Where its Raft log goes, if not into the data folder.
    pub wal_dir: Option<PathBuf>,
    /// How much the revision is raised.
    pub bump_revision: u64,
    /// Whether everything up to the raised revision is compacted.
    pub mark_compacted: bool,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// The member's id.
    pub member_id: u64,
    /// The new cluster's id.
    pub cluster_id: u64,
    /// Its revision.
    pub revision: i64,
    /// Its compacted revision; -1 for none.
    pub compacted: i64,
    /// Revisions of keys taken over.
    pub rows: u64,
    /// Entries of an etcd member's log that its database did not hold yet.
    pub replayed: u64,
    /// Where that log broke off in the middle of a record, if it did.
    pub torn: Option<String>,
}

const STAGING: &str = "member.new";

// === impl NewMember ===

impl NewMember {
    /// Makes the member. If this fails, everything is as it was.
    pub fn make(&self, source: &Source) -> Result<Restored, BackupError> {
        let config = self.config()?;
        let existed = self.data_dir.exists();
        if existed && !is_empty_dir(&self.data_dir) {
            return Err(BackupError::DataDirTaken(self.data_dir.clone()));
        }
        if let Some(wal_dir) = self.wal_dir.as_ref().filter(|dir| dir.exists()) {
            return Err(BackupError::WalDirTaken(wal_dir.clone()));
        }
        let locked = DataDir::open(&self.data_dir)?;
        let made = self.make_in(config, source);
        if made.is_err() {
            // What cannot be removed is a leftover that no member looks at.
            let _ = std::fs::remove_dir_all(self.data_dir.join(STAGING));
            if let Some(wal_dir) = &self.wal_dir {
                let _ = std::fs::remove_dir_all(wal_dir);
            }
            let _ = std::fs::remove_file(self.data_dir.join("LOCK"));
            if !existed {
                let _ = std::fs::remove_dir(&self.data_dir);
            }
        }
        drop(locked);
        made
    }

    /// The settings, checked as they are when a member starts with them.
    fn config(&self) -> Result<Config, BackupError> {
        if i64::try_from(self.bump_revision).is_err() {
            return Err(BackupError::Settings("--bump-revision is too large".into()));
        }
        let arguments = [
            ("--name", &self.name),
            ("--initial-cluster", &self.initial_cluster),
            ("--initial-cluster-token", &self.initial_cluster_token),
            ("--initial-advertise-peer-urls", &self.initial_advertise_peer_urls),
        ];
        let arguments =
            arguments.into_iter().flat_map(|(flag, value)| [flag.into(), value.clone()]);
        let nothing: [(String, String); 0] = [];
        match config::parse(arguments, nothing) {
            Ok(Parsed::Run(config)) => {
                config.check_bootstrap().map_err(BackupError::Settings)?;
                Ok(*config)
            }
            Ok(_) => Err(BackupError::Settings("a member needs a name and URLs".into())),
            Err(error) => Err(BackupError::Settings(error.to_string())),
        }
    }

    fn make_in(&self, config: Config, source: &Source) -> Result<Restored, BackupError> {
        let staging = self.data_dir.join(STAGING);
        let (_home, state) = StateHome::open(&staging.join("snap"))?;
        let state = Arc::new(state);
        let filled = fill(&state, source)?;
        if filled.replayed == 0 {
            check_copy(&state, &filled, source)?;
        }
        let (members, identity) = self.identify(config, &state, &staging)?;
        let (revision, compacted) = self.plant(&state, &members)?;
        state.flush()?;
        drop(state);
        let wal_dir = self.wal_dir.clone().unwrap_or_else(|| staging.join("wal"));
        let wal = Wal::open(Arc::new(RealVfs), &wal_dir, WalOptions::default())?;
        seed::records(&wal, identity.member_id).map_err(BackupError::io(&wal_dir))?;
        wal.close();
        RealVfs.sync_dir(&staging).map_err(BackupError::io(&staging))?;
        let place = self.data_dir.join("member");
        std::fs::rename(&staging, &place).map_err(BackupError::io(&place))?;
        RealVfs.sync_dir(&self.data_dir).map_err(BackupError::io(&self.data_dir))?;
        Ok(Restored {
            member_id: identity.member_id,
            cluster_id: identity.cluster_id,
            revision,
            compacted,
            rows: filled.taking.rows,
            replayed: filled.replayed,
            torn: filled.torn,
        })
    }

    /// The first members and this one's identity, kept in the folder.
    // Differs from etcd: the ids follow from the content too, so that members made from different
    // backups, or with a different revision, never take each other for one cluster.
    fn identify(
        &self,
        mut config: Config,
        state: &State,
        staging: &Path,
    ) -> Result<(BTreeMap<u64, Peer>, Identity), BackupError> {
        let fingerprint = self.fingerprint(state)?;
        config.initial_cluster_token = format!("{}\n{fingerprint}", config.initial_cluster_token);
        let settings = |error: identity::IdentityError| BackupError::Settings(error.to_string());
        let members = identity::first_members(&config);
        config.check_bootstrap().map_err(BackupError::Settings)?;
        let identity = identity::of_first_member(&config);
        identity::save(staging, identity).map_err(settings)?;
        Ok((members, identity))
    }

    /// A digest of everything that the new cluster begins with.
    fn fingerprint(&self, state: &State) -> Result<String, BackupError> {
        let mut hash = Sha256::new();
        let view = state.view();
        for table in Table::ALL {
            view.scan(table, &[], None, &mut |key, value| {
                for part in [table.name().as_bytes(), key, value] {
                    hash.update((part.len() as u64).to_le_bytes());
                    hash.update(part);
                }
                ControlFlow::Continue(())
            })?;
        }
        hash.update(self.bump_revision.to_le_bytes());
        hash.update([u8::from(self.mark_compacted)]);
        Ok(hex(&hash.finalize()[..16]))
    }

    /// Writes the beginning of the new cluster. Returns the revision and the compacted one.
    fn plant(
        &self,
        state: &Arc<State>,
        members: &BTreeMap<u64, Peer>,
    ) -> Result<(i64, i64), BackupError> {
        let first: Vec<FirstMember> = members
            .iter()
            .map(|(id, peer)| FirstMember {
                id: *id,
                name: peer.name.clone(),
                peer_urls: peer.peer_urls.clone(),
            })
            .collect();
        let mut machine = Machine::open(Arc::clone(state) as _, Settings::default())?;
        let begin = Seed {
            members: &first,
            log_index: seed::FIRST_ENTRY.index,
            log_term: seed::FIRST_ENTRY.term,
            bump_revision: self.bump_revision.cast_signed(),
            mark_compacted: self.mark_compacted,
        };
        let mut batch = StateBatch::default();
        let revision = begin
            .plant(&mut machine, &mut batch)
            .ok_or_else(|| BackupError::Settings("--bump-revision is too large".into()))?;
        let compacted = machine.compacted_revision();
        seed::rows(members, &mut batch).map_err(BackupError::io(&self.data_dir))?;
        state.write(&batch)?;
        Ok((revision, if self.mark_compacted { revision } else { compacted }))
    }
}

/// Compares the rows of keys that were written with those that were read.
fn check_copy(state: &State, filled: &Filled, source: &Source) -> Result<(), BackupError> {
    let (mut crc, mut rows) = (0, 0);
    state.view().scan(Table::Key, &[], None, &mut |key, value| {
        rows += 1;
        crc = row_crc(crc, key, value);
        ControlFlow::Continue(())
    })?;
    if (crc, rows) == (filled.taking.crc, filled.taking.rows) {
        return Ok(());
    }
    let source = std::io::Error::other(format!(
        "what was written is not what was read from {}",
        source.path().display()
    ));
    Err(BackupError::Io { path: state.path().to_owned(), source })
}

fn is_empty_dir(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

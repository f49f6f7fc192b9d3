//! Applying committed entries: Raft's state machine around [`Machine`].
//!
//! Owns: the one place that changes the machine and writes its state, and snapshots of it. Must
//! not know: what a command means, or who waits for its outcome. A newcomer's trap: the machine
//! stays locked from `apply` until its state is written, so no reader sees a revision whose value
//! it cannot read; events are published only after that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, TryStreamExt as _};
use kijabi_base::clock;
use kijabi_disk::snapshot::{Checkpoint, StateHome};
use kijabi_disk::state::State;
use kijabi_disk::wal::Wal;
use kijabi_machine::state::{StateBatch, StateError, StateOp, StateView as _, Table};
use kijabi_machine::{Machine, Outcome, Settings};
use kijabi_proto::command::MemberAttributes;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{OptionalSend, Snapshot};
use parking_lot::{Mutex, RwLock};

use super::types::{
    Answer, Entry, LogId, Peer, SnapshotMeta, StoredMembership, TypeConfig, decode, encode,
    from_disk, to_disk_id,
};
use super::work::Work;
use crate::apply_hooks::ApplyHooks;
use crate::crew;

/// A snapshot as Raft passes it on: a folder with the state as it was.
pub(crate) type SnapshotData = Arc<Checkpoint>;

/// Raft's last applied log id, in the meta table, in the same batch as what was applied (APPLY-1).
pub(super) const RAFT_APPLIED: &[u8] = b"raft_applied";
/// Raft's last applied membership.
pub(super) const RAFT_MEMBERSHIP: &[u8] = b"raft_membership";

/// Bytes of entries read at once when a log is applied without Raft.
const CATCH_UP_BYTES: usize = 4 << 20;

/// The state machine as Raft drives it. Cloning shares.
#[derive(Clone)]
pub(crate) struct Applier(Arc<Inner>);

struct Inner {
    machine: Arc<RwLock<Machine>>,
    /// Replaced when a snapshot is installed; the machine's lock guards the pair.
    state: RwLock<Arc<State>>,
    home: StateHome,
    settings: Settings,
    hooks: ApplyHooks,
    /// Held while an entry is applied or a checkpoint is taken, so that a checkpoint is the state
    /// at one log id.
    applying: tokio::sync::Mutex<()>,
    snapshot: Mutex<Option<(SnapshotMeta, SnapshotData)>>,
    /// Entries below this index are in a state that was fetched, whatever Raft has applied itself.
    fetched_below: AtomicU64,
}

// === impl Applier ===

impl Applier {
    pub(crate) fn new(
        machine: Arc<RwLock<Machine>>,
        state: Arc<State>,
        home: StateHome,
        settings: Settings,
        hooks: ApplyHooks,
    ) -> Self {
        Self(Arc::new(Inner {
            machine,
            state: RwLock::new(state),
            home,
            settings,
            hooks,
            applying: tokio::sync::Mutex::new(()),
            snapshot: Mutex::new(None),
            fetched_below: AtomicU64::new(0),
        }))
    }

    /// The current state.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.0.state.read())
    }

    /// Applies the entries of the log that are known to be committed, without Raft: for a member
    /// that does not run.
    pub(crate) fn catch_up(&self, wal: &Wal) -> io::Result<()> {
        let Some(last) = wal.last().map(|id| id.index) else { return Ok(()) };
        loop {
            let (applied, voters) = self.stored()?;
            let next = applied.map_or(0, |applied| applied + 1);
            // Whatever the only voter has written is committed. Who the voters are may itself be
            // among the entries, so this is asked again once some were applied.
            let committed = wal.committed().map_or(0, |id| id.index);
            let upto = if voters == 1 { last } else { committed };
            if next > upto {
                return Ok(());
            }
            let read = wal.read(next..upto + 1, CATCH_UP_BYTES).map_err(io::Error::other)?;
            if read.first().is_none_or(|entry| entry.id.index != next) {
                let what = format!("entry {next} of the raft log is missing");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            for entry in read {
                let entry = from_disk(entry)?;
                let work = Work::of(entry)?;
                self.apply_work(&work)?;
            }
        }
    }

    /// The last applied log index and the number of voters, as they are stored.
    pub(crate) fn stored(&self) -> io::Result<(Option<u64>, usize)> {
        let meta = Self::meta(&self.state())?;
        let voters = meta.last_membership.voter_ids().count();
        Ok((meta.last_log_id.map(|id| id.index), voters))
    }

    /// Bytes of all revisions that are not compacted away.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.0.machine.read().live_bytes()
    }

    /// Where the state lives, and where one that comes in is put.
    pub(crate) fn home(&self) -> &StateHome {
        &self.0.home
    }

    /// The last applied log id, as it is stored.
    pub(crate) fn last_applied(&self) -> io::Result<Option<LogId>> {
        Ok(Self::meta(&self.state())?.last_log_id)
    }

    /// What the stored membership says of a member.
    pub(crate) fn peer(&self, member_id: u64) -> io::Result<Option<Peer>> {
        let meta = Self::meta(&self.state())?;
        Ok(meta.last_membership.membership().get_node(&member_id).cloned())
    }

    /// Runs one step of the scheduled compaction, of at most `rows_max` rows. `None` if none is
    /// due, else whether it is done, and for how long others had to wait for it.
    pub(crate) async fn compact_step(
        &self,
        rows_max: usize,
    ) -> Result<Option<(bool, Duration)>, StateError> {
        let _applying = self.0.applying.lock().await;
        let begun = clock::now();
        let mut machine = self.0.machine.write();
        let Some(step) = machine.compact_step(rows_max) else { return Ok(None) };
        self.state().write(&step.state)?;
        let took = begun.elapsed();
        self.0.hooks.compacted(step.state.ops.len(), took);
        Ok(Some((step.done, took)))
    }

    /// A copy of the state as it is now, for another member.
    pub(crate) async fn checkpoint(&self) -> Result<Checkpoint, StateError> {
        // Most of it reaches the disk while entries are still being applied.
        let state = self.state();
        let flushed = kijabi_base::tasks::blocking(move || state.flush()).await;
        flushed.map_err(|error| StateError(error.to_string()))??;
        let _applying = self.0.applying.lock().await;
        let (home, state) = (self.0.home.clone(), self.state());
        let name = format!("copy-{}", kijabi_base::rng::positive_i64());
        let taken = kijabi_base::tasks::blocking(move || home.checkpoint(&state, &name)).await;
        taken.map_err(|error| StateError(error.to_string()))?
    }

    /// Takes a new copy in place of the one that is kept for other members, if there is one: that
    /// one holds on to files which nobody else needs any more.
    pub(crate) async fn renew_snapshot(&self) -> Result<(), StateError> {
        if self.0.snapshot.lock().is_none() {
            return Ok(());
        }
        let state = self.state();
        let flushed = kijabi_base::tasks::blocking(move || state.flush()).await;
        flushed.map_err(|error| StateError(error.to_string()))??;
        let applying = self.0.applying.lock().await;
        let (home, state) = (self.0.home.clone(), self.state());
        let meta = Self::meta(&state).map_err(|error| StateError(error.to_string()))?;
        let name = format!("copy-{}", kijabi_base::rng::positive_i64());
        let taken = kijabi_base::tasks::blocking(move || home.checkpoint(&state, &name)).await;
        drop(applying);
        let taken = Arc::new(taken.map_err(|error| StateError(error.to_string()))??);
        let mut kept = self.0.snapshot.lock();
        // Raft may have taken a newer one meanwhile.
        if kept.as_ref().is_some_and(|(known, _)| known.last_log_id <= meta.last_log_id) {
            *kept = Some((meta, taken));
        }
        Ok(())
    }

    /// Puts another member's state in place of this one's, which is wrong. It must not be older:
    /// entries that it lacks would not be applied again.
    pub(crate) async fn replace(&self, snapshot: SnapshotData) -> io::Result<()> {
        let _applying = self.0.applying.lock().await;
        let (state, machine) = self.opened(&snapshot).await?;
        if machine.applied_index() < self.0.machine.read().applied_index() {
            return Err(io::Error::other("the other member's state is older than this one's"));
        }
        let meta = Self::meta(&state)?;
        let below = machine.applied_index() + 1;
        self.put_in_place(state, machine, &meta)?;
        self.0.fetched_below.store(below, Ordering::Release);
        // A copy of what was wrong must not go to anybody.
        *self.0.snapshot.lock() = None;
        Ok(())
    }

    /// Opens a state that came from elsewhere, next to the current one.
    async fn opened(&self, snapshot: &SnapshotData) -> io::Result<(Arc<State>, Machine)> {
        // The snapshot's own folder goes away with its last user, so its state is copied over.
        let inner = &*self.0;
        let (home, from, settings) = (inner.home.clone(), Arc::clone(snapshot), inner.settings);
        let opened = kijabi_base::tasks::blocking(move || {
            let staged = home.stage()?;
            from.open().and_then(|state| state.checkpoint(&staged))?;
            let state = Arc::new(State::open(&staged)?);
            let machine = Machine::open(Arc::clone(&state) as _, settings)?;
            Ok::<_, StateError>((state, machine))
        });
        opened.await?.map_err(io::Error::other)
    }

    fn put_in_place(
        &self,
        state: Arc<State>,
        machine: Machine,
        meta: &SnapshotMeta,
    ) -> io::Result<()> {
        let inner = &*self.0;
        {
            let mut current = inner.machine.write();
            inner.home.adopt(&state).map_err(io::Error::other)?;
            *current = machine;
            *inner.state.write() = state;
        }
        inner.hooks.auth_read(inner.machine.read().auth().enabled());
        let at = meta.last_log_id.map_or((0, 0), |id| (to_disk_id(&id).term, id.index));
        inner.hooks.replaced(at, inner.machine.read().revision());
        Ok(())
    }

    /// Applies an entry: what takes long beside Raft, which would otherwise answer nobody meanwhile.
    async fn apply_entry(&self, entry: Entry) -> io::Result<()> {
        let work = Work::of(entry)?;
        if work.is_light() {
            return self.apply_work(&work);
        }
        let this = self.clone();
        kijabi_base::tasks::spawn("apply", async move { this.apply_work(&work) }).await?
    }

    fn apply_work(&self, work: &Work) -> io::Result<()> {
        let Work { log_id, batch, membership, .. } = work;
        let inner = &*self.0;
        let begun = clock::now();
        let (applied, revision) = {
            let mut machine = inner.machine.write();
            let (term, index) = (to_disk_id(log_id).term, log_id.index);
            machine.tell_previous(inner.hooks.wants_previous());
            let mut applied = machine
                .apply(inner.hooks.now_ms(), index, term, batch)
                .map_err(io::Error::other)?;
            applied.state.put(Table::Meta, RAFT_APPLIED, encode(log_id)?);
            if let Some(membership) = membership {
                machine.set_members(&rows(membership), &mut applied.state);
                applied.state.put(Table::Meta, RAFT_MEMBERSHIP, encode(membership)?);
            }
            let writing = clock::now();
            inner.state.read().write(&applied.state).map_err(io::Error::other)?;
            inner.hooks.committed(writing.elapsed());
            (applied, machine.revision())
        };
        let (bytes, id) = (batch_bytes(&applied.state), to_disk_id(log_id));
        inner.hooks.applied((id.term, id.index), revision, bytes, batch, applied);
        inner.hooks.took(id.index, begun.elapsed());
        Ok(())
    }

    fn meta(state: &State) -> io::Result<SnapshotMeta> {
        let read = |key| state.get(Table::Meta, key).map_err(io::Error::other);
        let last_log_id = read(RAFT_APPLIED)?.map(|bytes| decode(&bytes)).transpose()?;
        let last_membership = match read(RAFT_MEMBERSHIP)? {
            Some(bytes) => decode(&bytes)?,
            None => StoredMembership::default(),
        };
        Ok(SnapshotMeta { last_log_id, last_membership })
    }
}

/// The members' table as a membership has it. The table changes in the same batch as the membership
/// is applied with, and nowhere else, so both can never tell different stories (APPLY-1).
fn rows(membership: &StoredMembership) -> Vec<MemberAttributes> {
    let row = |(id, peer): (&u64, &Peer)| MemberAttributes {
        id: *id,
        name: peer.name.clone(),
        client_urls: Vec::new(),
        peer_urls: peer.peer_urls.clone(),
        is_learner: peer.learner,
    };
    membership.nodes().map(row).collect()
}

/// What a batch adds to the database at most.
fn batch_bytes(batch: &StateBatch) -> u64 {
    let sizes = batch.ops.iter().map(|op| match op {
        StateOp::Put { key, value, .. } => key.len() + value.len(),
        StateOp::Delete { key, .. } => key.len(),
    });
    sizes.sum::<usize>() as u64
}

impl RaftStateMachine<TypeConfig> for Applier {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let meta = Self::meta(&self.state())?;
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut first = true;
        while let Some((entry, responder)) = entries.try_next().await? {
            // Unless somebody waits here, what is to be said to other members goes first: that
            // entries which came with the commit are durable, or the commit itself.
            if std::mem::take(&mut first) && !self.0.hooks.outcomes().is_anybody_waiting() {
                crew::later().await;
            }
            let _applying = self.0.applying.lock().await;
            // The state may have been fetched from another member, and hold the entry already.
            let passed_over = entry.log_id.index < self.0.fetched_below.load(Ordering::Acquire);
            if !passed_over {
                self.apply_entry(entry).await?;
            }
            if let Some(responder) = responder {
                responder.send(Answer);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let _applying = self.0.applying.lock().await;
        let _installing = self.0.hooks.installing();
        let (state, machine) = self.opened(&snapshot).await?;
        if Self::meta(&state)?.last_log_id != meta.last_log_id {
            let what = "the snapshot's state is not at the log id it is said to be at";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        self.put_in_place(state, machine, meta)?;
        *self.0.snapshot.lock() = Some((meta.clone(), snapshot));
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>>>
    {
        let current = self.0.snapshot.lock().clone();
        Ok(current.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Applier {
    type SnapshotData = SnapshotData;

    /// Makes the state durable, so that the log before it may go, and keeps a view of it for a
    /// member that needs it.
    async fn build_snapshot(
        &mut self,
    ) -> io::Result<openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>> {
        let this = self.clone();
        // Most of it while entries are still being applied; the rest under the lock.
        let state = self.state();
        kijabi_base::tasks::blocking(move || state.flush()).await?.map_err(io::Error::other)?;
        let applying = this.0.applying.lock().await;
        let state = this.state();
        let meta = Self::meta(&state)?;
        let name = meta
            .last_log_id
            .map_or_else(|| "0".into(), |id| format!("{}-{}", to_disk_id(&id).term, id.index));
        let home = this.0.home.clone();
        // A checkpoint of the same moment is the same checkpoint.
        let known = this
            .0
            .snapshot
            .lock()
            .clone()
            .filter(|(known, _)| known.last_log_id == meta.last_log_id);
        let checkpoint = match known {
            Some((_, checkpoint)) => checkpoint,
            None => {
                let taken = kijabi_base::tasks::blocking(move || home.checkpoint(&state, &name));
                Arc::new(taken.await?.map_err(io::Error::other)?)
            }
        };
        drop(applying);
        *this.0.snapshot.lock() = Some((meta.clone(), Arc::clone(&checkpoint)));
        Ok(Snapshot { meta, snapshot: checkpoint })
    }
}

/// Whether an applied batch scheduled a compaction.
pub(crate) fn has_compaction(outcomes: &[Result<Outcome, kijabi_machine::Error>]) -> bool {
    outcomes.iter().any(|outcome| matches!(outcome, Ok(Outcome::Compaction(_))))
}

//! A machine with its state in memory, and a small language to talk to it.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub(crate) mod script;

use std::sync::Arc;

use kijabi_machine::state::MemoryState;
use kijabi_machine::{
    Applied, Error, HistoryLimit, Machine, Outcome, RevisionEvents, Settings, read_history,
};
use kijabi_proto::command::command::Request;
use kijabi_proto::command::{Batch, Command};
use kijabi_proto::etcdserverpb as pb;

/// A machine and its durable state.
pub(crate) struct Store {
    pub(crate) state: Arc<MemoryState>,
    pub(crate) machine: Machine,
    pub(crate) now_ms: u64,
    log_index: u64,
    /// Everything that was published.
    pub(crate) published: Vec<Arc<RevisionEvents>>,
}

pub(crate) const ALL_HISTORY: HistoryLimit =
    HistoryLimit { revisions_max: usize::MAX, bytes_max: usize::MAX };

impl Store {
    pub(crate) fn new() -> Self {
        let state = Arc::new(MemoryState::default());
        let mut machine = Machine::open(state.clone(), Settings::default()).unwrap();
        machine.leases_promote(0, 0);
        Self { state, machine, now_ms: 0, log_index: 0, published: Vec::new() }
    }

    pub(crate) fn reopen(&mut self) {
        self.machine = Machine::open(self.state.clone(), Settings::default()).unwrap();
        assert_eq!(self.machine.applied_index(), self.log_index, "APPLY-1");
        self.machine.leases_promote(self.now_ms, 0);
    }

    pub(crate) fn apply_all(&mut self, requests: Vec<Request>) -> Applied {
        self.log_index += 1;
        let commands = requests
            .into_iter()
            .map(|request| Command { request: Some(request), ..Default::default() });
        let batch = Batch { commands: commands.collect(), ..Batch::default() };
        let applied = self.machine.apply(self.now_ms, self.log_index, 1, &batch).unwrap();
        self.state.write(&applied.state);
        self.published.extend(applied.events.iter().cloned());
        applied
    }

    /// Applies a command as it stands in a log entry of its own.
    pub(crate) fn apply_command(&mut self, command: Command) -> Result<Outcome, Error> {
        self.log_index += 1;
        let batch = Batch { commands: vec![command], ..Batch::default() };
        let mut applied = self.machine.apply(self.now_ms, self.log_index, 1, &batch).unwrap();
        self.state.write(&applied.state);
        applied.outcomes.pop().unwrap()
    }

    pub(crate) fn apply(&mut self, request: Request) -> Result<Outcome, Error> {
        self.apply_all(vec![request]).outcomes.pop().unwrap()
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) -> i64 {
        let put = pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Default::default()
        };
        match self.apply(Request::Put(put)).unwrap() {
            Outcome::Put(response) => response.header.unwrap().revision,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        self.machine.range(request)?.fetch(&*self.state)
    }

    /// What a watcher that is behind reads: `None` if its start is compacted.
    pub(crate) fn watch(
        &self,
        key: &[u8],
        range_end: &[u8],
        from: i64,
        limit: HistoryLimit,
    ) -> Option<Vec<RevisionEvents>> {
        let range = kijabi_machine::KeyRange::of(key, range_end);
        let to = self.machine.revision();
        let history =
            read_history(&*self.state, from, to, limit, &|key| range.contains(key)).unwrap();
        if from < self.machine.compacted_revision() {
            return None;
        }
        let mut revisions = history.revisions;
        self.machine
            .plan_previous(&revisions)
            .fetch(&*self.state, &mut revisions, usize::MAX)
            .unwrap();
        Some(revisions)
    }
}

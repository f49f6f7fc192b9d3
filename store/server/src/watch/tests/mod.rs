//! Tests of watching, on a machine in memory: `session` step by step, `stream` with its loop,
//! `interleave` in every order of events.

mod interleave;
mod session;
mod stream;

use std::sync::Arc;

use kijabi_machine::state::MemoryState;
use kijabi_machine::{Machine, Settings};
use kijabi_proto::command::command::Request as Command;
use kijabi_proto::command::{Batch, Command as Entry};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use kijabi_proto::etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse};
use kijabi_proto::mvccpb::event::EventType;
use parking_lot::RwLock;
use prost::Message as _;

use super::hub::Hub;
use super::session::{Session, Source};
use crate::store::EventSink as _;

/// A store of one machine and a hub.
pub(super) struct World {
    pub(super) state: Arc<MemoryState>,
    pub(super) source: Source,
    index: u64,
}

impl World {
    pub(super) fn new() -> Self {
        let state = Arc::new(MemoryState::default());
        let machine = Machine::open(state.clone(), Settings::default()).unwrap();
        let source = Source {
            machine: Arc::new(RwLock::new(machine)),
            hub: Hub::new(1),
            header: Arc::new(|revision| ResponseHeader { revision, ..Default::default() }),
            connection: 0,
            fragment_bytes: 2000,
        };
        Self { state, source, index: 0 }
    }

    pub(super) fn apply(&mut self, request: Command) {
        self.apply_unpublished(request, true);
    }

    pub(super) fn apply_unpublished(&mut self, request: Command, publish: bool) {
        self.index += 1;
        let batch = Batch {
            commands: vec![Entry { request: Some(request), ..Default::default() }],
            ..Batch::default()
        };
        let mut machine = self.source.machine.write();
        let applied = machine.apply(0, self.index, 1, &batch).unwrap();
        self.state.write(&applied.state);
        drop(machine);
        if publish {
            self.source.hub.publish(&applied.events);
        }
    }

    pub(super) fn put(&mut self, key: &str, value: &str) {
        self.apply(put(key, value));
    }

    pub(super) fn delete(&mut self, key: &str) {
        let key = key.to_owned().into();
        self.apply(Command::DeleteRange(pb::DeleteRangeRequest { key, ..Default::default() }));
    }

    pub(super) fn compact(&mut self, revision: i64) {
        self.apply(Command::Compaction(pb::CompactionRequest { revision, physical: false }));
        let mut machine = self.source.machine.write();
        while let Some(step) = machine.compact_step(1000) {
            self.state.write(&step.state);
        }
    }

    /// Forgets the ring, as a restart does: history is on disk only.
    pub(super) fn forget_ring(&mut self) {
        self.source.hub = Hub::new(self.source.machine.read().revision());
    }
}

pub(super) fn put(key: &str, value: &str) -> Command {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    Command::Put(pb::PutRequest { key, value, ..Default::default() })
}

pub(super) fn create(key: &str, range_end: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        start_revision,
        prev_kv: true,
        ..Default::default()
    }
}

pub(super) fn request(create: pb::WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

pub(super) fn cancel(watch_id: i64) -> WatchRequest {
    let request = pb::WatchCancelRequest { watch_id };
    WatchRequest { request_union: Some(RequestUnion::CancelRequest(request)) }
}

pub(super) fn progress() -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})) }
}

/// Does everything there is to do, and writes down what would be sent.
pub(super) async fn settle(session: &mut Session) -> Vec<String> {
    let mut sent = Vec::new();
    loop {
        let all_taken = session.pick_up();
        while let Some(reading) = session.catch_up() {
            let round = reading.await.unwrap().unwrap();
            session.finish_round(&round);
        }
        let mut progressed = !all_taken;
        for response in taken(session) {
            sent.push(show(&response));
            progressed = true;
        }
        if !progressed {
            return sent;
        }
    }
}

/// What is to be sent.
pub(super) fn taken(session: &mut Session) -> Vec<WatchResponse> {
    let pieces = std::iter::from_fn(|| session.next_bytes());
    pieces.flat_map(|piece| messages(&piece)).collect()
}

/// The messages of a piece of a body.
pub(super) fn messages(mut piece: &[u8]) -> Vec<WatchResponse> {
    let mut messages = Vec::new();
    while let [0, a, b, c, d, rest @ ..] = piece {
        let (message, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        messages.push(WatchResponse::decode(message).unwrap());
        piece = rest;
    }
    assert!(piece.is_empty());
    messages
}

pub(super) fn show(response: &WatchResponse) -> String {
    let revision = response.header.as_ref().unwrap().revision;
    let mut parts = vec![format!("{}@{revision}", response.watch_id)];
    let marks = [
        (response.created, "created"),
        (response.canceled, "canceled"),
        (response.fragment, "fragment"),
    ];
    parts.extend(marks.iter().filter(|(on, _)| *on).map(|(_, mark)| (*mark).to_owned()));
    if response.compact_revision != 0 {
        parts.push(format!("compacted={}", response.compact_revision));
    }
    if !response.cancel_reason.is_empty() {
        parts.push(format!("({})", response.cancel_reason));
    }
    for event in &response.events {
        let kv = event.kv.as_ref().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let was = event.prev_kv.as_ref().map(|kv| format!("<{}", text(&kv.value)));
        let what = match event.r#type() {
            EventType::Put => format!("{}={}", text(&kv.key), text(&kv.value)),
            EventType::Delete => format!("-{}", text(&kv.key)),
        };
        parts.push(format!("{}:{what}{}", kv.mod_revision, was.unwrap_or_default()));
    }
    parts.join(" ")
}

//! Tests of watching: a session on a machine in memory, driven step by step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::tasks::{self, Shutdown};
use kijabi_machine::state::MemoryState;
use kijabi_machine::{Machine, Settings};
use kijabi_proto::command::command::Request as Command;
use kijabi_proto::command::{Batch, Command as Entry};
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::watch_create_request::FilterType;
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use kijabi_proto::etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse};
use kijabi_proto::mvccpb::event::EventType;
use parking_lot::RwLock;
use proptest::prelude::*;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::hub::Hub;
use super::session::{Session, Source};
use super::stream::{Terms, run};
use crate::store::{EventSink as _, Standing};

/// A store of one machine and a hub.
struct World {
    state: Arc<MemoryState>,
    source: Source,
    index: u64,
}

impl World {
    fn new() -> Self {
        let state = Arc::new(MemoryState::default());
        let machine = Machine::open(state.clone(), Settings::default()).unwrap();
        let source = Source {
            machine: Arc::new(RwLock::new(machine)),
            hub: Hub::new(1),
            header: Arc::new(|revision| ResponseHeader { revision, ..Default::default() }),
            fragment_bytes: 2000,
        };
        Self { state, source, index: 0 }
    }

    fn apply(&mut self, request: Command) {
        self.apply_unpublished(request, true);
    }

    fn apply_unpublished(&mut self, request: Command, publish: bool) {
        self.index += 1;
        let batch =
            Batch { commands: vec![Entry { request: Some(request), ..Default::default() }] };
        let mut machine = self.source.machine.write();
        let applied = machine.apply(0, self.index, 1, &batch).unwrap();
        self.state.write(&applied.state);
        drop(machine);
        if publish {
            self.source.hub.publish(&applied.events);
        }
    }

    fn put(&mut self, key: &str, value: &str) {
        self.apply(put(key, value));
    }

    fn delete(&mut self, key: &str) {
        let key = key.to_owned().into();
        self.apply(Command::DeleteRange(pb::DeleteRangeRequest { key, ..Default::default() }));
    }

    fn compact(&mut self, revision: i64) {
        self.apply(Command::Compaction(pb::CompactionRequest { revision, physical: false }));
        let mut machine = self.source.machine.write();
        while let Some(step) = machine.compact_step() {
            self.state.write(&step.state);
        }
    }

    /// Forgets the ring, as a restart does: history is on disk only.
    fn forget_ring(&mut self) {
        self.source.hub = Hub::new(self.source.machine.read().revision());
    }
}

fn put(key: &str, value: &str) -> Command {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    Command::Put(pb::PutRequest { key, value, ..Default::default() })
}

fn create(key: &str, range_end: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        start_revision,
        prev_kv: true,
        ..Default::default()
    }
}

fn request(create: pb::WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn cancel(watch_id: i64) -> WatchRequest {
    let request = pb::WatchCancelRequest { watch_id };
    WatchRequest { request_union: Some(RequestUnion::CancelRequest(request)) }
}

fn progress() -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})) }
}

/// Does everything there is to do, and writes down what would be sent.
async fn settle(session: &mut Session) -> Vec<String> {
    let mut sent = Vec::new();
    loop {
        let all_taken = session.pick_up();
        while let Some(reading) = session.catch_up() {
            let round = reading.await.unwrap().unwrap();
            session.finish_round(&round);
        }
        let mut progressed = !all_taken;
        while let Some(response) = session.next_output() {
            sent.push(show(&response));
            progressed = true;
        }
        if !progressed {
            return sent;
        }
    }
}

fn show(response: &WatchResponse) -> String {
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

#[tokio::test]
async fn a_watch_without_a_start_gets_what_comes_after_it() {
    let mut world = World::new();
    world.put("a", "1");
    let mut session = Session::new(world.source.clone());
    session.handle(request(create("a", "", 0)));
    world.put("a", "2");
    world.put("b", "1");
    world.delete("a");
    assert_eq!(settle(&mut session).await, ["0@2 created", "0@5 3:a=2<1 5:-a<2"]);
}

#[tokio::test]
async fn a_watch_of_the_past_reads_the_ring_or_the_disk_alike() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("b", "1");
    world.put("a", "2");
    let expected = ["0@4 created", "0@4 2:a=1 4:a=2<1"];
    let mut from_ring = Session::new(world.source.clone());
    from_ring.handle(request(create("a", "", 1)));
    assert_eq!(settle(&mut from_ring).await, expected);
    world.forget_ring();
    let mut from_disk = Session::new(world.source.clone());
    from_disk.handle(request(create("a", "", 1)));
    assert_eq!(settle(&mut from_disk).await, expected);
    world.put("a", "3");
    assert_eq!(settle(&mut from_disk).await, ["0@5 5:a=3<2"]);
}

/// etcd#20221.
#[tokio::test]
async fn a_watch_of_the_future_is_silent_until_then() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    session.handle(request(create("a", "", 4)));
    world.put("a", "1");
    world.put("a", "2");
    session.handle(progress());
    assert_eq!(settle(&mut session).await, ["0@1 created"]);
    world.put("a", "3");
    session.handle(progress());
    assert_eq!(settle(&mut session).await, ["0@4 4:a=3<2", "-1@4"]);
}

#[tokio::test]
async fn a_compacted_start_is_created_and_then_canceled() {
    let mut world = World::new();
    for value in ["1", "2", "3"] {
        world.put("a", value);
    }
    world.delete("a");
    world.compact(5);
    for ring in [true, false] {
        if !ring {
            world.forget_ring();
        }
        let mut session = Session::new(world.source.clone());
        session.handle(request(create("a", "", 4)));
        session.handle(request(create("a", "", 5)));
        let sent = settle(&mut session).await;
        let was = if ring { "<3" } else { "" };
        let expected =
            ["0@5 created", "1@5 created", "0@0 canceled compacted=5", &format!("1@5 5:-a{was}")];
        assert_eq!(sent, expected, "etcd#19179, ring {ring}");
    }
}

#[tokio::test]
async fn filters_and_previous_values_are_per_watch() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    let filtered = |filter: FilterType| pb::WatchCreateRequest {
        filters: vec![filter.into()],
        prev_kv: false,
        ..create("a", "", 0)
    };
    session.handle(request(filtered(FilterType::Noput)));
    session.handle(request(filtered(FilterType::Nodelete)));
    world.put("a", "1");
    world.delete("a");
    let expected = ["0@1 created", "1@1 created", "0@3 3:-a", "1@3 2:a=1"];
    assert_eq!(settle(&mut session).await, expected);
}

#[tokio::test]
async fn ids_are_given_chosen_and_freed_as_in_etcd() {
    let world = World::new();
    let mut session = Session::new(world.source.clone());
    let with_id = |watch_id| pb::WatchCreateRequest { watch_id, ..create("a", "", 0) };
    for id in [1, 0, 0, 1, 7, 0] {
        session.handle(request(with_id(id)));
    }
    session.handle(cancel(7));
    session.handle(cancel(99));
    session.handle(request(with_id(7)));
    let duplicate = "-1@1 created canceled (mvcc: duplicate watch ID provided on the WatchStream)";
    let expected = [
        "1@1 created",
        "0@1 created",
        "2@1 created",
        duplicate,
        "7@1 created",
        "3@1 created",
        "7@1 canceled",
        "7@1 created",
    ];
    assert_eq!(settle(&mut session).await, expected);
}

/// E10 of the hostile inputs.
#[tokio::test]
async fn odd_watches_are_refused_with_etcds_reasons() {
    let world = World::new();
    let cases = [
        (create("b", "a", 0), "-1@1 created canceled (mvcc: watcher range is empty)"),
        (create("b", "b", 0), "-1@1 created canceled (mvcc: watcher range is empty)"),
        (create("b", "", -1), "-1@1 created canceled (mvcc: required revision has been compacted)"),
        (create("", "", 0), "0@1 created"),
        (create("", "\0", i64::MAX), "0@1 created"),
    ];
    for (create, expected) in cases {
        let mut session = Session::new(world.source.clone());
        session.handle(request(create));
        assert_eq!(settle(&mut session).await, [expected]);
        session.handle(WatchRequest { request_union: None });
        assert!(settle(&mut session).await.is_empty());
    }
}

/// etcd#15220 and #17507: progress must not overtake events.
#[tokio::test]
async fn progress_comes_after_everything_it_promises() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    session.handle(progress());
    assert!(settle(&mut session).await.is_empty(), "nobody to tell");
    world.put("a", "1");
    session.handle(request(create("a", "", 1)));
    session.handle(progress());
    assert_eq!(settle(&mut session).await, ["0@2 created", "0@2 2:a=1"], "it was behind");
    world.put("a", "2");
    session.handle(progress());
    assert_eq!(settle(&mut session).await, ["0@3 3:a=2<1", "-1@3"]);
    world.put("other", "2");
    session.handle(progress());
    assert_eq!(settle(&mut session).await, ["-1@4"]);
}

#[tokio::test]
async fn periodic_progress_goes_to_the_quiet_watches_that_want_it() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    let wanting = |key| pb::WatchCreateRequest { progress_notify: true, ..create(key, "", 0) };
    session.handle(request(wanting("a")));
    session.handle(request(wanting("b")));
    session.handle(request(create("c", "", 0)));
    settle(&mut session).await;
    world.put("a", "1");
    session.progress_tick();
    assert_eq!(settle(&mut session).await, ["0@2 2:a=1", "1@2"]);
    session.progress_tick();
    assert_eq!(settle(&mut session).await, ["0@2", "1@2"]);
}

#[tokio::test]
async fn large_answers_are_split_for_those_who_allow_it() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    session.handle(request(pb::WatchCreateRequest { fragment: true, ..create("a", "", 0) }));
    session.handle(request(create("a", "", 0)));
    for value in ["x", "y"] {
        world.put("a", &value.repeat(1500));
    }
    session.pick_up();
    let mut fragments = Vec::new();
    while let Some(response) = session.next_output() {
        fragments.push((response.watch_id, response.fragment, response.events.len()));
    }
    let expected = [(0, false, 0), (1, false, 0), (0, true, 1), (0, false, 1), (1, false, 2)];
    assert_eq!(fragments, expected);
}

#[tokio::test]
async fn an_installed_snapshot_leaves_no_gap_and_repeats_nothing() {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    session.handle(request(create("a", "", 0)));
    world.put("a", "1");
    assert_eq!(settle(&mut session).await, ["0@1 created", "0@2 2:a=1"]);
    world.apply_unpublished(put("a", "2"), false);
    world.apply_unpublished(put("a", "3"), false);
    let revision = world.source.machine.read().revision();
    world.source.hub.reset(revision);
    world.put("a", "4");
    assert_eq!(settle(&mut session).await, ["0@5 3:a=2<1 4:a=3<2 5:a=4<3"]);
}

/// A client on a channel instead of a socket.
struct Client {
    requests: mpsc::Sender<Result<WatchRequest, Status>>,
    responses: mpsc::Receiver<Result<WatchResponse, Status>>,
    standing: watch::Sender<Standing>,
    shutdown: Shutdown,
}

fn connect(world: &World, leader_grace: Option<Duration>) -> Client {
    let (requests, incoming) = mpsc::channel(64);
    let (outgoing, responses) = mpsc::channel(1);
    let (standing, follow) = watch::channel(Standing { leader: 1, ..Default::default() });
    let shutdown = Shutdown::new();
    let terms = Terms {
        progress_interval: Duration::from_secs(600),
        leader_grace,
        standing: follow,
        shutdown: shutdown.clone(),
    };
    let stream = run(world.source.clone(), terms, ReceiverStream::new(incoming), outgoing);
    tasks::spawn("watch stream", stream);
    Client { requests, responses, standing, shutdown }
}

/// E10: a client that never reads costs a bounded amount of memory, and loses nothing.
#[tokio::test]
async fn a_client_that_reads_late_gets_everything_once() {
    const PUTS: i64 = 3000;
    let mut world = World::new();
    let mut client = connect(&world, None);
    client.requests.send(Ok(request(create("a", "", 1)))).await.unwrap();
    assert!(client.responses.recv().await.unwrap().unwrap().created);
    for value in 0..PUTS {
        world.put("a", &value.to_string());
        if value % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut seen = Vec::new();
    while seen.len() < PUTS as usize {
        let response = client.responses.recv().await.unwrap().unwrap();
        seen.extend(response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
    }
    assert_eq!(seen, (2..2 + PUTS).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_ends_when_the_member_stops_or_its_leader_is_gone() {
    let world = World::new();
    let mut client = connect(&world, None);
    client.shutdown.trigger();
    let status = client.responses.recv().await.unwrap().unwrap_err();
    assert_eq!(status.message(), "etcdserver: server stopped");
    let mut client = connect(&world, Some(Duration::from_millis(1)));
    client.standing.send(Standing::default()).unwrap();
    let status = client.responses.recv().await.unwrap().unwrap_err();
    assert_eq!(status.message(), "etcdserver: no leader");
    assert!(client.responses.recv().await.is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Put(&'static str),
    Delete(&'static str),
    Watch(&'static str, &'static str, i64),
    PickUp,
    CatchUp,
    Unpublished,
    Progress,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop::sample::select(vec!["a", "b", "c"]);
    let end = prop::sample::select(vec!["", "\0", "c"]);
    prop_oneof![
        5 => key().prop_map(Step::Put),
        2 => key().prop_map(Step::Delete),
        2 => (key(), end, 0..12i64).prop_map(|(key, end, start)| Step::Watch(key, end, start)),
        2 => Just(Step::PickUp),
        2 => Just(Step::CatchUp),
        1 => Just(Step::Unpublished),
        1 => Just(Step::Progress),
    ]
}

/// What a watch was promised: its keys, and the first revision it gets.
type Promise = (String, String, i64);

async fn interleave(steps: Vec<Step>) {
    let mut world = World::new();
    let mut session = Session::new(world.source.clone());
    let mut promises: BTreeMap<i64, Promise> = BTreeMap::new();
    let mut reading = None;
    let mut sent = Vec::new();
    for step in steps {
        match step {
            Step::Put(key) => world.put(key, "v"),
            Step::Delete(key) => world.delete(key),
            Step::Watch(key, end, start) => {
                if end == "c" && key == "c" {
                    continue;
                }
                let now = world.source.machine.read().revision();
                let first = if start == 0 { now + 1 } else { start };
                promises.insert(promises.len() as i64, (key.into(), end.into(), first));
                session.handle(request(create(key, end, start)));
            }
            Step::PickUp => {
                session.pick_up();
            }
            Step::CatchUp => match reading.take() {
                None => reading = session.catch_up(),
                Some(task) => session.finish_round(&task.await.unwrap().unwrap()),
            },
            Step::Unpublished => {
                world.apply_unpublished(put("a", "u"), false);
                let revision = world.source.machine.read().revision();
                world.source.hub.reset(revision);
            }
            Step::Progress => session.handle(progress()),
        }
        while let Some(response) = session.next_output() {
            sent.push(response);
        }
    }
    if let Some(task) = reading {
        session.finish_round(&task.await.unwrap().unwrap());
    }
    loop {
        session.pick_up();
        while let Some(task) = session.catch_up() {
            session.finish_round(&task.await.unwrap().unwrap());
        }
        let before = sent.len();
        while let Some(response) = session.next_output() {
            sent.push(response);
        }
        if sent.len() == before {
            break;
        }
    }
    verify(&world, &promises, &sent);
}

fn verify(world: &World, promises: &BTreeMap<i64, Promise>, sent: &[WatchResponse]) {
    let machine = world.source.machine.read();
    let limit = kijabi_machine::HistoryLimit { revisions_max: usize::MAX, bytes_max: usize::MAX };
    let mut delivered: BTreeMap<i64, i64> = BTreeMap::new();
    for response in sent {
        let revision = response.header.as_ref().unwrap().revision;
        if response.watch_id == -1 {
            // WATCH-3: nothing at or below a progress revision comes after it.
            delivered.values_mut().for_each(|upto| *upto = (*upto).max(revision));
        }
        for event in &response.events {
            let at = event.kv.as_ref().unwrap().mod_revision;
            let upto = delivered.entry(response.watch_id).or_default();
            assert!(at > *upto, "WATCH-3: {at} after progress {upto}");
        }
    }
    for (id, (key, end, first)) in promises {
        let range = kijabi_machine::KeyRange::of(key.as_bytes(), end.as_bytes());
        let wanted = |key: &[u8]| range.contains(key);
        let history = kijabi_machine::read_history(
            &*world.state,
            *first,
            machine.revision().max(*first),
            limit,
            &wanted,
        );
        let mut revisions = history.unwrap().revisions;
        machine.plan_previous(&revisions).fetch(&*world.state, &mut revisions).unwrap();
        let expected: Vec<_> = revisions.into_iter().flat_map(|r| r.events).collect();
        let of_watch = sent.iter().filter(|response| response.watch_id == *id);
        let got: Vec<_> = of_watch.flat_map(|response| response.events.clone()).collect();
        assert_eq!(got, expected, "WATCH-1: watch {id} of {key} {end:?} from {first}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// WATCH-1, WATCH-2, WATCH-3 under every order of publishing, picking up and catching up.
    #[test]
    fn every_watch_gets_every_event_once_and_in_order(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(interleave(steps));
    }
}

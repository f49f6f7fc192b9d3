//! The state of one watch stream: its watches, its position, and the responses to be sent.
//!
//! Owns: creating and cancelling watches, turning revisions into responses, catching up. Must not
//! know: the socket. A newcomer's trap: a watch that is behind is fed by rounds of catching up
//! only; it joins the live ones in the moment its position passes the stream's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kijabi_base::limits::{WATCH_CATCH_UP_BYTES_MAX, WATCH_CATCH_UP_REVISIONS_MAX};
use kijabi_machine::state::StateError;
use kijabi_machine::{Caller, Machine};
use kijabi_proto::etcdserverpb::watch_request::RequestUnion;
use kijabi_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use parking_lot::RwLock;
use tokio::task::JoinHandle;

use super::catch_up::{self, Round, Wanted};
use super::coverage::Coverage;
use super::encoded::{Encoded, Part};
use super::hub::{Hub, Registration};
use super::outbox::Outbox;
use super::respond::{self, Message};
use super::tally::Share;
use super::watcher::Watcher;
use crate::error::Error;
use crate::status::EtcdError;

/// Where a stream's events and headers come from.
#[derive(Clone)]
pub(crate) struct Source {
    /// History and revisions.
    pub(crate) machine: Arc<RwLock<Machine>>,
    /// New events.
    pub(crate) hub: Arc<Hub>,
    /// A response header at a revision.
    pub(crate) header: Arc<dyn Fn(i64) -> ResponseHeader + Send + Sync>,
    /// On which connection the stream is.
    pub(crate) connection: u64,
    /// Size from which a response to a watch that allows it is split.
    pub(crate) fragment_bytes: usize,
}

/// A reading of history under way.
pub(super) type Reading = JoinHandle<Result<Round, StateError>>;

/// One stream.
pub(super) struct Session {
    source: Source,
    pub(super) registration: Registration,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    /// Whether some watch may be behind; spares the look at all of them.
    any_behind: bool,
    /// Live watches have been given everything up to here.
    position: i64,
    outbox: Outbox,
    /// Whether the outbox is full and somebody waits for it not to be.
    room_wished: bool,
    share: Share,
}

impl Session {
    pub(super) fn new(source: Source) -> Self {
        let registration = source.hub.register(source.connection);
        let position = source.hub.published();
        let share = Share::new(source.hub.tally());
        Self {
            source,
            registration,
            watchers: BTreeMap::new(),
            next_id: 0,
            any_behind: false,
            position,
            outbox: Outbox::default(),
            room_wished: false,
            share,
        }
    }

    /// Whether more responses may be made; if not, the client must read first.
    fn has_room(&self) -> bool {
        self.outbox.has_room()
    }

    /// The same, and if there is none, it is remembered that somebody waits for it.
    pub(super) fn has_room_or_wish(&mut self) -> bool {
        self.room_wished = !self.has_room();
        !self.room_wished
    }

    /// Whether somebody waits for room.
    pub(super) fn take_wish_for_room(&mut self) -> bool {
        std::mem::take(&mut self.room_wished)
    }

    /// Whether watches are behind, which [`Session::catch_up`] mends.
    pub(super) fn is_behind(&self) -> bool {
        self.any_behind
    }

    /// The next bytes to be sent.
    pub(super) fn next_bytes(&mut self) -> Option<Bytes> {
        self.outbox.pop()
    }

    fn send(&mut self, response: WatchResponse) {
        self.outbox.push(Message::of(response));
    }

    fn header(&self, revision: i64) -> ResponseHeader {
        (self.source.header)(revision)
    }

    fn header_now(&self) -> ResponseHeader {
        let revision = self.source.machine.read().revision();
        self.header(revision)
    }

    /// Carries out a client's request.
    pub(super) fn handle(&mut self, caller: &Result<Caller, Error>, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(caller, &request),
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.answer_progress(),
            None => {}
        }
        self.tally();
    }

    /// Counts its watches.
    fn tally(&mut self) {
        let behind = if self.any_behind {
            self.watchers.values().filter(|watcher| watcher.behind).count()
        } else {
            0
        };
        self.share.set(self.watchers.len(), behind);
    }

    fn create(&mut self, caller: &Result<Caller, Error>, request: &WatchCreateRequest) {
        let mut watcher = Watcher::of(request);
        if let Some(reason) = self.refusal(caller, request, &watcher) {
            let response = respond::refused(self.header_now(), &reason);
            return self.send(response);
        }
        let id = self.assign_id(request.watch_id);
        let published = self.registration.cover(watcher.range());
        let now = self.source.machine.read().revision().max(published);
        if request.start_revision == 0 {
            watcher.next = now + 1;
        }
        watcher.behind = watcher.next <= published;
        watcher.live_from = published + 1;
        self.any_behind |= watcher.behind;
        let response = respond::created(self.header(now), id);
        self.send(response);
        self.share.previous(watcher.wants_previous().into());
        self.watchers.insert(id, watcher);
    }

    fn cancel(&mut self, id: i64) {
        if let Some(watcher) = self.watchers.remove(&id) {
            self.after_leaving(&watcher);
            let response = respond::canceled(self.header_now(), id);
            self.send(response);
        }
    }

    fn refusal(
        &self,
        caller: &Result<Caller, Error>,
        request: &WatchCreateRequest,
        watcher: &Watcher,
    ) -> Option<Cow<'static, str>> {
        if request.start_revision < 0 {
            return Some("etcdserver: mvcc: required revision has been compacted".into());
        }
        let permitted = caller.as_ref().map_err(EtcdError::from).and_then(|caller| {
            // The range as it was sent, where a single zero byte as the end is every key from the
            // first on (GHSA-xg4h).
            let machine = self.source.machine.read();
            let (key, range_end) = watcher.as_sent();
            machine.auth().permit_range(caller, key, range_end).map_err(|e| EtcdError::from(&e))
        });
        if let Err(error) = permitted {
            return Some(error.go_text().into());
        }
        let refusal = if watcher.range().is_empty() {
            Some("mvcc: watcher range is empty")
        } else if request.watch_id != 0 && self.watchers.contains_key(&request.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else {
            None
        };
        refusal.map(Cow::from)
    }

    /// The id the client chose, or the next free one.
    fn assign_id(&mut self, chosen: i64) -> i64 {
        if chosen != 0 {
            return chosen;
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// What only this watch wanted does not wake the stream any more.
    fn after_leaving(&mut self, watcher: &Watcher) {
        self.share.previous(-i64::from(watcher.wants_previous()));
        self.registration.uncover(watcher.range());
    }

    // === live events ===

    /// Takes what was published and touches this stream. Returns whether everything was taken.
    pub(super) fn pick_up(&mut self) -> bool {
        let pickup = self.registration.pick_up(WATCH_CATCH_UP_REVISIONS_MAX);
        if let Some(lost_from) = pickup.lost_from {
            for watcher in self.watchers.values_mut().filter(|watcher| !watcher.behind) {
                watcher.next = watcher.next.max(lost_from);
                watcher.behind = watcher.next <= pickup.upto;
                watcher.live_from = pickup.upto + 1;
            }
            self.any_behind = true;
            self.tally();
        } else {
            self.deliver(&pickup.revisions, pickup.upto, |watcher| !watcher.behind);
        }
        self.position = self.position.max(pickup.upto);
        !pickup.more
    }

    /// Gives the watches chosen their events of `revisions`, which reach up to `upto`.
    fn deliver(
        &mut self,
        revisions: &[Arc<Encoded>],
        upto: i64,
        chosen: impl Fn(&Watcher) -> bool,
    ) {
        let Self { source, watchers, any_behind, outbox, .. } = self;
        for (id, watcher) in watchers.iter_mut().filter(|(_, watcher)| chosen(watcher)) {
            let bytes_max = if watcher.fragment { source.fragment_bytes } else { usize::MAX };
            let mut send = |revision, events: Vec<Part>| {
                let header = (source.header)(revision);
                respond::events(header, *id, events, bytes_max, |message| outbox.push(message));
            };
            let (mut events, mut upto, mut bytes) = (Vec::new(), upto, 0);
            for (at, revision) in revisions.iter().enumerate() {
                if watcher.misses_previous(revision) {
                    // It reads them from history, as if it had been too slow for the ring.
                    watcher.behind = true;
                    watcher.live_from = upto + 1;
                    *any_behind = true;
                    upto = revision.revision - 1;
                    break;
                }
                let had = events.len();
                watcher.take(revision, &mut events);
                bytes += events[had..].iter().map(|event| event.bytes().len()).sum::<usize>();
                // A revision is never split here (WATCH-2), a batch of many may be.
                if bytes >= WATCH_CATCH_UP_BYTES_MAX && at + 1 < revisions.len() {
                    send(revision.revision, std::mem::take(&mut events));
                    watcher.quiet = false;
                    bytes = 0;
                }
            }
            if !events.is_empty() {
                send(upto, events);
                watcher.quiet = false;
            }
            watcher.next = watcher.next.max(upto + 1);
        }
    }

    // === progress ===

    /// Answers a progress request, if every watch has been given everything (WATCH-3).
    fn answer_progress(&mut self) {
        let all_taken = self.pick_up();
        let told = all_taken
            && !self.watchers.is_empty()
            && self.watchers.values().all(|watcher| watcher.has_progressed(self.position));
        if told {
            let response = respond::progress(self.header(self.position), respond::NO_WATCH);
            self.send(response);
        }
    }

    /// Tells progress to the watches that want it and were sent nothing since the last tick.
    pub(super) fn progress_tick(&mut self) {
        if !self.pick_up() {
            return;
        }
        let mut due = Vec::new();
        for (id, watcher) in self.watchers.iter_mut().filter(|(_, w)| w.progress_notify) {
            if watcher.quiet && watcher.has_progressed(self.position) {
                due.push(*id);
            }
            watcher.quiet = true;
        }
        for id in due {
            let response = respond::progress(self.header(self.position), id);
            self.send(response);
        }
    }

    // === catching up ===

    /// Does what can be done at once for watches that are behind; if history must be read from
    /// disk, returns that reading.
    pub(super) fn catch_up(&mut self) -> Option<Reading> {
        while self.any_behind && self.has_room() {
            let behind = self.watchers.values_mut().filter(|watcher| watcher.behind);
            let from = behind.map(|watcher| {
                watcher.in_round = true;
                watcher.next
            });
            let Some(from) = from.min() else {
                self.any_behind = false;
                break;
            };
            let (recent, published) = self.registration.recent(from, WATCH_CATCH_UP_REVISIONS_MAX);
            let participants = || self.watchers.values().filter(|watcher| watcher.in_round);
            let complete = recent.filter(|revisions| {
                !participants().any(|watcher| {
                    revisions.iter().any(|revision| watcher.misses_previous(revision))
                })
            });
            let Some(revisions) = complete else {
                let wanted = Wanted {
                    coverage: coverage(participants()),
                    from,
                    to: published,
                    previous: participants().any(Watcher::wants_previous),
                };
                let machine = Arc::clone(&self.source.machine);
                let readings = Arc::clone(self.source.hub.readings());
                return Some(catch_up::start(machine, readings, wanted));
            };
            let next = match revisions.last() {
                Some(last) if revisions.len() == WATCH_CATCH_UP_REVISIONS_MAX => last.revision + 1,
                _ => published + 1,
            };
            let compacted = self.source.machine.read().compacted_revision();
            self.finish_round(&Round { revisions, next, compacted });
        }
        None
    }

    /// Gives the watches of a round what it read.
    pub(super) fn finish_round(&mut self, round: &Round) {
        let lost: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.in_round && watcher.next < round.compacted)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            if let Some(watcher) = self.watchers.remove(&id) {
                self.after_leaving(&watcher);
            }
            // The header's revision is left out, as etcd does.
            let response = respond::compacted(self.header(0), id, round.compacted);
            self.send(response);
        }
        self.deliver(&round.revisions, round.next - 1, |watcher| watcher.in_round);
        let position = self.position;
        for watcher in self.watchers.values_mut().filter(|watcher| watcher.in_round) {
            watcher.in_round = false;
            watcher.behind = watcher.next <= position || watcher.next < watcher.live_from;
        }
        self.tally();
    }
}

fn coverage<'a>(watchers: impl Iterator<Item = &'a Watcher>) -> Coverage {
    let mut coverage = Coverage::default();
    watchers.for_each(|watcher| coverage.add(watcher.range()));
    coverage
}

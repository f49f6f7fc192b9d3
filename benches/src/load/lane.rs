//! One connection and the clients that share it.
//!
//! Owns: when each of them sends, and from when its latency counts. Must not know: what it sends.
//! A newcomer's trap: in the open loop an operation's latency begins at the time it was due, also
//! if it could only be sent later; otherwise a server that stalls would hide it (coordinated
//! omission).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use kijabi_base::clock::{self, Instant};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::dial::Dialer;
use super::latency::Latencies;
use super::pacer::Pacer;
use super::wire::{Connection, Event, Messages};
use super::workload::{Client, Step};

/// A client whose requests fail waits this long before the next, and so does a lost connection.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// Bytes read at once, of few connections and of many.
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_OF_MANY: usize = 8 << 10;
pub(super) const MANY: usize = 256;

/// What the lanes are to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Connect and open watches.
    Waiting,
    /// Make load.
    Running(Schedule),
    /// Stop.
    Ended,
}

/// When load is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) started: Instant,
    pub(super) measure_from: Instant,
    /// Without it until all clients have nothing more to do.
    pub(super) until: Option<Instant>,
    /// Seconds between two operations of the open loop.
    pub(super) interval: Option<f64>,
}

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) done: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) first_error: Mutex<Option<String>>,
    pub(super) latencies: Latencies,
    /// Lanes that are connected, and those whose clients have done all they should.
    pub(super) connected: AtomicUsize,
    pub(super) quiet: AtomicUsize,
    pub(super) news: tokio::sync::Notify,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            first_error: Mutex::new(None),
            latencies: Latencies::new(),
            connected: AtomicUsize::new(0),
            quiet: AtomicUsize::new(0),
            news: tokio::sync::Notify::new(),
        }
    }

    fn failed(&self, why: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.first_error.lock().get_or_insert(why);
        self.news.notify_waiters();
    }
}

/// What a client of a lane is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It is measured.
    Measured,
    /// It only listens, from the begin.
    Watcher,
    /// It only listens, from when measuring begins.
    LateWatcher,
}

/// A client and what it is doing.
pub(super) struct Slot {
    pub(super) client: Box<dyn Client>,
    pub(super) role: Role,
    pub(super) rng: SmallRng,
    /// Its call that stays open.
    stream: Option<u32>,
    /// When the request under way was due.
    due: Option<Instant>,
    /// What was wrong with the answer so far.
    wrong: Option<String>,
}

impl Slot {
    pub(super) fn new(client: Box<dyn Client>, role: Role, rng: SmallRng) -> Self {
        Self { client, role, rng, stream: None, due: None, wrong: None }
    }
}

/// A connection with its clients.
pub(super) struct Lane {
    /// Its number, for the histogram it records to and the endpoint it connects to.
    number: usize,
    /// Its place among the lanes with measured clients, and how many those are.
    turns: (u64, u64),
    dialer: Dialer,
    slots: Vec<Slot>,
    idle: VecDeque<usize>,
    resting: VecDeque<(Instant, usize)>,
    late: Vec<usize>,
    /// Measured requests under way.
    busy: usize,
    next_turn: u64,
    schedule: Option<Schedule>,
    shared: Arc<Shared>,
    read_bytes: usize,
    is_quiet: bool,
    was_connected: bool,
}

/// What a lane waits for beside its socket.
enum Next {
    Nothing,
    At(Instant),
}

impl Lane {
    pub(super) fn new(
        number: usize,
        turns: (u64, u64),
        many: bool,
        dialer: Dialer,
        slots: Vec<Slot>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            number,
            turns,
            dialer,
            slots,
            idle: VecDeque::new(),
            resting: VecDeque::new(),
            late: Vec::new(),
            busy: 0,
            next_turn: turns.0,
            schedule: None,
            shared,
            read_bytes: if many { READ_BYTES_OF_MANY } else { READ_BYTES },
            is_quiet: false,
            was_connected: false,
        }
    }

    /// Runs until the phase is [`Phase::Ended`]; a lost connection is made again.
    pub(super) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        for at in 0..self.slots.len() {
            if self.slots[at].role == Role::Measured {
                self.idle.push_back(at);
            }
        }
        while let Err(error) = self.connection(&mut phase).await {
            if !matches!(*phase.borrow(), Phase::Ended) {
                self.shared.failed(format!("{error:#}"));
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE_AFTER_ERROR) => {}
                _ = phase.wait_for(|phase| matches!(phase, Phase::Ended)) => return,
            }
        }
    }

    async fn connection(&mut self, phase: &mut watch::Receiver<Phase>) -> anyhow::Result<()> {
        let endpoint = self.dialer.endpoint(self.number).clone();
        let socket = self.dialer.connect(&endpoint).await?;
        let (mut reader, mut writer) = tokio::io::split(socket);
        let mut connection = Connection::new(&endpoint.authority, endpoint.tls);
        if !self.was_connected {
            self.was_connected = true;
            self.shared.connected.fetch_add(1, Ordering::Relaxed);
            self.shared.news.notify_waiters();
        }
        let mut message = Vec::new();
        self.open_watches(&mut connection, &mut message);
        let mut buffer = vec![0; self.read_bytes];
        let mut pacer = None;
        loop {
            match *phase.borrow_and_update() {
                Phase::Waiting => {}
                Phase::Running(schedule) => self.schedule = Some(schedule),
                Phase::Ended => return Ok(()),
            }
            let next = self.send(&mut connection, &mut message);
            if let (Next::At(_), None) = (&next, &pacer) {
                pacer = Some(Pacer::new().context("a timer")?);
            }
            let wait = async {
                match (&next, &mut pacer) {
                    (Next::At(due), Some(pacer)) => pacer.until(*due).await,
                    _ => std::future::pending().await,
                }
            };
            let lost = tokio::select! {
                biased;
                wrote = writer.write(connection.pending()), if !connection.pending().is_empty() => {
                    match wrote {
                        Ok(bytes) => { connection.wrote(bytes); None }
                        Err(error) => Some(error.to_string()),
                    }
                }
                read = reader.read(&mut buffer) => match read {
                    Ok(0) => Some("the server closed the connection".to_owned()),
                    Ok(bytes) => {
                        let now = clock::now();
                        let mut sink = |slot: usize, event: Event<'_>| self.event(slot, event, now);
                        connection.receive(&buffer[..bytes], &mut sink).err()
                    }
                    Err(error) => Some(error.to_string()),
                },
                waited = wait => waited.err().map(|error| error.to_string()),
                changed = phase.changed() => {
                    if changed.is_err() { return Ok(()) }
                    None
                }
            };
            if let Some(why) = lost {
                let now = clock::now();
                connection.fail(&why, &mut |slot, event| self.event(slot, event, now));
                anyhow::bail!("{why}");
            }
        }
    }

    fn open_watches(&mut self, connection: &mut Connection, message: &mut Vec<u8>) {
        self.late.clear();
        for at in 0..self.slots.len() {
            match self.slots[at].role {
                Role::Measured => {}
                Role::Watcher => {
                    self.request(at, clock::now(), connection, message);
                }
                Role::LateWatcher => self.late.push(at),
            }
        }
    }

    /// Sends all that is due.
    fn send(&mut self, connection: &mut Connection, message: &mut Vec<u8>) -> Next {
        let Some(schedule) = self.schedule else { return Next::Nothing };
        let now = clock::now();
        let mut wake = None;
        let mut wake_at = |due: Instant| {
            wake = Some(wake.map_or(due, |wake: Instant| wake.min(due)));
        };
        if !self.late.is_empty() {
            if now >= schedule.measure_from {
                for at in std::mem::take(&mut self.late) {
                    self.request(at, now, connection, message);
                }
            } else {
                wake_at(schedule.measure_from);
            }
        }
        while let Some((until, at)) = self.resting.front().copied() {
            if until > now {
                wake_at(until);
                break;
            }
            self.resting.pop_front();
            self.idle.push_back(at);
        }
        let mut over = schedule.until.is_some_and(|until| now >= until);
        // Also those that nothing arrives on any more.
        if let Some(until) = schedule.until.filter(|_| !over) {
            wake_at(until);
        }
        if let Some(interval) = schedule.interval {
            over = false;
            loop {
                let due =
                    schedule.started + Duration::from_secs_f64(self.next_turn as f64 * interval);
                if schedule.until.is_some_and(|until| due >= until) {
                    over = true;
                    break;
                }
                if due > now {
                    wake_at(due);
                    break;
                }
                let Some(at) = self.idle.pop_front() else { break };
                self.next_turn += self.turns.1;
                self.request(at, due, connection, message);
            }
        } else if !over {
            while let Some(at) = self.idle.pop_front() {
                self.request(at, now, connection, message);
            }
        }
        let finished = schedule.until.is_none() && self.idle.is_empty() && self.resting.is_empty();
        if (over || finished) && self.busy == 0 && !self.is_quiet {
            self.is_quiet = true;
            self.shared.quiet.fetch_add(1, Ordering::Relaxed);
            self.shared.news.notify_waiters();
        }
        wake.map_or(Next::Nothing, Next::At)
    }

    fn request(
        &mut self,
        at: usize,
        due: Instant,
        connection: &mut Connection,
        message: &mut Vec<u8>,
    ) {
        let slot = &mut self.slots[at];
        let mut messages = Messages::new(message);
        let Some(method) = slot.client.request(&mut slot.rng, &mut messages) else { return };
        let last = !method.stays_open();
        let sent = match slot.stream {
            Some(stream) if !last => connection.send(stream, message, false),
            _ => false,
        };
        if !sent {
            let stream = connection.open(at, method.path(), message, last);
            slot.stream = if last { None } else { Some(stream) };
        }
        if slot.role == Role::Measured {
            slot.due = Some(due);
            self.busy += 1;
        }
    }

    fn event(&mut self, at: usize, event: Event<'_>, now: Instant) {
        let slot = &mut self.slots[at];
        match event {
            Event::Message(bytes) => match slot.client.message(bytes, now) {
                Ok(Step::More) => {}
                Ok(Step::Done) => self.finished(at, Ok(()), now),
                Err(why) => slot.wrong = Some(why),
            },
            Event::Ended(result) => {
                slot.stream = None;
                let result = match slot.wrong.take() {
                    Some(why) => Err(why),
                    None => result,
                };
                if slot.role == Role::Measured {
                    self.finished(at, result, now);
                } else {
                    let why = result.err().unwrap_or_else(|| "it ended".into());
                    self.shared.failed(format!("a watch: {why}"));
                }
            }
        }
    }

    /// A measured operation is over.
    fn finished(&mut self, at: usize, result: Result<(), String>, now: Instant) {
        // A stream may also end between two operations.
        let Some(due) = self.slots[at].due.take() else { return };
        self.busy -= 1;
        let recorded = self.schedule.is_some_and(|schedule| {
            let whole =
                schedule.interval.is_some() || schedule.until.is_none_or(|until| now <= until);
            due >= schedule.measure_from && whole
        });
        match result {
            Ok(()) => {
                self.idle.push_back(at);
                if recorded {
                    self.shared.done.fetch_add(1, Ordering::Relaxed);
                    self.shared.latencies.record(self.number, now - due);
                }
            }
            Err(why) => {
                self.resting.push_back((now + PAUSE_AFTER_ERROR, at));
                if recorded {
                    self.shared.failed(why);
                }
            }
        }
    }
}

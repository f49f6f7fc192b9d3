//! The search for an order: Wing and Gong's algorithm with Lowe's memory of what was tried.
//!
//! Owns: the linked list of calls and returns, the set of requests placed, the memory, the limit.
//! Must not know: what a request means; the model does. A newcomer's trap: requests without an
//! answer are not in the list: they hold nobody back and need not be placed at all.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use kijabi_base::clock;

use super::history::{Entry, Request};
use super::model::{Model, State};

/// How many steps are taken between two looks at the clock.
const STEPS_PER_LOOK: u64 = 256;
/// The list's head, a place that is no entry.
const HEAD: usize = 0;

/// What the search found.
#[derive(Debug)]
pub enum Verdict {
    /// An order, as positions in the history. Requests of unknown fate that are not in it never
    /// took effect, and reads without a place are not in it either.
    Legal(Vec<usize>),
    /// There is none.
    Illegal(Blocked),
    /// Nobody knows; how far it came, if it ever got stuck.
    OutOfTime(Option<Blocked>),
}

/// How far the longest order came.
#[derive(Debug)]
pub struct Blocked {
    /// The order so far.
    pub placed: usize,
    /// The state it ended in.
    pub state: State,
    /// Requests that might have come next, but fit nowhere.
    pub stuck: Vec<usize>,
}

impl Blocked {
    /// In words.
    pub fn explain(&self, entries: &[Entry]) -> String {
        const SHOWN_MAX: usize = 6;
        let mut text = format!(
            "{} requests have a place up to revision {} (compacted {}); none of these can follow:",
            self.placed, self.state.revision, self.state.compacted
        );
        for at in self.stuck.iter().take(SHOWN_MAX) {
            text = format!("{text}\n  {:?}", entries[*at]);
        }
        text + &format!("\n  state: {:?}", self.state.keys.values().collect::<Vec<_>>())
    }
}

#[derive(Clone, Copy, Debug)]
enum Node {
    Head,
    Call(usize),
    Return(usize),
}

/// A doubly linked list over calls and returns in the order of time.
struct List {
    nodes: Vec<Node>,
    next: Vec<usize>,
    prev: Vec<usize>,
    /// Where each request's call and return are.
    places: Vec<(usize, usize)>,
}

impl List {
    fn new(entries: &[Entry], known: &[usize]) -> Self {
        let mut times: Vec<(u64, u8, Node)> = Vec::new();
        for at in known {
            let entry = &entries[*at];
            // At one moment calls come first: such requests count as concurrent.
            times.push((entry.called, 0, Node::Call(*at)));
            let returned = entry.returned.as_ref().map_or(u64::MAX, |(time, _)| *time);
            times.push((returned, 1, Node::Return(*at)));
        }
        times.sort_by_key(|(time, kind, _)| (*time, *kind));
        let mut list = Self {
            nodes: vec![Node::Head],
            next: vec![HEAD; times.len() + 1],
            prev: vec![HEAD; times.len() + 1],
            places: vec![(HEAD, HEAD); entries.len()],
        };
        for (_, _, node) in times {
            let place = list.nodes.len();
            match node {
                Node::Call(at) => list.places[at].0 = place,
                Node::Return(at) => list.places[at].1 = place,
                Node::Head => {}
            }
            list.nodes.push(node);
            list.next[place - 1] = place;
            list.prev[place] = place - 1;
        }
        let last = list.nodes.len() - 1;
        list.next[last] = HEAD;
        list.prev[HEAD] = last;
        list
    }

    fn unlink(&mut self, place: usize) {
        let (prev, next) = (self.prev[place], self.next[place]);
        self.next[prev] = next;
        self.prev[next] = prev;
    }

    fn relink(&mut self, place: usize) {
        let (prev, next) = (self.prev[place], self.next[place]);
        self.next[prev] = place;
        self.prev[next] = place;
    }

    fn lift(&mut self, at: usize) {
        let (call, back) = self.places[at];
        self.unlink(call);
        self.unlink(back);
    }

    fn unlift(&mut self, at: usize) {
        let (call, back) = self.places[at];
        self.relink(back);
        self.relink(call);
    }
}

/// Where the search looks next.
#[derive(Clone, Copy, Debug)]
enum Cursor {
    /// At a place of the list, looking for what changes nothing: it can only be now.
    Reads(usize),
    /// At a place of the list, looking for writes.
    Known(usize),
    /// At a write of unknown fate.
    Unknown(usize),
    /// At a place of the list, looking for compactions: they only take something away, so the later
    /// the better.
    Compactions(usize),
    /// At a compaction of unknown fate.
    UnknownCompactions(usize),
}

struct Frame {
    at: usize,
    /// `None` = it changed nothing.
    before: Option<State>,
    cursor: Cursor,
    settled: bool,
}

struct Search<'a> {
    model: &'a Model,
    entries: &'a [Entry],
    list: List,
    /// Requests of unknown fate in the order in which they were sent.
    unknown: Vec<usize>,
    /// For each of them the one before it that asks for the same. The later one's place, if only
    /// one has one, is as good for the earlier one, as nobody waits for either.
    twins: Vec<Option<usize>>,
    /// How many requests without a place can have none after this revision.
    due: HashMap<i64, usize>,
    /// Which requests are placed, one bit each.
    placed: Vec<u64>,
    /// The exclusive or of a random number for each placed request: stands for the bits in the
    /// memory, which would be too large with them.
    mark: u128,
    tried: HashSet<u128>,
    state: State,
    /// Of the state, kept until it changes.
    state_mark: u128,
    frames: Vec<Frame>,
    blocked: Option<Blocked>,
}

/// Looks for an order of `entries` that `model` allows.
pub fn search(model: &Model, entries: &[Entry], limit: Duration) -> Verdict {
    let placed_by_time: Vec<usize> = (0..entries.len())
        .filter(|at| entries[*at].returned.is_some() && !entries[*at].serializable())
        .collect();
    let mut unknown: Vec<usize> =
        (0..entries.len()).filter(|at| entries[*at].returned.is_none()).collect();
    unknown.sort_by_key(|at| entries[*at].called);
    let mut twins = vec![None; unknown.len()];
    if model.alike() {
        let mut latest: HashMap<&Request, usize> = HashMap::new();
        for (twin, at) in twins.iter_mut().zip(&unknown) {
            *twin = latest.insert(&entries[*at].request, *at);
        }
    }
    let mut due: HashMap<i64, usize> = HashMap::new();
    for revision in placed_by_time.iter().filter_map(|at| model.due(&entries[*at])) {
        *due.entry(revision).or_default() += 1;
    }
    let state = State::default();
    let search = Search {
        model,
        entries,
        list: List::new(entries, &placed_by_time),
        unknown,
        twins,
        due,
        placed: vec![0; entries.len().div_ceil(64)],
        mark: 0,
        tried: HashSet::new(),
        state_mark: fingerprint(&state),
        state,
        frames: Vec::new(),
        blocked: None,
    };
    search.run(limit)
}

impl Search<'_> {
    fn run(mut self, limit: Duration) -> Verdict {
        let deadline = clock::now() + limit;
        let mut steps = 0;
        let mut cursor = self.first();
        loop {
            steps += 1;
            if steps % STEPS_PER_LOOK == 0 && clock::now() >= deadline {
                return Verdict::OutOfTime(self.blocked);
            }
            if self.list.next[HEAD] == HEAD {
                return Verdict::Legal(self.frames.into_iter().map(|frame| frame.at).collect());
            }
            let Some((at, after)) = self.candidate(cursor) else {
                self.remember_block();
                match self.back() {
                    Some(again) => cursor = again,
                    None => return Verdict::Illegal(self.blocked.expect("it was blocked")),
                }
                continue;
            };
            cursor = if self.place(at, after) { self.first() } else { after };
        }
    }

    fn first(&self) -> Cursor {
        Cursor::Reads(self.list.next[HEAD])
    }

    /// The next request that might come next, and the cursor behind it.
    fn candidate(&self, mut cursor: Cursor) -> Option<(usize, Cursor)> {
        loop {
            let (found, next) = match cursor {
                Cursor::Reads(place) => match self.call(place, |entry| !entry.changed()) {
                    Some((at, next)) => (at, Cursor::Reads(next)),
                    None => (None, Cursor::Known(self.list.next[HEAD])),
                },
                Cursor::Known(place) => {
                    match self.call(place, |entry| entry.changed() && !entry.compacts()) {
                        Some((at, next)) => (at, Cursor::Known(next)),
                        None => (None, Cursor::Unknown(0)),
                    }
                }
                Cursor::Unknown(number) => match self.lost(number) {
                    Some(at) => {
                        let turn = !self.entries[at].compacts() && self.has_turn(number);
                        (turn.then_some(at), Cursor::Unknown(number + 1))
                    }
                    None => (None, Cursor::Compactions(self.list.next[HEAD])),
                },
                Cursor::Compactions(place) => {
                    match self.call(place, |entry| entry.changed() && entry.compacts()) {
                        Some((at, next)) => (at, Cursor::Compactions(next)),
                        None => (None, Cursor::UnknownCompactions(0)),
                    }
                }
                Cursor::UnknownCompactions(number) => {
                    let at = self.lost(number)?;
                    let turn = self.entries[at].compacts() && self.has_turn(number);
                    (turn.then_some(at), Cursor::UnknownCompactions(number + 1))
                }
            };
            if let Some(at) = found {
                return Some((at, next));
            }
            cursor = next;
        }
    }

    /// The request that is called at `place`, if it is such a one, and the place behind it. `None`
    /// = what was called after a return cannot come before it.
    fn call(&self, place: usize, such: impl Fn(&Entry) -> bool) -> Option<(Option<usize>, usize)> {
        let Node::Call(at) = self.list.nodes[place] else { return None };
        Some((such(&self.entries[at]).then_some(at), self.list.next[place]))
    }

    /// The request of unknown fate with this number, if it was sent early enough; no later one was
    /// if not.
    fn lost(&self, number: usize) -> Option<usize> {
        let at = *self.unknown.get(number)?;
        (self.entries[at].called <= self.first_return()).then_some(at)
    }

    /// Whether a request of unknown fate may have its place now as far as its like are concerned.
    fn has_turn(&self, number: usize) -> bool {
        let twin_placed = self.twins[number].is_none_or(|twin| self.is_placed(twin));
        twin_placed && !self.is_placed(self.unknown[number])
    }

    /// When the first request that has no place yet was answered.
    fn first_return(&self) -> u64 {
        let mut place = self.list.next[HEAD];
        while let Node::Call(_) = self.list.nodes[place] {
            place = self.list.next[place];
        }
        match self.list.nodes[place] {
            Node::Return(at) => {
                self.entries[at].returned.as_ref().map_or(u64::MAX, |(time, _)| *time)
            }
            Node::Call(_) | Node::Head => u64::MAX,
        }
    }

    /// Places a request if it fits and was not tried here before.
    fn place(&mut self, at: usize, cursor: Cursor) -> bool {
        let Some(step) = self.model.step(&self.state, &self.entries[at]) else { return false };
        let moves = step.state.as_ref().is_some_and(|next| next.revision > self.state.revision);
        if moves && self.due.get(&self.state.revision).is_some_and(|count| *count > 0) {
            return false;
        }
        let mark = self.mark ^ random_of(at);
        let state_mark = step.state.as_ref().map_or(self.state_mark, fingerprint);
        if !self.tried.insert(mark ^ state_mark) {
            return false;
        }
        self.mark = mark;
        self.state_mark = state_mark;
        let before = step.state.map(|state| std::mem::replace(&mut self.state, state));
        self.placed[at / 64] |= 1 << (at % 64);
        if self.entries[at].returned.is_some() {
            self.list.lift(at);
        }
        if let Some(revision) = self.model.due(&self.entries[at]) {
            *self.due.entry(revision).or_default() -= 1;
        }
        self.frames.push(Frame { at, before, cursor, settled: step.settled });
        true
    }

    fn is_placed(&self, at: usize) -> bool {
        self.placed[at / 64] & (1 << (at % 64)) != 0
    }

    /// Takes requests back until one is found that has another choice.
    fn back(&mut self) -> Option<Cursor> {
        while let Some(frame) = self.frames.pop() {
            self.placed[frame.at / 64] &= !(1 << (frame.at % 64));
            self.mark ^= random_of(frame.at);
            if self.entries[frame.at].returned.is_some() {
                self.list.unlift(frame.at);
            }
            if let Some(revision) = self.model.due(&self.entries[frame.at]) {
                *self.due.entry(revision).or_default() += 1;
            }
            if let Some(before) = frame.before {
                self.state = before;
                self.state_mark = fingerprint(&self.state);
            }
            if !frame.settled {
                return Some(frame.cursor);
            }
        }
        None
    }

    fn remember_block(&mut self) {
        let placed = self.frames.len();
        if self.blocked.as_ref().is_some_and(|blocked| blocked.placed >= placed) {
            return;
        }
        let mut stuck = Vec::new();
        let mut place = self.list.next[HEAD];
        while let Node::Call(at) = self.list.nodes[place] {
            stuck.push(at);
            place = self.list.next[place];
        }
        // The one that holds the others back first.
        if let Node::Return(at) = self.list.nodes[place] {
            stuck.retain(|other| *other != at);
            stuck.insert(0, at);
        }
        self.blocked = Some(Blocked { placed, state: self.state.clone(), stuck });
    }
}

/// 128 bits that stand for a state.
fn fingerprint(state: &State) -> u128 {
    let hash = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        state.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    hash(1) << 64 | hash(2)
}

/// 128 bits that stand for a request.
fn random_of(at: usize) -> u128 {
    let hash = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, at).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    hash(3) << 64 | hash(4)
}

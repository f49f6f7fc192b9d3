//! The rules of watches, W1 to W14.
//!
//! Owns: what a watcher must see of a timeline. Must not know: how the timeline was found. A
//! newcomer's trap: nothing may be said about revisions after the last event or progress: a watch
//! that ended early has promised nothing about them.
//!
//! W1 ordered, W2 unique, W3 reliable, W4 atomic, W5 resumable, W6 bookmarkable, W7 filters, W8
//! previous value, W9 is-create, W10 nothing before a future start, W11 compaction swallows no
//! delete, W12 no time travel after a change of member, W13 a watch canceled for compaction says
//! so, W14 fragments make whole revisions.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::history::{Key, Range};
use super::timeline::{Event, Timeline};

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it came, in microseconds.
    pub at: u64,
    /// The revision in its header.
    pub revision: i64,
    /// What it is.
    pub kind: WatchKind,
}

/// What a response is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// The watch is there.
    Created,
    /// Events; whether more of the same follow in another fragment.
    Events(Vec<Event>, bool),
    /// Everything up to the header's revision has been delivered.
    Progress,
    /// The member ended it: the compacted revision, or 0, and the reason.
    Canceled(i64, String),
}

/// One watch of one watcher.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Whose. A watcher that loses its member opens another watch where it was.
    pub watcher: u32,
    /// Of which keys.
    pub range: Range,
    /// From which revision; 0 = from now on.
    pub start: i64,
    /// Whether events carry what was there before.
    pub prev_kv: bool,
    /// Whether puts are left out.
    pub no_put: bool,
    /// Whether deletes are left out.
    pub no_delete: bool,
    /// Whether the watcher takes fragments.
    pub fragment: bool,
    /// When it was asked for.
    pub opened: u64,
    /// What came.
    pub seen: Vec<Seen>,
}

impl Watch {
    /// A watch of `range` from `start`, with previous values and without filters.
    pub fn new(watcher: u32, range: Range, start: i64, opened: u64) -> Self {
        Self {
            watcher,
            range,
            start,
            prev_kv: true,
            no_put: false,
            no_delete: false,
            fragment: false,
            opened,
            seen: Vec::new(),
        }
    }

    /// All events, in the order they came.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.seen.iter().flat_map(|seen| match &seen.kind {
            WatchKind::Events(events, _) => events.as_slice(),
            _ => &[],
        })
    }

    fn wants(&self, event: &Event) -> bool {
        let filtered = if event.kv.is_some() { self.no_put } else { self.no_delete };
        self.range.has(&event.key) && !filtered
    }
}

/// Checks every watch; those of one watcher must be in the order they were opened.
pub(super) fn check(watches: &[Watch], timeline: &Timeline) -> Vec<Violation> {
    let mut violations = Vec::new();
    // How far each watcher has come.
    let mut reached: BTreeMap<u32, i64> = BTreeMap::new();
    for watch in watches {
        let before = reached.get(&watch.watcher).copied();
        let mut check = Check {
            watch,
            timeline,
            before,
            created: None,
            last: 0,
            promised: 0,
            open_fragment: None,
            keys: BTreeSet::new(),
            ended: false,
            violations: &mut violations,
        };
        for seen in &watch.seen {
            check.response(seen);
        }
        check.whole();
        let upto = check.last.max(check.promised);
        let highest = reached.entry(watch.watcher).or_default();
        *highest = (*highest).max(upto);
    }
    violations
}

struct Check<'a> {
    watch: &'a Watch,
    timeline: &'a Timeline,
    /// How far the same watcher had come before.
    before: Option<i64>,
    /// The revision at which the watch was created.
    created: Option<i64>,
    /// The revision of the last event.
    last: i64,
    /// The last progress.
    promised: i64,
    /// The last event's revision, if its response said that more follows.
    open_fragment: Option<i64>,
    /// The keys whose event at `last` has come.
    keys: BTreeSet<Key>,
    ended: bool,
    violations: &'a mut Vec<Violation>,
}

impl Check<'_> {
    fn broken(&mut self, rule: &'static str, what: impl Into<String>) {
        let watch = self.watch;
        let text = format!(
            "watcher {} of {:?} from {}: {}",
            watch.watcher,
            watch.range,
            watch.start,
            what.into()
        );
        self.violations.push(Violation::new(rule, text));
    }

    /// The first revision this watch is about.
    fn first(&self) -> i64 {
        match self.watch.start {
            0 => self.created.map_or(i64::MAX, |created| created + 1),
            start => start,
        }
    }

    fn response(&mut self, seen: &Seen) {
        if self.ended {
            self.broken("W13", format!("{seen:?} came after the watch was canceled"));
        }
        if self.created.is_none() && !matches!(seen.kind, WatchKind::Created) {
            self.broken("W1", format!("{seen:?} came before the watch was created"));
        }
        if let Some(at) = self.open_fragment
            && !matches!(seen.kind, WatchKind::Events(..))
        {
            self.broken("W14", format!("{seen:?} came amid the fragments of revision {at}"));
        }
        match &seen.kind {
            WatchKind::Created => self.created = Some(seen.revision),
            WatchKind::Progress => self.progress(seen),
            WatchKind::Events(events, more) => self.events(seen, events, *more),
            WatchKind::Canceled(compacted, reason) => self.canceled(seen, *compacted, reason),
        }
    }

    fn progress(&mut self, seen: &Seen) {
        let revision = seen.revision;
        if self.watch.start > 0 && revision < self.watch.start {
            self.broken("W10", format!("progress {revision} lies before the start"));
        }
        if revision < self.promised.max(self.last) {
            let (last, promised) = (self.last, self.promised);
            self.broken(
                "W6",
                format!("progress {revision} after events up to {last} and progress {promised}"),
            );
        }
        self.promised = self.promised.max(revision);
    }

    fn events(&mut self, seen: &Seen, events: &[Event], more: bool) {
        if more && !self.watch.fragment {
            self.broken("W14", "a fragment that nobody asked for");
        }
        let fragment_of = self.open_fragment.take();
        for (position, event) in events.iter().enumerate() {
            let continues = position > 0 || fragment_of == Some(event.revision);
            self.event(seen, event, continues);
        }
        if let (Some(at), Some(event)) = (fragment_of, events.first())
            && event.revision != at
        {
            // The next fragment may begin with the next revision; then that one was whole.
            self.revision_is_whole(at);
        }
        self.open_fragment = more.then_some(self.last);
    }

    fn event(&mut self, seen: &Seen, event: &Event, continues: bool) {
        let revision = event.revision;
        if revision < self.first() {
            let rule = match (self.before, self.created) {
                (Some(before), _) if revision <= before => "W12",
                (_, Some(created)) if self.watch.start > created => "W10",
                _ => "W1",
            };
            self.broken(rule, format!("{event:?} lies before the start"));
        }
        if revision > seen.revision {
            self.broken("W1", format!("{event:?} is newer than its header, {}", seen.revision));
        }
        if revision <= self.promised {
            self.broken("W6", format!("{event:?} after progress {}", self.promised));
        }
        let order = revision.cmp(&self.last);
        if order.is_lt() {
            let again = self.watch.events().filter(|other| *other == event).count() > 1;
            let rule = if again { "W2" } else { "W1" };
            self.broken(rule, format!("{event:?} after one at {}", self.last));
        } else if order.is_eq() {
            if !self.keys.insert(event.key.clone()) {
                self.broken("W2", format!("{event:?} came twice"));
            } else if !continues {
                self.broken("W4", format!("revision {revision} was split over responses"));
            }
        } else {
            self.keys = BTreeSet::from([event.key.clone()]);
            self.last = revision;
        }
        self.content(seen, event);
    }

    /// The event is what the timeline says.
    fn content(&mut self, seen: &Seen, event: &Event) {
        if !self.watch.wants(event) {
            self.broken("W7", format!("{event:?} is not what was asked for"));
        }
        let revision = self.timeline.revision(event.revision);
        let truth = revision.and_then(|it| it.events.iter().find(|other| other.key == event.key));
        if revision.is_some_and(|revision| revision.called > seen.at) {
            self.broken("W3", format!("{event:?} came before it was asked for"));
        }
        let Some(truth) = truth.cloned() else {
            return self.broken("W3", format!("{event:?} never happened"));
        };
        if let (Some(kv), Some(true_kv)) = (&event.kv, &truth.kv)
            && (kv.create, kv.version) != (true_kv.create, true_kv.version)
        {
            return self.broken("W9", format!("{event:?}, should be {truth:?}"));
        }
        if event.kv != truth.kv {
            return self.broken("W3", format!("{event:?}, should be {truth:?}"));
        }
        // What was there before may have been compacted by now.
        let gone = event.prev.is_none() && self.timeline.compacted_by(seen.at) >= event.revision;
        if self.watch.prev_kv && event.prev != truth.prev && !gone {
            self.broken("W8", format!("{event:?}, should be {truth:?}"));
        }
        if !self.watch.prev_kv && event.prev.is_some() {
            self.broken("W8", format!("{event:?}: nobody asked for what was there before"));
        }
    }

    fn canceled(&mut self, seen: &Seen, compacted: i64, reason: &str) {
        self.ended = true;
        let next = self.first().max(self.last + 1);
        if compacted == 0 {
            if reason.contains("compacted") && self.watch.start >= 0 {
                self.broken("W13", format!("{reason:?} without the compacted revision"));
            }
            return;
        }
        if !self.timeline.was_compacted(compacted)
            || self.timeline.compacted_by(seen.at) < compacted
        {
            self.broken("W13", format!("compacted {compacted}, but nobody asked for that"));
        }
        if next >= compacted {
            self.broken("W13", format!("canceled for {compacted}, but {next} is still there"));
        }
    }

    /// All events of one revision have come.
    fn revision_is_whole(&mut self, revision: i64) {
        let Some(truth) = self.timeline.revision(revision) else { return };
        let wanted = truth.events.iter().filter(|event| self.watch.wants(event)).count();
        let came = self.watch.events().filter(|event| event.revision == revision).count();
        if came < wanted {
            self.broken("W14", format!("{came} of {wanted} events of revision {revision} came"));
        }
    }

    /// No event is missing up to the last event or progress.
    fn whole(&mut self) {
        if self.created.is_none() {
            return;
        }
        let whole_upto = match self.open_fragment {
            Some(at) => at - 1,
            None => self.last,
        };
        let upto = whole_upto.max(self.promised);
        let came: BTreeSet<(i64, &Key)> =
            self.watch.events().map(|event| (event.revision, &event.key)).collect();
        let first = self.first();
        let (timeline, watch) = (self.timeline, self.watch);
        let wanted = timeline.events(&watch.range, first, upto).filter(|event| watch.wants(event));
        let missing: Vec<&Event> =
            wanted.filter(|event| !came.contains(&(event.revision, &event.key))).collect();
        let earliest = came.first().map(|(revision, _)| *revision);
        for event in missing {
            let revision = event.revision;
            let compacted = timeline.compacted_by(watch.seen.last().map_or(0, |seen| seen.at));
            let rule = if came.iter().any(|(other, _)| *other == revision) {
                if watch.fragment { "W14" } else { "W4" }
            } else if event.kv.is_none() && compacted >= 0 && revision >= compacted {
                "W11"
            } else if self.promised >= revision && self.last < revision {
                "W6"
            } else if self.before.is_some() && earliest.is_none_or(|earliest| revision < earliest) {
                "W5"
            } else {
                "W3"
            };
            self.broken(rule, format!("{event:?} is missing"));
        }
    }
}

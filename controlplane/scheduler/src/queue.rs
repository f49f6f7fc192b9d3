//! The pods to place: those due, those that wait out a backoff, and those that wait for an event.
//!
//! Owns: which pod is next and when a refused one is tried again. Must not know: how pods are placed.
//! A newcomer's trap: an event that comes while a pod is being looked at would be lost to it; the
//! queue remembers when each kind of event last came, and a refused pod is held against that.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::clock::Instant;

use crate::framework::{Plugin, PluginSet};
use crate::limits;
use crate::pod::PodInfo;

/// Something happened that may make a refused pod schedulable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node came, or one changed in a way that matters to pods.
    NodeChanged,
    /// A pod left a node.
    PodRemoved,
    /// A pod came to a node.
    PodPlaced,
    /// Namespaces' labels changed.
    NamespaceChanged,
}

const EVENTS: [Event; 4] =
    [Event::NodeChanged, Event::PodRemoved, Event::PodPlaced, Event::NamespaceChanged];

impl Event {
    /// Whether a pod these plugins refused may fit now.
    fn wakes(self, plugins: PluginSet) -> bool {
        use Plugin::{InterPodAffinity, NodePorts, NodeResourcesFit, PodTopologySpread};
        let any = |wanted: &[Plugin]| wanted.iter().any(|plugin| plugins.contains(*plugin));
        plugins.is_empty()
            || match self {
                Self::NodeChanged => true,
                Self::PodRemoved => {
                    any(&[NodeResourcesFit, NodePorts, PodTopologySpread, InterPodAffinity])
                }
                Self::PodPlaced => any(&[PodTopologySpread, InterPodAffinity]),
                Self::NamespaceChanged => any(&[InterPodAffinity]),
            }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active(u64),
    Backoff(Instant),
    /// Waits for an event; it was refused at this time.
    Waiting(Instant),
    /// Held back by its scheduling gates.
    Gated,
    /// Being looked at, since the event of this number.
    InFlight(u64),
}

struct Entry {
    pod: Arc<PodInfo>,
    attempts: u32,
    refused_by: PluginSet,
    place: Place,
}

/// The queue. Bounded by the pods there are, as each is in it once.
#[derive(Default)]
pub struct Queue {
    entries: BTreeMap<String, Entry>,
    active: BTreeSet<(Reverse<i32>, u64, String)>,
    backoff: BTreeSet<(Instant, String)>,
    waiting: BTreeSet<String>,
    sequence: u64,
    happened: u64,
    last_happened: [u64; EVENTS.len()],
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("active", &self.active.len())
            .field("backoff", &self.backoff.len())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

// === impl Queue ===

impl Queue {
    /// A pod to place came, or one in the queue changed. `changed` if the change may matter.
    pub fn upsert(&mut self, pod: Arc<PodInfo>, changed: bool) {
        let uid = pod.uid.clone();
        let gated = pod.gated;
        let Some(known) = self.entries.get_mut(&uid) else {
            let entry = Entry {
                pod,
                attempts: 0,
                refused_by: PluginSet::default(),
                place: if gated { Place::Gated } else { Place::InFlight(0) },
            };
            self.entries.insert(uid.clone(), entry);
            if !gated {
                self.make_active(&uid);
            }
            return;
        };
        let reorder = known.pod.priority != pod.priority;
        known.pod = pod;
        match known.place {
            Place::Gated if !gated => self.make_active(&uid),
            Place::Waiting(_) | Place::Backoff(_) if changed => self.make_active(&uid),
            Place::Active(_) if reorder => self.make_active(&uid),
            _ => {}
        }
    }

    /// A pod is gone or was placed.
    pub fn remove(&mut self, uid: &str) {
        self.leave(uid);
        self.entries.remove(uid);
    }

    /// The next pod to place, if one is due. [`Self::remove`] or a refusal must follow.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.promote(now);
        let (_, _, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.attempts += 1;
        entry.place = Place::InFlight(self.happened);
        Some(entry.pod.clone())
    }

    /// No node took the pod: it waits for an event, or its backoff if one came meanwhile.
    pub fn refused(&mut self, uid: &str, by: PluginSet, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let Place::InFlight(since) = entry.place else { return };
        entry.refused_by = by;
        let missed = EVENTS
            .iter()
            .any(|event| self.last_happened[*event as usize] > since && event.wakes(by));
        if missed {
            self.back_off(uid, now);
        } else {
            entry.place = Place::Waiting(now);
            self.waiting.insert(uid.to_owned());
        }
    }

    /// Something failed that has nothing to do with the pod: it is tried again after its backoff.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        if self.entries.contains_key(uid) {
            self.back_off(uid, now);
        }
    }

    /// Something happened: pods that may fit now are due after their backoff.
    pub fn notice(&mut self, event: Event, now: Instant) {
        self.happened += 1;
        self.last_happened[event as usize] = self.happened;
        let woken: Vec<(String, Instant)> = self
            .waiting
            .iter()
            .filter_map(|uid| {
                let entry = self.entries.get(uid)?;
                let Place::Waiting(since) = entry.place else { return None };
                event
                    .wakes(entry.refused_by)
                    .then(|| (uid.clone(), since + backoff(entry.attempts)))
            })
            .collect();
        for (uid, due) in woken {
            self.move_to(&uid, due, now);
        }
    }

    /// When [`Self::pop`] may next have something, if nothing happens before.
    pub fn next_due(&self) -> Option<Instant> {
        let backoff = self.backoff.first().map(|(due, _)| *due);
        let longest_wait =
            self.waiting.iter().filter_map(|uid| match self.entries.get(uid)?.place {
                Place::Waiting(since) => Some(since + limits::UNSCHEDULABLE_MAX),
                _ => None,
            });
        longest_wait.chain(backoff).min()
    }

    /// Pods due now, in backoff, and waiting for an event.
    pub fn lengths(&self) -> (usize, usize, usize) {
        (self.active.len(), self.backoff.len(), self.waiting.len())
    }

    fn promote(&mut self, now: Instant) {
        while let Some((due, uid)) = self.backoff.first().cloned()
            && due <= now
        {
            self.make_active(&uid);
        }
        if !self.active.is_empty() {
            return;
        }
        let overdue: Vec<String> = self
            .waiting
            .iter()
            .filter(|uid| match self.entries.get(*uid).map(|entry| entry.place) {
                Some(Place::Waiting(since)) => since + limits::UNSCHEDULABLE_MAX <= now,
                _ => false,
            })
            .cloned()
            .collect();
        for uid in overdue {
            self.make_active(&uid);
        }
    }

    fn back_off(&mut self, uid: &str, now: Instant) {
        let wait = self.entries.get(uid).map_or(Duration::ZERO, |entry| backoff(entry.attempts));
        self.move_to(uid, now + wait, now);
    }

    fn move_to(&mut self, uid: &str, due: Instant, now: Instant) {
        if due <= now {
            return self.make_active(uid);
        }
        self.leave(uid);
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Backoff(due);
            self.backoff.insert((due, uid.to_owned()));
        }
    }

    fn make_active(&mut self, uid: &str) {
        self.leave(uid);
        let Some(entry) = self.entries.get_mut(uid) else { return };
        self.sequence += 1;
        entry.place = Place::Active(self.sequence);
        self.active.insert((Reverse(entry.pod.priority), self.sequence, uid.to_owned()));
    }

    /// Takes the pod out of wherever it stands; its entry stays.
    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        match entry.place {
            Place::Active(_) => self.active.retain_not(uid, entry),
            Place::Backoff(due) => {
                self.backoff.remove(&(due, uid.to_owned()));
            }
            Place::Waiting(_) => {
                self.waiting.remove(uid);
            }
            Place::Gated | Place::InFlight(_) => {}
        }
    }
}

/// Removal of an active pod whose priority may have changed since it was put in.
trait RetainNot {
    fn retain_not(&mut self, uid: &str, entry: &Entry);
}

impl RetainNot for BTreeSet<(Reverse<i32>, u64, String)> {
    fn retain_not(&mut self, uid: &str, entry: &Entry) {
        let Place::Active(sequence) = entry.place else { return };
        if !self.remove(&(Reverse(entry.pod.priority), sequence, uid.to_owned())) {
            self.retain(|(_, _, other)| other != uid);
        }
    }
}

/// The wait after so many attempts.
fn backoff(attempts: u32) -> Duration {
    let doubled = limits::POD_BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(10));
    doubled.min(limits::POD_BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use kijabi_base::clock;
    use serde_json::json;

    struct Timeline {
        queue: Queue,
        start: Instant,
    }

    impl Timeline {
        fn new(pods: &[(&str, i32)]) -> Self {
            let mut queue = Queue::default();
            for (name, priority) in pods {
                queue.upsert(pod(name, json!({ "priority": priority })), true);
            }
            Self { queue, start: clock::now() }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn pop(&mut self, millis: u64) -> String {
            let now = self.at(millis);
            self.queue.pop(now).map_or("-".to_owned(), |pod| pod.key.name.clone())
        }

        fn refuse(&mut self, name: &str, by: Plugin, millis: u64) {
            let mut plugins = PluginSet::default();
            plugins.insert(by);
            let now = self.at(millis);
            self.queue.refused(&format!("uid-{name}"), plugins, now);
        }

        fn notice(&mut self, event: Event, millis: u64) {
            let now = self.at(millis);
            self.queue.notice(event, now);
        }
    }

    #[test]
    fn priority_first_then_the_order_of_arrival() {
        let mut line = Timeline::new(&[("a", 0), ("b", 10), ("c", 0), ("d", 10)]);
        let popped: Vec<String> = (0..5).map(|_| line.pop(0)).collect();
        assert_eq!(popped, ["b", "d", "a", "c", "-"]);
    }

    #[test]
    fn a_refused_pod_waits_for_an_event_that_concerns_who_refused_it() {
        let mut line = Timeline::new(&[("p", 0)]);
        assert_eq!(line.pop(0), "p");
        line.refuse("p", Plugin::TaintToleration, 0);
        line.notice(Event::PodRemoved, 2_000);
        assert_eq!(line.pop(2_000), "-", "room does not help against a taint");
        line.notice(Event::NodeChanged, 3_000);
        assert_eq!(line.pop(3_000), "p");
    }

    #[test]
    fn an_event_during_the_attempt_is_not_lost() {
        let mut line = Timeline::new(&[("p", 0)]);
        line.pop(0);
        line.notice(Event::PodRemoved, 1);
        line.refuse("p", Plugin::NodeResourcesFit, 2);
        assert_eq!(line.pop(3), "-", "it still waits out its backoff");
        assert_eq!(line.pop(1_002), "p");
    }

    #[test]
    fn the_backoff_doubles_to_its_bound() {
        let mut line = Timeline::new(&[("p", 0)]);
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..6 {
            assert_eq!(line.pop(now), "p");
            let at = line.at(now);
            line.queue.failed("uid-p", at);
            let due = line.queue.next_due().unwrap();
            waits.push((due - at).as_secs());
            now = (due - line.start).as_millis() as u64;
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn nobody_waits_for_an_event_longer_than_five_minutes() {
        let mut line = Timeline::new(&[("p", 0)]);
        line.pop(0);
        line.refuse("p", Plugin::NodeAffinity, 0);
        assert_eq!(line.pop(299_999), "-");
        assert_eq!(line.queue.next_due(), Some(line.at(300_000)));
        assert_eq!(line.pop(300_000), "p");
    }

    #[test]
    fn gates_hold_a_pod_back_until_they_are_gone() {
        let mut line = Timeline::new(&[]);
        line.queue.upsert(pod("p", json!({"schedulingGates": [{"name": "wait"}]})), true);
        line.notice(Event::NodeChanged, 0);
        assert_eq!(line.pop(0), "-");
        line.queue.upsert(pod("p", json!({})), true);
        assert_eq!(line.pop(0), "p");
    }

    #[test]
    fn a_pod_deleted_during_the_attempt_does_not_come_back() {
        let mut line = Timeline::new(&[("p", 0)]);
        line.pop(0);
        line.queue.remove("uid-p");
        line.refuse("p", Plugin::NodePorts, 0);
        assert_eq!((line.pop(400_000), line.queue.lengths()), ("-".to_owned(), (0, 0, 0)));
    }

    #[test]
    fn a_changed_priority_moves_a_pod_without_doubling_it() {
        let mut line = Timeline::new(&[("a", 0), ("b", 0)]);
        line.queue.upsert(pod("b", json!({"priority": 5})), true);
        let popped: Vec<String> = (0..3).map(|_| line.pop(0)).collect();
        assert_eq!(popped, ["b", "a", "-"]);
    }
}

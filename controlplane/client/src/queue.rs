//! The queue of keys a controller works through: a key is in it once, and never worked on twice at once.
//!
//! Owns: what is due, when, and how long a failing key waits. Must not know: what a key means. A
//! newcomer's trap: a key added while it is being worked on comes back when that work is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use kijabi_base::clock::{self, Instant};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits;

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to come back when its present work is done. Bounded by the objects there are.
    dirty: BTreeSet<K>,
    working: BTreeSet<K>,
    later: BTreeMap<(Instant, u64), K>,
    later_at: BTreeMap<K, (Instant, u64)>,
    failures: BTreeMap<K, u32>,
    sequence: u64,
}

/// A deduplicating queue with delays and per-key backoff.
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

impl<K> fmt::Debug for WorkQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkQueue")
            .field("ready", &self.state.lock().ready.len())
            .finish_non_exhaustive()
    }
}

impl<K: Ord + Clone> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

// === impl WorkQueue ===

impl<K: Ord + Clone> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: BTreeSet::new(),
                working: BTreeSet::new(),
                later: BTreeMap::new(),
                later_at: BTreeMap::new(),
                failures: BTreeMap::new(),
                sequence: 0,
            }),
            changed: Notify::new(),
        }
    }

    /// Makes `key` due now.
    pub fn add(&self, key: K) {
        self.state.lock().make_ready(key);
        self.changed.notify_one();
    }

    /// Makes `key` due in `wait`, unless it is due sooner already.
    pub fn add_after(&self, key: K, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        self.state.lock().schedule(key, clock::now() + wait);
        self.changed.notify_one();
    }

    /// Makes `key` due after its backoff, which doubles with each failure until [`Self::forget`].
    pub fn retry(&self, key: K) {
        let wait = self.state.lock().backoff(&key);
        self.add_after(key, wait);
    }

    /// Forgets that `key` ever failed.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// Waits for the next key that is due. [`Self::done`] must be called for it.
    pub async fn next(&self) -> K {
        loop {
            let notified = self.changed.notified();
            let wake_at = {
                let mut state = self.state.lock();
                if let Some(key) = state.pop(clock::now()) {
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return key;
                }
                state.later.keys().next().map(|(due, _)| *due)
            };
            match wake_at {
                Some(due) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => notified.await,
            }
        }
    }

    /// Ends the work on `key`; if it was added meanwhile it is due again.
    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Keys due now.
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Whether no key is due now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Ord + Clone> State<K> {
    fn make_ready(&mut self, key: K) {
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn schedule(&mut self, key: K, due: Instant) {
        if let Some(&slot) = self.later_at.get(&key) {
            if slot.0 <= due {
                return;
            }
            self.later.remove(&slot);
        }
        self.sequence += 1;
        let slot = (due, self.sequence);
        self.later.insert(slot, key.clone());
        self.later_at.insert(key, slot);
    }

    fn backoff(&mut self, key: &K) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let wait = limits::RETRY_BACKOFF_MIN.saturating_mul(1 << (*failures).min(20));
        *failures = failures.saturating_add(1);
        wait.min(limits::RETRY_BACKOFF_MAX)
    }

    fn pop(&mut self, now: Instant) -> Option<K> {
        self.promote(now);
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }

    fn promote(&mut self, now: Instant) {
        while let Some((&(due, sequence), _)) = self.later.first_key_value() {
            if due > now {
                break;
            }
            if let Some(key) = self.later.remove(&(due, sequence)) {
                self.later_at.remove(&key);
                self.make_ready(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_added_many_times_is_worked_once() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "a");
        assert_eq!(queue.next().await, "b");
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn a_key_added_during_its_work_comes_back_after_it() {
        let queue = WorkQueue::new();
        queue.add("a");
        let key = queue.next().await;
        queue.add("a");
        assert!(queue.is_empty(), "never worked on twice at once");
        queue.done(&key);
        assert_eq!(queue.next().await, "a");
    }

    #[test]
    fn delays_run_out_in_order_and_the_sooner_wins() {
        let queue = WorkQueue::new();
        let mut state = queue.state.lock();
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (key, second) in [("late", 9), ("soon", 5), ("late", 7), ("soon", 60)] {
            state.schedule(key, at(second));
        }
        assert_eq!(state.pop(at(4)), None);
        assert_eq!(state.pop(at(5)), Some("soon"));
        assert_eq!(state.pop(at(6)), None);
        assert_eq!(state.pop(at(7)), Some("late"));
        assert_eq!(state.pop(at(99)), None);
    }

    #[test]
    fn backoff_doubles_up_to_its_bound_until_forgotten() {
        let queue = WorkQueue::new();
        let waits = |rounds| -> Vec<u128> {
            (0..rounds).map(|_| queue.state.lock().backoff(&"a").as_millis()).collect()
        };
        assert_eq!(waits(3), [5, 10, 20]);
        assert_eq!(waits(20).last(), Some(&60_000));
        queue.forget(&"a");
        assert_eq!(waits(1), [5]);
    }
}

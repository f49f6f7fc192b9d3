//! For how long the other members have been answering the leader.
//!
//! Owns: the moments since when. Must not know: what follows from it (`check.rs`). A newcomer's
//! trap: only a leader knows, and a new one would know of nobody for the first seconds; so who
//! answers right when a leadership begins counts as connected before it.

use std::collections::BTreeMap;
use std::time::Duration;

use kijabi_base::clock::Instant;

use super::check::HEALTH_INTERVAL;

/// The moments.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// The term and the begin of the leadership that is watched.
    led: Option<(u64, Instant)>,
    since: BTreeMap<u64, Instant>,
}

// === impl Links ===

impl Links {
    /// This member does not lead.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes down how long ago each member answered, in `term` of this member's leadership. Who did
    /// not answer within `limit` is disconnected.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        term: u64,
        answered: impl Iterator<Item = (u64, Duration)>,
        limit: Duration,
    ) {
        if self.led.is_none_or(|(led, _)| led != term) {
            *self = Self { led: Some((term, now)), since: BTreeMap::new() };
        }
        let begun = self.led.map_or(now, |(_, begun)| begun);
        let is_new = now.duration_since(begun) < limit;
        let before = now.checked_sub(HEALTH_INTERVAL).unwrap_or(now);
        let mut since = BTreeMap::new();
        for (id, _) in answered.filter(|(_, ago)| *ago < limit) {
            let first = if is_new { before } else { now };
            since.insert(id, self.since.get(&id).copied().unwrap_or(first));
        }
        self.since = since;
    }

    /// Who is connected, and for how long.
    pub(crate) fn connected(&self, now: Instant) -> BTreeMap<u64, Duration> {
        let lasting = |(id, since): (&u64, &Instant)| (*id, now.duration_since(*since));
        self.since.iter().map(lasting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);
    const NOW: Duration = Duration::ZERO;

    #[test]
    fn who_answers_from_the_beginning_was_connected_before_it() {
        let begin = kijabi_base::clock::now() + Duration::from_secs(100);
        let mut links = Links::default();
        links.observe(begin, 1, [(2, NOW)].into_iter(), LIMIT);
        assert!(links.connected(begin)[&2] >= HEALTH_INTERVAL);
        // Another one comes up later, and has to prove itself.
        let later = begin + Duration::from_secs(10);
        links.observe(later, 1, [(2, NOW), (3, NOW)].into_iter(), LIMIT);
        assert_eq!(links.connected(later)[&3], Duration::ZERO);
        let much_later = later + Duration::from_secs(6);
        links.observe(much_later, 1, [(2, 2 * LIMIT), (3, NOW)].into_iter(), LIMIT);
        assert!(links.connected(much_later)[&3] > HEALTH_INTERVAL);
        assert!(!links.connected(much_later).contains_key(&2), "it has fallen silent");
        links.observe(much_later, 1, [(2, NOW)].into_iter(), LIMIT);
        assert_eq!(links.connected(much_later)[&2], Duration::ZERO, "it begins anew");
        links.forget();
        assert!(links.connected(much_later).is_empty());
    }
}

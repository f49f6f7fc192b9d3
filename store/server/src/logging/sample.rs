//! How many lines there may be: a flood of the same one is thinned, as zap thins it.
//!
//! Owns: counting. Must not know: what a line says. A newcomer's trap: lines are counted by where
//! they come from in the program, so what a client sends cannot make them differ.

use std::collections::BTreeMap;

use kijabi_base::clock;
use parking_lot::Mutex;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind in a second that are all written, and then one in so many.
const FIRST: u64 = 100;
const THEN_EACH: u64 = 100;

/// Drops what is too much.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    seen: Mutex<BTreeMap<Place, Count>>,
}

/// File and line: there are only so many.
type Place = (&'static str, u32);
/// The second that is counted, and how many lines there were in it.
type Count = (u64, u64);

impl Sampler {
    fn passes(&self, place: Place, second: u64) -> bool {
        let mut seen = self.seen.lock();
        let (when, count) = seen.entry(place).or_default();
        if *when != second {
            (*when, *count) = (second, 0);
        }
        *count += 1;
        *count <= FIRST || (*count - FIRST).is_multiple_of(THEN_EACH)
    }
}

impl<S: Subscriber> Layer<S> for Sampler {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let place = (metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
        self.passes(place, clock::wall_ms() / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_line_is_thinned_and_others_are_not() {
        let sampler = Sampler::default();
        let passed = |place, second| (0..1_000).filter(|_| sampler.passes(place, second)).count();
        assert_eq!(passed(("a", 1), 1), 109);
        assert_eq!(passed(("a", 2), 1), 109);
        assert_eq!(passed(("a", 1), 2), 109);
    }
}

//! Reads that have no place in the order: serializable ones and those of the past.
//!
//! Owns: STALE-1 to STALE-4. Must not know: how the order was found. A newcomer's trap: a
//! serializable read may be old, but it may not be wrong.

use std::collections::BTreeMap;

use super::Violation;
use super::history::{Answer, Entry, Range, Refusal, Request};
use super::timeline::Timeline;

/// Checks all of them.
pub(super) fn check(entries: &[Entry], timeline: &Timeline) -> Vec<Violation> {
    let mut violations = Vec::new();
    // The highest revision each session has shown to each client, in the order of its answers.
    let mut reads: Vec<&Entry> = entries.iter().filter(|entry| entry.returned.is_some()).collect();
    reads.sort_by_key(|entry| entry.returned.as_ref().map(|(time, _)| *time));
    let mut shown: BTreeMap<(u32, u64), (u64, i64)> = BTreeMap::new();
    for entry in reads {
        let Request::Range { range, revision, .. } = &entry.request else { continue };
        let Some((returned, answer)) = &entry.returned else { continue };
        match answer {
            Answer::Range(current, kvs) => {
                let at = if *revision > 0 { *revision } else { *current };
                violations.extend(content(range, at, *current, kvs, *returned, timeline));
                if !entry.serializable() {
                    continue;
                }
                let (since, highest) = shown.entry((entry.client, entry.session)).or_default();
                if *current < *highest && entry.called >= *since {
                    let what = format!("{entry:?} came after one at revision {highest}");
                    violations.push(Violation::new("STALE-3", what));
                }
                if *current > *highest {
                    (*since, *highest) = (*returned, *current);
                }
            }
            Answer::Refused(Refusal::Compacted)
                if *revision >= timeline.compacted_by(*returned) =>
            {
                let what = format!("{entry:?}: nobody compacted that revision");
                violations.push(Violation::new("STALE-4", what));
            }
            _ => {}
        }
    }
    violations
}

/// STALE-1: the answer is the state at its revision. STALE-2: nobody reads what was not yet asked
/// for.
fn content(
    range: &Range,
    at: i64,
    current: i64,
    kvs: &[super::Kv],
    returned: u64,
    timeline: &Timeline,
) -> Option<Violation> {
    if current > timeline.last() {
        let what = format!("revision {current} was read, but the last is {}", timeline.last());
        return Some(Violation::new("STALE-2", what));
    }
    if let Some(revision) = timeline.revision(current)
        && revision.called > returned
    {
        let what = format!("revision {current} was read before it was asked for");
        return Some(Violation::new("STALE-2", what));
    }
    let truth = timeline.read(range, at);
    (truth != kvs).then(|| {
        Violation::new("STALE-1", format!("{range:?} at {at}: {kvs:?}, should be {truth:?}"))
    })
}

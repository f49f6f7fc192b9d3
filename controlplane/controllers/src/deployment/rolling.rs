//! Rolling updates: new pods come and old ones go within what surge and unavailability allow.
//!
//! Owns: how many of which set now. Must not know: conditions. A newcomer's trap: old pods that are
//! not available go first, as they serve nobody; then as many as the available ones can spare.

use super::plan::Pass;
use super::rounding::{max_surge, max_unavailable};
use super::set::{Set, sum};

/// One pass of a rolling update.
pub(crate) fn roll(pass: &mut Pass) {
    let Some(newest) = pass.sets.newest.clone() else {
        let replicas = room_for_new(pass, 0);
        return pass.create(replicas);
    };
    pass.adjust_newest();
    let newest = pass.sets.newest.clone().unwrap_or(newest);
    if grow_newest(pass, &newest) || shrink_old(pass, &newest) {
        return pass.finish();
    }
    pass.clean_if_complete();
    pass.finish();
}

/// The size the newest set, of size `present` now, may have.
fn room_for_new(pass: &Pass, present: i32) -> i32 {
    let replicas = pass.replicas();
    let total = sum(&pass.sets.all(), |set| set.replicas);
    let most = replicas.saturating_add(max_surge(&pass.deployment));
    if total >= most {
        return present;
    }
    present + (most - total).min(replicas - present)
}

fn grow_newest(pass: &mut Pass, newest: &Set) -> bool {
    let replicas = pass.replicas();
    let to = match newest.replicas.cmp(&replicas) {
        std::cmp::Ordering::Equal => return false,
        std::cmp::Ordering::Greater => replicas,
        std::cmp::Ordering::Less => room_for_new(pass, newest.replicas),
    };
    if to == newest.replicas {
        return false;
    }
    pass.scale(newest, to);
    true
}

fn shrink_old(pass: &mut Pass, newest: &Set) -> bool {
    let mut old = pass.sets.old.clone();
    if sum(&old, |set| set.replicas) == 0 {
        return false;
    }
    let before: Vec<i32> = old.iter().map(|set| set.replicas).collect();
    let minimum = pass.replicas() - max_unavailable(&pass.deployment);
    let total = sum(&pass.sets.all(), |set| set.replicas);
    let new_unavailable = newest.replicas - newest.available;
    let spare = total - minimum - new_unavailable;
    if spare <= 0 {
        return false;
    }
    drop_unavailable(&mut old, spare);
    let available = sum(&pass.sets.all(), |set| set.available);
    drop_available(&mut old, available - minimum);
    let mut shrunk = false;
    for (set, was) in old.iter().zip(before) {
        if set.replicas != was {
            shrunk = true;
            let original = Set { replicas: was, ..set.clone() };
            pass.scale(&original, set.replicas);
        }
    }
    shrunk
}

/// Takes pods that serve nobody from old sets, the oldest first.
fn drop_unavailable(old: &mut [Set], mut spare: i32) {
    for set in old {
        let drop = (set.replicas - set.available).clamp(0, spare.max(0));
        set.replicas -= drop;
        spare -= drop;
    }
}

/// Takes pods that can be spared from old sets, the oldest first.
fn drop_available(old: &mut [Set], mut spare: i32) {
    for set in old {
        let drop = set.replicas.min(spare.max(0));
        set.replicas -= drop;
        spare -= drop;
    }
}

//! What digests of several members say together.
//!
//! Owns: the decision. Must not know: how the digests came here. A newcomer's trap: a member
//! cannot trust its own digest more than another's; only what most voters have is right.

use std::collections::BTreeMap;

/// What a comparison says of this member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody who answered has another digest.
    Agree,
    /// Most voters have this member's digest; these ones have not.
    OthersDiffer(Vec<u64>),
    /// Most voters have one digest, and this member another one. These are the ones that are right.
    Odd(Vec<u64>),
    /// There are differences, and too few answers to tell who is right.
    Unclear,
    /// All voters have answered, and no digest has a majority: nobody can tell what is right.
    NoMajority,
}

/// Judges the digests of `others`, by member id, beside the `own` one, in a cluster of `voters`.
pub(super) fn judge(own: u64, others: &[(u64, u64)], voters: usize) -> Verdict {
    if others.iter().all(|(_, digest)| *digest == own) {
        return Verdict::Agree;
    }
    let mut by_digest: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (id, digest) in others {
        by_digest.entry(*digest).or_default().push(*id);
    }
    let like_own = by_digest.remove(&own).unwrap_or_default().len() + 1;
    if like_own > voters / 2 {
        return Verdict::OthersDiffer(by_digest.into_values().flatten().collect());
    }
    if let Some(right) = by_digest.into_values().find(|ids| ids.len() > voters / 2) {
        return Verdict::Odd(right);
    }
    if others.len() + 1 < voters { Verdict::Unclear } else { Verdict::NoMajority }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_of_all_voters_is_right_not_of_those_who_answered() {
        type Case<'a> = (&'a [(u64, u64)], usize, Verdict);
        let cases: [Case<'_>; 10] = [
            (&[], 3, Verdict::Agree),
            (&[(2, 7)], 3, Verdict::Agree),
            (&[(2, 7), (3, 7)], 3, Verdict::Agree),
            (&[(2, 7), (3, 8)], 3, Verdict::OthersDiffer(vec![3])),
            (&[(2, 8), (3, 8)], 3, Verdict::Odd(vec![2, 3])),
            (&[(2, 8)], 3, Verdict::Unclear),
            (&[(2, 8), (3, 9)], 3, Verdict::NoMajority),
            (&[(2, 8)], 2, Verdict::NoMajority),
            (&[(2, 8), (3, 8), (4, 7)], 5, Verdict::Unclear),
            (&[(2, 8), (3, 8), (4, 8), (5, 7)], 5, Verdict::Odd(vec![2, 3, 4])),
        ];
        for (others, voters, expected) in cases {
            assert_eq!(judge(7, others, voters), expected, "{others:?} of {voters}");
        }
    }
}

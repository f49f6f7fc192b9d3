//! The arithmetic of address ranges. Pure.
//!
//! Owns: which /24 is next. Must not know: nodes. A newcomer's trap: a range outside the cluster's, set
//! by hand on a node, takes nothing away from it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Bits of a node's range.
const NODE_BITS: u32 = 24;

/// The cluster's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    base: u32,
    bits: u32,
}

/// Reads `a.b.c.d/n`.
fn parse(text: &str) -> Option<(u32, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    Some((u32::from(address) & mask, bits))
}

// === impl Range ===

impl Range {
    /// Reads the cluster's range; it must have room for one node's at least.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (base, bits) = parse(text)?;
        (bits <= NODE_BITS).then_some(Self { base, bits })
    }

    /// The lowest node range that overlaps none of the taken ones.
    pub(crate) fn next_free<'a>(self, taken: impl Iterator<Item = &'a str>) -> Option<String> {
        let count = 1_u32 << (NODE_BITS - self.bits);
        let size = 1_u32 << (32 - NODE_BITS);
        let mut used = BTreeSet::new();
        for (base, bits) in taken.filter_map(parse) {
            let last = base | (u32::MAX.checked_shr(bits).unwrap_or(0));
            let first = base.max(self.base);
            let end = last.min(self.base + (count * (size - 1)) + count - 1);
            if first <= end {
                used.extend((first - self.base) / size..=(end - self.base) / size);
            }
        }
        let index = (0..count).find(|index| !used.contains(index))?;
        Some(format!("{}/{NODE_BITS}", Ipv4Addr::from(self.base + index * size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_range_is_next() {
        let range = Range::parse("172.16.0.0/16").unwrap();
        for (taken, next) in [
            (&[][..], Some("172.16.0.0/24")),
            (&["172.16.0.0/24", "172.16.2.0/24"][..], Some("172.16.1.0/24")),
            (&["10.0.0.0/24", "nonsense"][..], Some("172.16.0.0/24")),
            (&["172.16.0.0/23"][..], Some("172.16.2.0/24")),
            (&["172.16.0.0/16"][..], None),
            (&["0.0.0.0/0"][..], None),
        ] {
            let free = range.next_free(taken.iter().copied());
            assert_eq!(free.as_deref(), next, "{taken:?}");
        }
    }

    #[test]
    fn all_ranges_are_handed_out_once_and_then_none() {
        let range = Range::parse("172.16.0.0/22").unwrap();
        let mut taken: Vec<String> = Vec::new();
        while let Some(next) = range.next_free(taken.iter().map(String::as_str)) {
            taken.push(next);
        }
        assert_eq!(taken, ["172.16.0.0/24", "172.16.1.0/24", "172.16.2.0/24", "172.16.3.0/24"]);
    }

    #[test]
    fn bad_cluster_ranges() {
        for text in ["", "172.16.0.0", "172.16.0.0/25", "172.16.0.0/40", "x/16", "fd00::/48"] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }
}

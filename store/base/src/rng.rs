//! The one place that draws randomness.
#![allow(clippy::disallowed_methods, reason = "this is the seam")]

use rand::Rng as _;

/// A random positive 63-bit number, as lease ids and member ids are.
pub fn positive_i64() -> i64 {
    rand::rng().random_range(1..=i64::MAX)
}

/// A random number below `bound`; 0 if the bound is 0.
pub fn below(bound: u64) -> u64 {
    if bound == 0 { 0 } else { rand::rng().random_range(0..bound) }
}

/// A random `f64` in `[0, 1)`.
pub fn unit() -> f64 {
    rand::rng().random::<f64>()
}

/// Fills `buffer` with random bytes.
pub fn fill(buffer: &mut [u8]) {
    rand::rng().fill(buffer);
}

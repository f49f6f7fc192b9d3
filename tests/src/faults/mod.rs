//! Members under load and faults, drawn from a seed; what clients saw is then checked.
//!
//! Owns: one run from the first member to the verdict. Must not know: what a right history is;
//! `linear` does. A newcomer's trap: a seed fixes the faults and what clients ask for, not how the
//! processes interleave, so a failing seed may have to be run more than once.

mod cluster;
mod nemesis;
mod proxy;
mod record;
mod run;
mod traffic;
mod watcher;

pub use cluster::{Cluster, Program as ClusterProgram};
pub use run::{Plan, Report, run};

/// A number that is made from the seed, for one purpose.
fn generator(seed: u64, purpose: u64) -> rand::rngs::StdRng {
    use rand::SeedableRng as _;
    rand::rngs::StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose)
}

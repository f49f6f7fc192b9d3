//! What every other crate may use: the seams to time, randomness and tasks, limits, invariants.
//!
//! Owns: the one way to read a clock, draw a random number or start a task, so that a simulator
//! can take their place. Must not know: what is stored or served. A newcomer's trap: the modules
//! [`net`], [`tasks`] and [`clock`]'s monotonic part need the feature `runtime`; pure crates do without.

pub mod clock;
pub mod invariant;
pub mod limits;
#[cfg(feature = "runtime")]
pub mod net;
pub mod rng;
#[cfg(feature = "runtime")]
pub mod tasks;

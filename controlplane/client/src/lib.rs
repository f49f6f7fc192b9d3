//! What the controllers and the scheduler share as ordinary clients of the Kubernetes API.
//!
//! Owns: caches kept up to date by watches, the keyed work queue, leader election by Lease, and
//! the event recorder. Must not know: any controller, or how the apiserver stores anything. A
//! newcomer's trap: a cache may lag behind what this process itself wrote; decide with that in mind.

pub mod cache;
pub mod election;
pub mod events;
pub mod limits;
pub mod queue;
pub mod time;

pub use cache::{Cache, Change, Key};
pub use queue::WorkQueue;
